/* The agent as a daemon: what main.c's tables name. Everything else about the agent's parts is in agent.h. */
#pragma once

#include "agent/agent.h"
#include "common/daemon/daemon.h"

bool agent_start(struct daemon *d, const void *config, void **self, struct err *e) MUST_CHECK;
void agent_drain(void *self);
void agent_stop(void *self);
bool agent_reload(void *self, struct err *e) MUST_CHECK; /* SIGHUP: renews the certificate now */

extern const struct debug_page agent_pages[];
extern const size_t agent_n_pages;

/* ---- envoy_pages.c: Envoy's reading admin pages below /envoy/ on the agent's admin server, which lives longer */
struct envoy_pages *envoy_pages_new(struct loop *l, const struct agent_config *c, struct admin *a);
void envoy_pages_free(struct envoy_pages *p);

/* ---- drain.c: `agent drain`: Envoy drains, and goes on */
int drain_main(int argc, char **argv);

/* ---- wait.c: `agent wait`: until Envoy is ready */
int wait_main(int argc, char **argv);
