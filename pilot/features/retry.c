/*
 * DOC: retries. Without a policy of its own a route has the mesh's (defaultHttpRetryPolicy), else Istio's default: two more attempts
 * for failures that cannot have reached the application; retries go to another host, asked for up to five times. attempts: 0
 * switches retries off. Numbers in retryOn are status codes. Where consistent hashing chooses the host of a rule's only destination,
 * retries stay with it unless the rule says otherwise.
 */
#include "pilot/translate/feature.h"
#include "xds/retry_previous_hosts.pb-c.h"
#include "xds/retry_previous_priorities.pb-c.h"

/* reset-before-request: the upstream closed an idle connection in the moment of its reuse; nothing of the request was sent. */
static const char default_conditions[] = "connect-failure,refused-stream,unavailable,cancelled,reset-before-request";

static void set_conditions(struct arena *a, const char *retry_on, Rds__RetryPolicy *p)
{
	struct str rest = str_of(retry_on), part;
	struct strbuf names cleanup(strbuf_done) = {0};
	bool codes = false;
	uint32_t code;

	while (str_split(&rest, ',', &part)) {
		part = str_trim(part);
		if (!part.len)
			continue;
		if (str_u32(part, 599, &code)) {
			pb_add(a, p, retriable_status_codes, code);
			codes = true;
			continue;
		}
		if (names.len)
			strbuf_addc(&names, ',');
		strbuf_add(&names, part);
	}
	if (codes)
		strbuf_adds(&names, names.len ? ",retriable-status-codes" : "retriable-status-codes");
	p->retry_on = arena_cstr(a, strbuf_str(&names));
}

static void avoid_previous_hosts(struct arena *a, Rds__RetryPolicy *p)
{
	Rds__RetryPolicy__RetryHostPredicate *h = PB_NEW(
		a, Rds__RetryPolicy__RetryHostPredicate, rds__retry_policy__retry_host_predicate);

	h->name = arena_strdup(a, "envoy.retry_host_predicates.previous_hosts");
	h->typed_config = pb_any(
		a, PB_NEW(a, RetryPrevHosts__PreviousHostsPredicate, retry_prev_hosts__previous_hosts_predicate));
	h->config_type_case = RDS__RETRY_POLICY__RETRY_HOST_PREDICATE__CONFIG_TYPE_TYPED_CONFIG;
	pb_add(a, p, retry_host_predicate, h);
	p->host_selection_retry_max_attempts = 5;
}

static void use_other_priorities(struct arena *a, Rds__RetryPolicy *p)
{
	RetryPrevPrio__PreviousPrioritiesConfig *c = PB_NEW(
		a, RetryPrevPrio__PreviousPrioritiesConfig, retry_prev_prio__previous_priorities_config);

	c->update_frequency = 2;
	p->retry_priority = PB_NEW(a, Rds__RetryPolicy__RetryPriority, rds__retry_policy__retry_priority);
	p->retry_priority->name = arena_strdup(a, "envoy.retry_priorities.previous_priorities");
	p->retry_priority->typed_config = pb_any(a, c);
	p->retry_priority->config_type_case = RDS__RETRY_POLICY__RETRY_PRIORITY__CONFIG_TYPE_TYPED_CONFIG;
}

static void from_rule(struct arena *a, const Cfg__HTTPRetry *in, Rds__RetryPolicy *p)
{
	if (!str_empty(in->retry_on)) {
		p->n_retriable_status_codes = 0;
		set_conditions(a, in->retry_on, p);
	}
	p->num_retries = build_u32(a, (uint32_t)in->attempts);
	p->per_try_timeout = build_duration(a, in->per_try_timeout);
	if (in->backoff) {
		p->retry_back_off = PB_NEW(a, Rds__RetryPolicy__RetryBackOff, rds__retry_policy__retry_back_off);
		p->retry_back_off->base_interval = build_duration(a, in->backoff);
	}
	if (bool_or(in->retry_remote_localities, false))
		use_other_priorities(a, p);
}

/* `in`: NULL means Istio's default. */
static bool leaves_previous_hosts(const struct route_context *r, const Cfg__HTTPRetry *in)
{
	if (in && in->retry_ignore_previous_hosts)
		return in->retry_ignore_previous_hosts->value;
	return !(r->rule && r->rule->n_route == 1 && r->action->n_hash_policy);
}

static void retry_route(const struct route_context *r)
{
	const Cfg__HTTPRetry *in = r->rule ? r->rule->retries : NULL;
	Rds__RetryPolicy *p;

	if (!r->action)
		return;
	if (!in)
		in = view_mesh(r->v)->default_http_retry_policy;
	if (in && in->attempts <= 0)
		return;
	p = PB_NEW(r->a, Rds__RetryPolicy, rds__retry_policy);
	p->retry_on = arena_strdup(r->a, default_conditions);
	p->num_retries = build_u32(r->a, 2);
	if (leaves_previous_hosts(r, in))
		avoid_previous_hosts(r->a, p);
	if (in)
		from_rule(r->a, in, p);
	r->action->retry_policy = p;
}

const struct feature retry_feature = {.name = "retry", .on_route = retry_route};
