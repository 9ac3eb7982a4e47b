/*
 * DOC: istio.v1.auth.IstioCertificateService/CreateCertificate. Who calls comes from authn/, what may be asked from ca/policy.c, and the
 * certificate from the signer. The answer has the leaf first and the root last, as Istio's agents expect. A lifetime beyond the maximum is
 * shortened; Istio refuses it (docs/DIFFERENCES.md). A request with the metadata ImpersonatedIdentity is for another than the caller, whom the API
 * server must let have it (kube/node_account.c); what is privileged here is nobody else's to have.
 */
#include <stdlib.h>

#include "ca/ca.pb-c.h"
#include "citadel/ca/policy.h"
#include "citadel/daemon.h"
#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/base/log.h"
#include "common/base/metric.h"
#include "common/mesh/spiffe.h"
#include "common/pb/pb.h"

METRIC(csr_count, COUNTER, "citadel_server_csr_count", "The number of CSRs received by Citadel server");
METRIC(authn_failures, COUNTER, "citadel_server_authentication_failure_count", "The number of authentication failures");
METRIC(parse_errors, COUNTER, "citadel_server_csr_parsing_err_count", "The number of errors when parsing the CSR");
METRIC(id_errors, COUNTER, "citadel_server_id_extraction_err_count",
	"The number of errors when extracting the ID from the CSR");
METRIC(sign_errors, COUNTER, "citadel_server_csr_sign_err_count", "The number of errors when signing the CSR", "error");
METRIC(issued_count, COUNTER, "citadel_server_success_cert_issuance_count", "The number of certificates issued");

/* One call. The stream may close while the signer works. */
struct call {
	struct citadel *c;
	struct grpc_stream *stream; /* NULL: closed */
	struct arena *arena;
	const Ca__IstioCertificateRequest *request;
	struct authn_proof proof;
	const char *id, *by, *peer;
	const char *for_whom; /* whom the API server is asked about */
	bool for_other; /* id is not the caller's */
	bool asked, waiting; /* for the API server or the signer */
};

static void call_free(struct call *k)
{
	arena_free(k->arena);
	free(k);
}

static void refuse(struct call *k, enum grpc_status st, const char *text)
{
	log_warn(&citadel_log, "refused", KV("caller", k->id), KV("peer", k->peer), KV("status", grpc_status_name(st)),
		KV("reason", text));
	if (k->stream)
		grpc_stream_finish(k->stream, st, "%s", text);
}

static void remember(struct call *k, const struct signer_answer *leaf)
{
	struct issuance *i = &k->c->ring[k->c->issued++ % ISSUANCES];
	char expiry[32];
	free(i->id);
	free(i->serial);
	free(i->peer);
	*i = (struct issuance){.id = xstrdup(k->id),
		.serial = xstrndup(leaf->serial_hex.ptr, leaf->serial_hex.len),
		.peer = xstrdup(k->peer),
		.by = k->by,
		.at_ms = clock_wall_ms(),
		.issuer = citadel_issuer(leaf->ca),
		.not_after_ms = leaf->not_after_ms};
	clock_format(leaf->not_after_ms, expiry);
	log_info(&citadel_log, "issued", KV("id", k->id), KV("serial", i->serial), KV("expires", expiry),
		KV("by", k->by), KV("peer", k->peer));
	metric_add(&issued_count, 1);
}

static void respond(struct call *k, const struct signer_answer *leaf)
{
	const struct signer_ca *ca = leaf->ca;
	remember(k, leaf);
	if (!k->stream)
		return;
	Ca__IstioCertificateResponse *r = PB_NEW(
		k->arena, Ca__IstioCertificateResponse, ca__istio_certificate_response);
	char *pem cleanup(free_p) = pki_pem("CERTIFICATE", (const unsigned char *)leaf->der.ptr, leaf->der.len);
	pb_add(k->arena, r, cert_chain, pem);
	for (size_t i = 0; ca->links[i]; i++)
		pb_add(k->arena, r, cert_chain, (char *)ca->links[i]);
	pb_add(k->arena, r, cert_chain, (char *)citadel_roots(k->c));
	struct str bytes = pb_pack(k->arena, r);
	struct buf *b = buf_copy(bytes.ptr, bytes.len);
	grpc_stream_send(k->stream, b);
	buf_unref(b);
	grpc_stream_finish(k->stream, GRPC_OK, "%s", "");
}

static void on_signed(void *ctx, enum signer_result r, const struct signer_answer *a)
{
	static const struct {
		enum grpc_status status;
		const char *label;
	} rows[] = {[SIGNER_REFUSED] = {GRPC_INVALID_ARGUMENT, "CSR_ERROR"},
		[SIGNER_FAILED] = {GRPC_INTERNAL, "CERT_GEN_ERROR"},
		[SIGNER_UNAVAILABLE] = {GRPC_UNAVAILABLE, "CA_NOT_READY"}};
	struct call *k = ctx;
	k->waiting = false;
	if (r == SIGNER_OK) {
		respond(k, a);
	} else {
		metric_add(&sign_errors, 1, rows[r].label);
		refuse(k, rows[r].status, arena_cstr(k->arena, a->why));
	}
	if (!k->stream)
		call_free(k);
}

static uint64_t lifetime_ms(const struct citadel_config *cfg, int64_t asked_s)
{
	if (asked_s <= 0)
		return cfg->default_ttl_ms < cfg->max_ttl_ms ? cfg->default_ttl_ms : cfg->max_ttl_ms;
	return (uint64_t)asked_s > cfg->max_ttl_ms / 1000 ? cfg->max_ttl_ms : (uint64_t)asked_s * 1000;
}

static struct authn_request credentials_of(const struct call *k)
{
	const struct tls_peer *peer = grpc_stream_peer(k->stream);
	return (struct authn_request){.authorization = grpc_stream_header(k->stream, "authorization"),
		.xfcc = grpc_stream_header(k->stream, "x-forwarded-client-cert"),
		.relayed = grpc_stream_header(k->stream, "x-fairlead-relayed"),
		.peer = peer && peer->verified ? peer->spiffe_id : (struct str){0}};
}

static void refuse_caller(struct call *k, const char *why)
{
	metric_add(&authn_failures, 1);
	if (k->c->cluster) /* perhaps with a key that the cluster has since our last look */
		citadel_cluster_refresh_keys(k->c->cluster);
	refuse(k, GRPC_UNAUTHENTICATED, why);
}

/* Who calls is known, and whom the certificate is for. */
static void create(struct call *k, const char *id, const char *by)
{
	struct citadel *c = k->c;
	struct pki_csr csr;
	struct str der = {0};
	struct err e = {0};
	k->id = id;
	k->by = by;
	/* Whether the caller has the key, the signer verifies: once is enough, and it is half of what a certificate costs. */
	if (!pki_csr_der(k->arena, str_of(k->request->csr), &der, &e) || !pki_csr_read(k->arena, der, &csr, &e)) {
		metric_add(&parse_errors, 1);
		refuse(k, GRPC_INVALID_ARGUMENT, e.text);
		return;
	}
	const bool plane = !k->for_other && authn_listed(c->control_plane, str_of(k->id));
	const char *const *dns = plane ? c->own_dns : NULL;
	if (!policy_csr(&csr, k->id, dns, &e)) {
		metric_add(e.kind == ERR_DENIED ? &id_errors : &parse_errors, 1);
		refuse(k, e.kind == ERR_DENIED ? GRPC_PERMISSION_DENIED : GRPC_INVALID_ARGUMENT, e.text);
		return;
	}
	k->waiting = true;
	signer_sign(c->signer, der, k->id, csr.dns, lifetime_ms(c->cfg, k->request->validity_duration), on_signed, k);
}

/* ---- for another than the caller */

#define IMPERSONATED "ImpersonatedIdentity"

static void refuse_other(struct call *k, enum grpc_status st, const char *why)
{
	if (st == GRPC_UNAUTHENTICATED)
		metric_add(&authn_failures, 1);
	refuse(k, st, arena_printf(k->arena, IMPERSONATED ": %s", why));
}

static void on_node(void *ctx, enum node_result result, struct str text)
{
	struct call *k = ctx;
	const char *said = arena_cstr(k->arena, text);
	k->waiting = false;
	if (k->stream && result == NODE_GRANTED) {
		const char *wanted = k->for_whom;
		log_info(&citadel_log, "may have another's certificate", KV("caller", k->id), KV("id", wanted),
			KV("node", said));
		k->for_other = true;
		create(k, wanted, "node-account");
	} else if (k->stream) {
		refuse_other(k, result == NODE_REFUSED ? GRPC_UNAUTHENTICATED : GRPC_UNAVAILABLE, said);
	}
	if (!k->stream && !k->waiting)
		call_free(k);
}

static bool may_ask(const struct call *k, const struct spiffe_id *caller, const struct authn_pod *pod, struct err *e)
{
	const struct citadel *c = k->c;
	const char *account = arena_printf(
		k->arena, STR_FMT "/" STR_FMT, STR_ARG(caller->ns), STR_ARG(caller->service_account));
	if (!c->cluster || !c->cfg->node_accounts || !c->cfg->node_accounts[0])
		return err_set(e, ERR_DENIED, "nobody may ask for another: --trusted-node-accounts is not set");
	if (!authn_listed(c->cfg->node_accounts, str_of(account)))
		return err_set(e, ERR_DENIED, "%s is not among --trusted-node-accounts", account);
	if (!pod->name.len || !pod->uid.len)
		return err_set(e, ERR_DENIED, "the caller shows no token of the cluster that is bound to its pod");
	return true;
}

static bool may_be_had(const struct call *k, const char *id, struct spiffe_id *wanted, struct err *e)
{
	const struct citadel *c = k->c;
	if (!spiffe_parse(str_of(id), wanted, e))
		return false;
	if (!str_eqc(wanted->trust_domain, c->cfg->trust_domain))
		return err_set(e, ERR_DENIED, "\"%s\" is of another trust domain", id);
	/* They may have names of the control plane, and speak for anybody. */
	if (authn_listed(c->control_plane, str_of(id)) || authn_listed(c->authn.forwarders, str_of(id)))
		return err_set(e, ERR_DENIED, "\"%s\" is the control plane's: it asks for itself", id);
	return true;
}

static void for_another(struct call *k, const char *wanted, const struct authn_pod *pod)
{
	struct spiffe_id caller;
	struct node_question q = {.pod = *pod};
	struct err e = {0};
	if (!spiffe_parse(str_of(k->id), &caller, &e) || !may_ask(k, &caller, pod, &e) ||
		!may_be_had(k, wanted, &q.wanted, &e)) {
		refuse_other(k, GRPC_UNAUTHENTICATED, e.text);
		return;
	}
	q.ns = caller.ns;
	q.account = caller.service_account;
	k->for_whom = wanted;
	k->waiting = true;
	citadel_cluster_node(k->c->cluster, &q, on_node, k);
}

/* Who calls is known; the pod is that of its token, where the cluster said so. */
static void serve(struct call *k, const char *id, const char *by, const struct authn_pod *pod)
{
	const Wkt__Struct *m = k->request->metadata;
	k->id = id;
	for (size_t i = 0; m && i < m->n_fields; i++) {
		const Wkt__Value *v = m->fields[i]->value;
		if (!streq(m->fields[i]->key, IMPERSONATED))
			continue;
		if (!v || v->kind_case != WKT__VALUE__KIND_STRING_VALUE)
			refuse_other(k, GRPC_INVALID_ARGUMENT, "is not a string");
		else if (!str_empty(v->string_value))
			for_another(k, v->string_value, pod);
		else
			break;
		return;
	}
	create(k, id, by);
}

/* By the API server's word. What the cluster's keys said must be the same; they count alone when it does not answer. */
static void judge(struct call *k, enum review_result result, struct str text, const struct authn_pod *pod)
{
	struct str ns, name;
	struct spiffe_id parsed;
	struct err e = {0};
	if (result == REVIEW_NO_ANSWER && k->proof.id) {
		serve(k, k->proof.id, k->proof.by, &k->proof.pod);
	} else if (result == REVIEW_NO_ANSWER) {
		metric_add(&authn_failures, 1);
		refuse(k, GRPC_UNAVAILABLE,
			arena_printf(k->arena, "the token cannot be reviewed now: " STR_FMT, STR_ARG(text)));
	} else if (result == REVIEW_BAD || !authn_account(text, &ns, &name)) {
		refuse_caller(k, arena_printf(k->arena, "the caller is not authenticated: token-review: " STR_FMT,
					 STR_ARG(text)));
	} else {
		const char *id = spiffe_format(k->arena, str_of(k->c->cfg->trust_domain), ns, name);
		if (!spiffe_parse(str_of(id), &parsed, &e))
			refuse_caller(k, e.text);
		else if (k->proof.id && !streq(k->proof.id, id))
			refuse_caller(k, "the token says another identity than the API server");
		else
			serve(k, id, "token-review", pod);
	}
}

static void on_reviewed(void *ctx, enum review_result result, struct str text, const struct authn_pod *pod)
{
	struct call *k = ctx;
	k->waiting = false;
	if (k->stream)
		judge(k, result, text, pod);
	if (!k->stream && !k->waiting)
		call_free(k);
}

static void authenticate(struct call *k)
{
	struct citadel *c = k->c;
	const struct authn_request r = credentials_of(k);
	struct err e = {0};
	if (r.authorization.len)
		citadel_refresh_keys(c);
	c->authn.now_ms = clock_wall_ms();
	bool known = authn_caller(k->arena, &c->authn, &r, &k->proof, &e);
	if (citadel_review_wanted(c, &k->proof)) {
		k->waiting = true;
		citadel_cluster_review(c->cluster, authn_bearer(r.authorization), on_reviewed, k);
	} else if (known) {
		serve(k, k->proof.id, k->proof.by, &k->proof.pod);
	} else {
		refuse_caller(k, e.text);
	}
}

static void on_open(struct grpc_stream *s, void *ctx)
{
	struct call *k = xzalloc(sizeof(*k));
	k->c = ctx;
	k->stream = s;
	k->arena = arena_new();
	k->peer = arena_strdup(k->arena, grpc_stream_address(s));
	grpc_stream_set_user(s, k);
}

static void on_message(struct grpc_stream *s, const uint8_t *data, size_t len)
{
	struct call *k = grpc_stream_user(s);
	struct err e = {0};
	if (k->asked)
		return;
	k->asked = true;
	metric_add(&csr_count, 1);
	k->request = PB_UNPACK(k->arena, Ca__IstioCertificateRequest, ca__istio_certificate_request, data, len, &e);
	if (k->request) {
		authenticate(k);
		return;
	}
	metric_add(&parse_errors, 1);
	refuse(k, GRPC_INVALID_ARGUMENT, e.text);
}

static void on_half_close(struct grpc_stream *s)
{
	struct call *k = grpc_stream_user(s);
	if (!k->asked)
		grpc_stream_finish(s, GRPC_INVALID_ARGUMENT, "the call has no request");
}

static void on_close(struct grpc_stream *s, enum grpc_status status, struct str message)
{
	struct call *k = grpc_stream_user(s);
	(void)status;
	(void)message;
	k->stream = NULL;
	if (!k->waiting)
		call_free(k);
}

static const struct grpc_handler handler = {
	.on_open = on_open, .on_message = on_message, .on_half_close = on_half_close, .on_close = on_close};

void api_mount(struct citadel *c)
{
	grpc_server_route(c->server, "/istio.v1.auth.IstioCertificateService/CreateCertificate", &handler, c);
}
