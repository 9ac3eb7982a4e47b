/* The endpoints of one port of a service, as EDS and as the inline assignment of DNS clusters. */
#pragma once

#include "pilot/translate/build.h"
#include "xds/endpoint.pb-c.h"

/* subset NULL: all. Never NULL: without endpoints the assignment is empty. */
Eds__ClusterLoadAssignment *endpoints_for(struct view *v, struct arena *a, const char *name, const Fl__Service *s,
	const Fl__Port *port, const struct rule *r, const Cfg__Subset *subset);
