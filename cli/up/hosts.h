/*
 * Name resolution of machine-local pods: a hosts file per namespace, bound over the pods' /etc/hosts, kept in line with galley's services
 * (topic `service` of the bus) under all the names that a client of the namespace may use. A mesh on one machine has no cluster DNS: in
 * <state>/resolv.conf, bound as well, stands a server that refuses at once.
 */
#pragma once

#include "common/base/err.h"
#include "common/io/loop.h"

struct hosts;

/* bus: address with {role}. Files are <state>/hosts/<namespace>. */
struct hosts *hosts_new(struct loop *l, const char *state, const char *bus, struct err *e) MUST_CHECK;
void hosts_free(struct hosts *h);
/* Makes the namespace's file, so that it can be bound. */
bool hosts_add_namespace(struct hosts *h, const char *ns, struct err *e) MUST_CHECK;
