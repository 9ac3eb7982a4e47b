#include "cfg/networking/workload_group.pb-c.h"
#include "galley/checks/names.h"
#include "galley/checks/policy.h"
#include "galley/checks/values.h"
#include "galley/kind.h"

/*
 * DOC: WorkloadGroup. Its template becomes a WorkloadEntry for each workload that registers itself, which brings the address; so the
 * template has what is common to them, and labels are given in metadata. The probe is Kubernetes' in form and defaults, and normal form
 * has these filled in, so that whoever runs it need not know them.
 */

static void check_scheme(struct check *c, const struct rule *r, const struct pb_place *p)
{
	struct str s = place_str(p);
	if (!str_eqc(s, "HTTP") && !str_eqc(s, "HTTPS"))
		check_error(c, "scheme", r->source, p->path, "\"" STR_FMT "\" is neither HTTP nor HTTPS", STR_ARG(s));
}

static const struct rule rules[] = {
	{"template", NULL, .required = true, .source = "api: WorkloadGroup.template"},
	{"template.ports{}", check_port, .source = "api: WorkloadEntry.ports"},
	{"probe.initialDelaySeconds", check_number, 0, 2147483647, .source = "api: ReadinessProbe"},
	{"probe.timeoutSeconds", check_number, 0, 2147483647, .source = "api: ReadinessProbe"},
	{"probe.periodSeconds", check_number, 0, 2147483647, .source = "api: ReadinessProbe"},
	{"probe.successThreshold", check_number, 0, 2147483647, .source = "api: ReadinessProbe"},
	{"probe.failureThreshold", check_number, 0, 2147483647, .source = "api: ReadinessProbe"},
	{"probe.httpGet.port", check_port, .required = true, .source = "api: HTTPHealthCheckConfig.port"},
	{"probe.httpGet.scheme", check_scheme, .source = "api: HTTPHealthCheckConfig.scheme"},
	{"probe.httpGet.httpHeaders[].name", check_header_name, .required = true, .source = "api: HTTPHeader.name"},
	{"probe.tcpSocket.port", check_port, .required = true, .source = "api: TCPHealthCheckConfig.port"},
	{"probe.grpc.port", check_port, .required = true, .source = "api: GrpcHealthCheckConfig.port"},
	{"probe.exec.command", NULL, .required = true, .source = "api: ExecHealthCheckConfig.command"},
	{"probe.exec.command[]", check_non_empty, .source = "api: ExecHealthCheckConfig.command"},
};

static void template(struct check *c, const Cfg__WorkloadEntry *t)
{
	static const char source[] = "api: WorkloadGroup.template";
	if (!str_empty(t->address))
		check_warn(c, "template-field", source, "spec.template.address",
			"has no effect: a workload that registers brings its own address");
	if (t->n_labels)
		check_warn(c, "template-field", source, "spec.template.labels", "labels belong into spec.metadata");
	check_labels(c, LABEL_VIEW(t, labels), "spec.template.labels", source);
	for (size_t i = 0; i < t->n_ports; i++)
		if (!name_is_label(str_of(t->ports[i]->key)))
			check_error(c, "port-name", "api: WorkloadEntry.ports", "spec.template.ports",
				"port name \"%s\" is not a DNS label", t->ports[i]->key);
}

static void validate(struct check *c, const void *message)
{
	const Cfg__WorkloadGroup *g = message;
	if (g->template_)
		template(c, g->template_);
	if (g->metadata)
		check_labels(c, LABEL_VIEW(g->metadata, labels), "spec.metadata.labels", "api: WorkloadGroup.metadata");
	if (g->probe && g->probe->health_check_method_case == CFG__READINESS_PROBE__HEALTH_CHECK_METHOD__NOT_SET)
		check_error(c, "probe-method", "api: ReadinessProbe", "spec.probe",
			"needs one of httpGet, tcpSocket, exec, grpc");
}

static void text_default(struct normal *n, char **text, const char *value)
{
	if (str_empty(*text))
		*text = arena_strdup(n->arena, value);
}

static void number_default(int32_t *number, int32_t value)
{
	if (*number == 0)
		*number = value;
}

static void normalise(struct normal *n, void *message)
{
	const Cfg__WorkloadGroup *g = message;
	Cfg__ReadinessProbe *p = g->probe;
	if (!p)
		return;
	number_default(&p->timeout_seconds, 1);
	number_default(&p->period_seconds, 10);
	number_default(&p->success_threshold, 1);
	number_default(&p->failure_threshold, 3);
	if (p->health_check_method_case == CFG__READINESS_PROBE__HEALTH_CHECK_METHOD_HTTP_GET) {
		text_default(n, &p->http_get->scheme, "HTTP");
		text_default(n, &p->http_get->path, "/");
	}
}

extern const struct kind_ops workload_group_ops;
const struct kind_ops workload_group_ops = {RULES(rules), .validate = validate, .normalise = normalise};
