/* Questions about Secrets and ConfigMaps, and about who may have them. NULL: there is none, or the proxies of the scope may not have it. */
#pragma once

#include "pilot/model/query.h"

/* For proxies that have proved to be of the namespace; empty: whichever that is. */
const Fl__Credential *view_secret(struct view *v, struct str ns, struct str name);
/* For all that have proved to be of any namespace. */
const Fl__Credential *view_config_map(struct view *v, struct str ns, struct str name);
/* The Secret's key is withheld from the proxies of the scope, since their account may not list the Secrets of their namespace. */
bool view_withheld(const struct view *v, const Fl__Credential *secret);
/* What the API server said of the account of a proxy; NULL: nothing. */
const Fl__Access *view_access(struct view *v, const struct proxy *p);
