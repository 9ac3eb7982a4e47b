/*
 * Asking the application one question (probe_spec.h): by HTTP, TCP, gRPC or a command. Each question ends once: by the answer, by its time, or
 * with the prober. Owner thread: the loop's.
 */
#pragma once

#include "agent/probe.h"

struct prober;

/* `status` as in HTTP: 200..399 is success. Not called inside prober_ask(). */
typedef void (*prober_done)(void *ctx, unsigned status, struct str text);

struct prober *prober_new(struct loop *l);
void prober_free(struct prober *p); /* what is under way fails */
/* `spec` must live until the answer. user_agent NULL: kube-probe/1.0. */
void prober_ask(struct prober *p, const struct probe_spec *spec, const char *user_agent, prober_done done, void *ctx);
size_t prober_busy(const struct prober *p); /* questions under way */
