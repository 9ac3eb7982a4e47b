/*
 * Keeps clientConfig.caBundle of our webhook configurations equal to the roots that sign our certificate: at the start, when the roots change,
 * and when somebody applies the configuration again without it. Nothing else of them is touched: failurePolicy and selectors are the chart's,
 * which lets the API server go on (Ignore) when no galley answers; what slips in then is quarantined by the source.
 */
#pragma once

#include "common/kube/kube.h"

struct registrar;

struct registrar *registrar_new(
	struct loop *l, const struct kube_options *api, const char *const *configurations, struct err *e) MUST_CHECK;
void registrar_free(struct registrar *r);
void registrar_set_roots(struct registrar *r, struct str roots_pem);
void registrar_debug(const struct registrar *r, struct strbuf *json);
