/* DOC: Whatever ISTIO_KUBE_APP_PROBERS says: an error with a reason, or specs of which each can be sent: one line, a port, a time. */
#include <stdlib.h>

#include "agent/probe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must_be_line(const char *s)
{
	for (; s && *s; s++)
		if ((unsigned char)*s < 0x20)
			abort();
}

static void check(const struct probe_spec *p)
{
	for (char **h = p->headers; h && *h; h++)
		must_be_line(*h);
	must_be_line(p->url);
	if (!p->timeout_ms || !p->path || (p->kind == PROBE_HTTP ? !p->url : !p->target))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct probe_specs specs;
	struct err e = {0};
	char *text = xstrndup((const char *)data, size);
	(void)probe_health_is_serving(str_n(data, size));
	if (probe_specs_parse(text, size % 2 ? "10.0.0.1" : "fd00::1", &specs, &e)) {
		for (size_t i = 0; i < specs.len; i++)
			check(&specs.items[i]);
		probe_specs_done(&specs);
	} else if (!*e.text) {
		abort();
	}
	e = (struct err){0};
	struct readiness *r = NULL;
	if (readiness_parse(text, "10.0.0.1", &r, &e) ? r && (!r->spec.timeout_ms || !r->success || !r->failure)
						      : !*e.text)
		abort();
	readiness_free(r);
	free(text);
	return 0;
}
