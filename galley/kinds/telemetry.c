#include "cfg/telemetry.pb-c.h"
#include "galley/checks/names.h"
#include "galley/checks/policy.h"
#include "galley/checks/values.h"
#include "galley/kind.h"

/*
 * DOC: Telemetry. Providers are named; tags have a value exactly when they are set rather than removed; percentages are percentages.
 * More than one tracing rule or tracing provider is accepted with a warning, because only the first is used.
 */

static const struct rule rules[] = {
	{"tracing[].providers[].name", NULL, .required = true, .source = "api: ProviderRef.name"},
	{"tracing[].randomSamplingPercentage", check_wrapped, 0, 100,
		.source = "api: Tracing.randomSamplingPercentage"},
	{"tracing[].customTags{}.literal.value", NULL, .required = true, .source = "api: Tracing.Literal.value"},
	{"tracing[].customTags{}.environment.name", NULL, .required = true, .source = "api: Tracing.Environment.name"},
	{"tracing[].customTags{}.header.name", NULL, .required = true, .source = "api: Tracing.RequestHeader.name"},
	{"tracing[].customTags{}.formatter.value", NULL, .required = true, .source = "api: Tracing.Formatter.value"},
	{"metrics[].providers[].name", NULL, .required = true, .source = "api: ProviderRef.name"},
	{"metrics[].reportingInterval", check_duration, 1, 0, .source = "api: Metrics.reportingInterval"},
	{"accessLogging[].providers[].name", NULL, .required = true, .source = "api: ProviderRef.name"},
	{"accessLogging[].filter.expression", NULL, .required = true, .source = "api: AccessLogging.Filter.expression"},
};

static void tags(struct check *c, const Tele__MetricsOverrides *o, const char *path)
{
	static const char source[] = "api: MetricsOverrides.TagOverride";
	for (size_t i = 0; i < o->n_tag_overrides; i++) {
		const Tele__MetricsOverrides__TagOverridesEntry *e = o->tag_overrides[i];
		const char *at = path_at(c, "%s.tagOverrides[\"%s\"]", path, e->key);
		bool removed = e->value &&
			       e->value->operation == TELE__METRICS_OVERRIDES__TAG_OVERRIDE__OPERATION__REMOVE;
		bool value = e->value && !str_empty(e->value->value);
		if (str_empty(e->key))
			check_error(c, "tag-name", source, path_at(c, "%s.tagOverrides", path), "a tag needs a name");
		else if (removed == value)
			check_error(c, "tag-value", source, at,
				removed ? "a tag that is removed has no value" : "a tag that is set needs a value");
	}
}

static void metrics(struct check *c, const Tele__Metrics *m, size_t i)
{
	for (size_t k = 0; k < m->n_overrides; k++) {
		const Tele__MetricsOverrides *o = m->overrides[k];
		const char *path = path_at(c, "spec.metrics[%zu].overrides[%zu]", i, k);
		tags(c, o, path);
		if (o->match && o->match->metric_match_case == TELE__METRIC_SELECTOR__METRIC_MATCH_CUSTOM_METRIC &&
			str_empty(o->match->custom_metric))
			check_error(c, "required", "api: MetricSelector.customMetric",
				path_at(c, "%s.match.customMetric", path), "must not be empty");
	}
}

static void tracing(struct check *c, const Tele__Tracing *t, size_t i)
{
	if (t->n_providers > 1)
		check_warn(c, "tracing-single", "api: Tracing.providers", path_at(c, "spec.tracing[%zu].providers", i),
			"only one provider is used, the first");
	for (size_t k = 0; k < t->n_custom_tags; k++) {
		const Tele__Tracing__CustomTagsEntry *e = t->custom_tags[k];
		if (str_empty(e->key))
			check_error(c, "tag-name", "api: Tracing.customTags",
				path_at(c, "spec.tracing[%zu].customTags", i), "a tag needs a name");
		else if (!e->value || e->value->type_case == TELE__TRACING__CUSTOM_TAG__TYPE__NOT_SET)
			check_error(c, "tag-value", "api: Tracing.CustomTag",
				path_at(c, "spec.tracing[%zu].customTags[\"%s\"]", i, e->key),
				"needs one of literal, environment, header, formatter");
	}
}

static void validate(struct check *c, const void *message)
{
	const Tele__Telemetry *t = message;
	const struct attachment a = ATTACHMENT(t);
	check_attachment(c, &a, "api: Telemetry.selector");
	if (t->n_tracing > 1)
		check_warn(
			c, "tracing-single", "api: Telemetry.tracing", "spec.tracing", "only one is used, the first");
	for (size_t i = 0; i < t->n_tracing; i++)
		tracing(c, t->tracing[i], i);
	for (size_t i = 0; i < t->n_metrics; i++)
		metrics(c, t->metrics[i], i);
}

extern const struct kind_ops telemetry_ops;
const struct kind_ops telemetry_ops = {RULES(rules), .validate = validate, .not_applied = true};
