#include "cfg/proxy_config.pb-c.h"
#include "galley/checks/names.h"
#include "galley/checks/policy.h"
#include "galley/checks/values.h"
#include "galley/kind.h"

/* DOC: ProxyConfig: what is different for the proxies of some workloads; injection reads it. Whole numbers of threads, values of bounded length. */

static const struct rule rules[] = {
	{"concurrency", check_wrapped, 0, 2147483647, .source = "api: ProxyConfig.concurrency"},
	{"environmentVariables{}", check_length, .max = 2048, .source = "api: ProxyConfig.environmentVariables"},
};

static void validate(struct check *c, const void *message)
{
	const CfgBeta__ProxyConfig *p = message;
	if (p->selector)
		check_selector(c, LABEL_VIEW(p->selector, match_labels), "spec.selector.matchLabels",
			"api: ProxyConfig.selector");
	for (size_t i = 0; i < p->n_environment_variables; i++)
		if (str_empty(p->environment_variables[i]->key))
			check_error(c, "required", "api: ProxyConfig.environmentVariables", "spec.environmentVariables",
				"a variable needs a name");
}

extern const struct kind_ops proxy_config_ops;
const struct kind_ops proxy_config_ops = {RULES(rules), .validate = validate};
