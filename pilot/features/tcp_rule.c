/*
 * DOC: What a destination rule says of TCP and TLS traffic to its host: hashing by source address, idle timeout and lifetime of
 * connections, and a tunnel through the host to another. The rule is that of the (first) cluster; Envoy has one setting for a proxy of
 * several.
 */
#include "pilot/translate/cluster_policy.h"
#include "pilot/translate/feature.h"
#include "pilot/translate/names.h"

static void hash_by_source(struct arena *a, const Cfg__LoadBalancerSettings *b, Tcp__TcpProxy *tcp)
{
	const Cfg__LoadBalancerSettings__ConsistentHashLB *h =
		b && b->lb_policy_case == CFG__LOAD_BALANCER_SETTINGS__LB_POLICY_CONSISTENT_HASH ? b->consistent_hash
												 : NULL;
	Type__HashPolicy *p;

	if (!h || h->hash_key_case != CFG__LOAD_BALANCER_SETTINGS__CONSISTENT_HASH_LB__HASH_KEY_USE_SOURCE_IP ||
		!h->use_source_ip)
		return;
	p = PB_NEW(a, Type__HashPolicy, type__hash_policy);
	p->source_ip = PB_NEW(a, Type__HashPolicy__SourceIp, type__hash_policy__source_ip);
	p->policy_specifier_case = TYPE__HASH_POLICY__POLICY_SPECIFIER_SOURCE_IP;
	pb_add(a, tcp, hash_policy, p);
}

static void tunnel_through(struct arena *a, const Cfg__TrafficPolicy__TunnelSettings *t, Tcp__TcpProxy *tcp)
{
	if (!t)
		return;
	tcp->tunneling_config = PB_NEW(a, Tcp__TcpProxy__TunnelingConfig, tcp__tcp_proxy__tunneling_config);
	tcp->tunneling_config->hostname = arena_printf(a, "%s:%u", t->target_host, t->target_port);
	tcp->tunneling_config->use_post = streq(t->protocol, "POST");
}

static void tcp_rule_tcp(const struct chain *c, Tcp__TcpProxy *tcp)
{
	bool one = tcp->cluster_specifier_case == TCP__TCP_PROXY__CLUSTER_SPECIFIER_CLUSTER;
	const char *name = one ? tcp->cluster : tcp->weighted_clusters->clusters[0]->name;
	struct traffic_policy p;
	struct cluster_name parsed;
	const Fl__Service *s;
	struct rule rule;

	if (c->direction == DIRECTION_INBOUND || !cluster_name_parse(str_of(name), &parsed))
		return;
	s = view_service(c->v, parsed.host);
	rule = view_rule(c->v, Q_DR_HOST, parsed.host, s ? str_of(s->namespace_) : (struct str){0});
	p = policy_resolve(view_mesh(c->v), rule.policy, parsed.subset.len ? rule_subset(&rule, parsed.subset) : NULL,
		parsed.port);
	hash_by_source(c->a, p.balancer, tcp);
	tunnel_through(c->a, p.tunnel, tcp);
	if (p.pool && p.pool->tcp) {
		tcp->idle_timeout = build_duration(c->a, p.pool->tcp->idle_timeout);
		tcp->max_downstream_connection_duration = build_duration(c->a, p.pool->tcp->max_connection_duration);
	}
}

const struct feature tcp_rule_feature = {.name = "tcp_rule", .on_tcp = tcp_rule_tcp};
