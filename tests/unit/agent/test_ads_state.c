/*
 * DOC: The middle of an ADS stream, driven by messages: what pilot is told, what Envoy is answered without pilot, what is kept on disk.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/ads_state.h"
#include "common/io/file.h"
#include "common/pb/pb.h"

#define CDS "type.googleapis.com/envoy.config.cluster.v3.Cluster"
#define EDS "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"

struct fixture {
	struct arena *a;
	struct ads_state *s;
};

static int setup(void **state)
{
	struct fixture *f = xzalloc(sizeof(*f));
	f->a = arena_new();
	f->s = ads_state_new();
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	ads_state_free(f->s);
	arena_free(f->a);
	free(f);
	return 0;
}

/* "a=1 b=2": names with versions; without "=" the version is "". */
static void each_pair(struct arena *a, const char *list, void (*fn)(struct arena *, void *, char *, char *), void *ctx)
{
	struct str rest = str_of(list), word, name, version;
	while (str_split(&rest, ' ', &word)) {
		(void)str_cut(word, '=', &name, &version);
		if (name.len)
			fn(a, ctx, arena_cstr(a, name), arena_cstr(a, version));
	}
}

static void add_resource(struct arena *a, void *ctx, char *name, char *version)
{
	Ads__DeltaDiscoveryResponse *r = ctx;
	Ads__Resource *item = PB_NEW(a, Ads__Resource, ads__resource);
	item->name = name;
	item->version = version;
	item->resource = PB_NEW(a, Wkt__Any, wkt__any);
	item->resource->type_url = r->type_url;
	pb_add(a, r, resources, item);
}

static void add_removed(struct arena *a, void *ctx, char *name, char *version)
{
	Ads__DeltaDiscoveryResponse *r = ctx;
	pb_add(a, r, removed_resources, name);
}

static void add_subscribe(struct arena *a, void *ctx, char *name, char *version)
{
	Ads__DeltaDiscoveryRequest *r = ctx;
	pb_add(a, r, resource_names_subscribe, name);
}

static void add_unsubscribe(struct arena *a, void *ctx, char *name, char *version)
{
	Ads__DeltaDiscoveryRequest *r = ctx;
	pb_add(a, r, resource_names_unsubscribe, name);
}

static void add_initial(struct arena *a, void *ctx, char *name, char *version)
{
	Ads__DeltaDiscoveryRequest *r = ctx;
	Ads__DeltaDiscoveryRequest__InitialResourceVersionsEntry *entry = PB_NEW(a,
		Ads__DeltaDiscoveryRequest__InitialResourceVersionsEntry,
		ads__delta_discovery_request__initial_resource_versions_entry);
	entry->key = name;
	entry->value = version;
	pb_add(a, r, initial_resource_versions, entry);
}

/* Strings that are NULL stand for nothing. */
struct ask {
	const char *type, *subscribe, *unsubscribe, *holds, *nonce, *refused;
};

/* What pilot is told, as "+a +b -c nonce=n error=e holds=x:1,y:"; "" when nothing. */
static const char *describe(struct arena *a, struct str packed)
{
	struct strbuf out = {0};
	struct err e = {0};
	if (!packed.len)
		return "";
	const Ads__DeltaDiscoveryRequest *r = PB_UNPACK(
		a, Ads__DeltaDiscoveryRequest, ads__delta_discovery_request, packed.ptr, packed.len, &e);
	assert_non_null(r);
	strbuf_adds(&out, streq(r->type_url, CDS) ? "cds" : streq(r->type_url, EDS) ? "eds" : r->type_url);
	for (size_t i = 0; i < r->n_resource_names_subscribe; i++)
		strbuf_addf(&out, " +%s", r->resource_names_subscribe[i]);
	for (size_t i = 0; i < r->n_resource_names_unsubscribe; i++)
		strbuf_addf(&out, " -%s", r->resource_names_unsubscribe[i]);
	for (size_t i = 0; i < r->n_initial_resource_versions; i++)
		strbuf_addf(
			&out, " %s:%s", r->initial_resource_versions[i]->key, r->initial_resource_versions[i]->value);
	if (!str_empty(r->response_nonce))
		strbuf_addf(&out, " nonce=%s", r->response_nonce);
	if (r->error_detail)
		strbuf_addf(&out, " error=%s", r->error_detail->message);
	if (r->node)
		strbuf_addf(&out, " node=%s", r->node->id);
	const char *text = arena_str(a, strbuf_str(&out)).ptr;
	strbuf_done(&out);
	return text;
}

static const char *ask(struct fixture *f, struct ask q)
{
	Ads__DeltaDiscoveryRequest *r = PB_NEW(f->a, Ads__DeltaDiscoveryRequest, ads__delta_discovery_request);
	r->type_url = arena_strdup(f->a, q.type);
	each_pair(f->a, q.subscribe, add_subscribe, r);
	each_pair(f->a, q.unsubscribe, add_unsubscribe, r);
	each_pair(f->a, q.holds, add_initial, r);
	if (q.nonce)
		r->response_nonce = arena_strdup(f->a, q.nonce);
	if (q.refused) {
		r->error_detail = PB_NEW(f->a, Rpc__Status, rpc__status);
		r->error_detail->message = arena_strdup(f->a, q.refused);
	}
	return describe(f->a, ads_state_request(f->s, r, f->a));
}

static bool pilot_sends(
	struct fixture *f, const char *type, const char *nonce, const char *resources, const char *removed)
{
	Ads__DeltaDiscoveryResponse *r = PB_NEW(f->a, Ads__DeltaDiscoveryResponse, ads__delta_discovery_response);
	r->type_url = arena_strdup(f->a, type);
	r->nonce = arena_strdup(f->a, nonce);
	each_pair(f->a, resources, add_resource, r);
	each_pair(f->a, removed, add_removed, r);
	return ads_state_response(f->s, r);
}

/* A response that Envoy accepts. */
static void given(struct fixture *f, const char *type, const char *nonce, const char *resources, const char *removed)
{
	assert_true(pilot_sends(f, type, nonce, resources, removed));
	assert_string_not_equal(ask(f, (struct ask){.type = type, .nonce = nonce}), "");
}

static const char *resume(struct fixture *f)
{
	struct str *messages = NULL;
	struct strbuf out = {0};
	Core__Node *node = PB_NEW(f->a, Core__Node, core__node);
	node->id = arena_strdup(f->a, "n");
	size_t n = ads_state_resume(f->s, node, f->a, &messages);
	for (size_t i = 0; i < n; i++)
		strbuf_addf(&out, "%s%s", i ? "; " : "", describe(f->a, messages[i]));
	const char *text = out.len ? arena_str(f->a, strbuf_str(&out)).ptr : "";
	strbuf_done(&out);
	return text;
}

/* "nonce: a=1 b=2", or "" */
static const char *answer(struct fixture *f, const char *type)
{
	struct str packed = ads_state_answer(f->s, type, f->a);
	struct strbuf out = {0};
	if (!packed.len)
		return "";
	const Ads__DeltaDiscoveryResponse *r = PB_UNPACK(
		f->a, Ads__DeltaDiscoveryResponse, ads__delta_discovery_response, packed.ptr, packed.len, NULL);
	assert_non_null(r);
	strbuf_addf(&out, "%s:", r->nonce);
	for (size_t i = 0; i < r->n_resources; i++)
		strbuf_addf(&out, " %s=%s", r->resources[i]->name, r->resources[i]->version);
	const char *text = arena_str(f->a, strbuf_str(&out)).ptr;
	strbuf_done(&out);
	return text;
}

/* The last good configuration in another state, as after a restart of the agent. */
static void restart_agent(struct fixture *f)
{
	struct strbuf file = {0};
	struct err e = {0};
	ads_state_encode(f->s, &file);
	ads_state_free(f->s);
	f->s = ads_state_new();
	if (!ads_state_decode(f->s, strbuf_str(&file), &e))
		fail_msg("%s", e.text);
	strbuf_done(&file);
}

static void A07_first_requests_go_to_pilot_and_acknowledgements_follow(void **state)
{
	struct fixture *f = *state;
	assert_string_equal(ask(f, (struct ask){.type = CDS}), "cds");
	assert_string_equal(ask(f, (struct ask){.type = EDS, .subscribe = "x y"}), "eds +x +y");
	assert_true(pilot_sends(f, CDS, "1", "a=1", NULL));
	assert_string_equal(ask(f, (struct ask){.type = CDS, .nonce = "1"}), "cds nonce=1");
	assert_string_equal(ask(f, (struct ask){.type = EDS, .subscribe = "z", .unsubscribe = "x"}), "eds +z -x");
	assert_string_equal(ask(f, (struct ask){.type = "other"}), "other");
}

static void A07_resume_lists_what_envoy_wants_and_holds(void **state)
{
	struct fixture *f = *state;
	assert_string_equal(resume(f), "");
	(void)ask(f, (struct ask){.type = CDS});
	(void)ask(f, (struct ask){.type = EDS, .subscribe = "x y"});
	given(f, CDS, "1", "a=1 b=1", NULL);
	given(f, EDS, "2", "x=7", NULL);
	given(f, CDS, "3", "a=2", "b");
	ads_state_upstream_lost(f->s);
	assert_string_equal(resume(f), "cds a:2 node=n; eds +x +y x:7");
	(void)ask(f, (struct ask){.type = CDS, .subscribe = "extra"});
	assert_string_equal(resume(f), "cds +* +extra a:2 node=n; eds +x +y x:7");
}

static void A07_refusal_goes_to_pilot_and_leaves_doubt(void **state)
{
	struct fixture *f = *state;
	(void)ask(f, (struct ask){.type = CDS});
	given(f, CDS, "1", "a=1", NULL);
	assert_true(pilot_sends(f, CDS, "2", "a=2 b=1", NULL));
	assert_string_equal(ask(f, (struct ask){.type = CDS, .nonce = "2", .refused = "bad"}), "cds nonce=2 error=bad");
	assert_string_equal(resume(f), "cds a: b: node=n");
	ads_state_stream_opened(f->s);
	(void)ask(f, (struct ask){.type = CDS});
	assert_string_equal(answer(f, CDS), "agent-1: a=1");
}

static void A07_nonces_of_a_lost_stream_stay_here(void **state)
{
	struct fixture *f = *state;
	(void)ask(f, (struct ask){.type = CDS});
	given(f, CDS, "1", "a=1 c=1", NULL);
	assert_true(pilot_sends(f, CDS, "2", "a=2", "c"));
	ads_state_upstream_lost(f->s);
	assert_string_equal(resume(f), "cds a: c: node=n");
	/* The late acknowledgement settles it, and pilot's new stream, which may use the same nonce, does not hear of it. */
	assert_true(pilot_sends(f, CDS, "2", "b=1", NULL));
	assert_string_equal(ask(f, (struct ask){.type = CDS, .nonce = "2"}), "");
	assert_string_equal(ask(f, (struct ask){.type = CDS, .nonce = "2"}), "cds nonce=2");
	assert_string_equal(resume(f), "cds a:2 b:1 node=n");
	assert_string_equal(ask(f, (struct ask){.type = CDS, .nonce = "stale"}), "");
	assert_string_equal(ask(f, (struct ask){.type = CDS, .nonce = "stale", .subscribe = "q"}), "cds +q");
}

static void A07_too_many_unanswered_responses(void **state)
{
	struct fixture *f = *state;
	(void)ask(f, (struct ask){.type = CDS});
	size_t n = 0;
	while (n < 100000 && pilot_sends(f, CDS, "1", NULL, NULL))
		n++;
	assert_int_equal(n, 256);
	assert_string_equal(ask(f, (struct ask){.type = CDS, .nonce = "1"}), "cds nonce=1");
	assert_true(pilot_sends(f, CDS, "1", NULL, NULL));
}

static void A07_more_types_than_are_kept_still_pass(void **state)
{
	struct fixture *f = *state;
	for (int i = 0; i < 40; i++)
		assert_string_not_equal(ask(f, (struct ask){.type = arena_printf(f->a, "type-%d", i)}), "");
	assert_string_equal(ask(f, (struct ask){.type = "type-39", .nonce = "7"}), "type-39 nonce=7");
	assert_true(pilot_sends(f, "type-39", "8", "a=1", NULL));
	assert_string_equal(answer(f, "type-39"), "");
}

static void A19_starting_envoy_gets_what_was_accepted(void **state)
{
	struct fixture *f = *state;
	(void)ask(f, (struct ask){.type = CDS});
	(void)ask(f, (struct ask){.type = EDS, .subscribe = "x y"});
	given(f, CDS, "1", "a=1 b=1", NULL);
	given(f, EDS, "2", "x=1 y=1", NULL);
	assert_true(pilot_sends(f, CDS, "3", "c=1", NULL)); /* never acknowledged */
	restart_agent(f);
	assert_string_equal(answer(f, CDS), "");
	(void)ask(f, (struct ask){.type = CDS});
	assert_true(ads_state_starved(f->s));
	assert_string_equal(answer(f, CDS), "agent-1: a=1 b=1");
	assert_false(ads_state_starved(f->s));
	assert_string_equal(answer(f, CDS), "");
	assert_string_equal(ask(f, (struct ask){.type = CDS, .nonce = "agent-1"}), "");
	assert_string_equal(answer(f, CDS), "");
	(void)ask(f, (struct ask){.type = EDS, .subscribe = "y"});
	assert_string_equal(answer(f, EDS), "agent-2: y=1");
	assert_string_equal(ask(f, (struct ask){.type = EDS, .subscribe = "x", .nonce = "agent-2"}), "eds +x");
	assert_string_equal(answer(f, EDS), "agent-3: x=1");
	assert_string_equal(ask(f, (struct ask){.type = EDS, .nonce = "agent-3"}), "");
	assert_false(ads_state_dirty(f->s));
	assert_string_equal(resume(f), "cds a:1 b:1 node=n; eds +y +x y:1 x:1");
}

static void A19_nothing_known_is_no_answer_but_known_to_be_empty_is(void **state)
{
	struct fixture *f = *state;
	(void)ask(f, (struct ask){.type = CDS});
	assert_false(ads_state_starved(f->s));
	assert_false(ads_state_has_content(f->s));
	assert_string_equal(answer(f, CDS), "");
	given(f, CDS, "1", NULL, NULL);
	assert_true(ads_state_dirty(f->s));
	restart_agent(f);
	(void)ask(f, (struct ask){.type = CDS});
	assert_true(ads_state_starved(f->s));
	assert_string_equal(answer(f, CDS), "agent-1:");
	(void)ask(f, (struct ask){.type = EDS, .subscribe = "x"});
	assert_string_equal(answer(f, EDS), "");
}

static void A19_own_answer_that_is_refused_is_not_pilots_matter(void **state)
{
	struct fixture *f = *state;
	(void)ask(f, (struct ask){.type = CDS});
	given(f, CDS, "1", "a=1", NULL);
	restart_agent(f);
	(void)ask(f, (struct ask){.type = CDS});
	assert_string_equal(answer(f, CDS), "agent-1: a=1");
	assert_string_equal(ask(f, (struct ask){.type = CDS, .nonce = "agent-1", .refused = "bad"}), "");
	assert_string_equal(resume(f), "cds a: node=n");
}

static void A19_newer_resources_of_an_envoy_that_stayed_are_kept_and_asked_for(void **state)
{
	struct fixture *f = *state;
	(void)ask(f, (struct ask){.type = CDS});
	given(f, CDS, "1", "a=1 b=1 gone=1", NULL);
	restart_agent(f);
	assert_string_equal(ask(f, (struct ask){.type = CDS, .holds = "a=2 b=1 new=1"}), "cds a: b:1 new:");
	assert_false(ads_state_starved(f->s));
	assert_string_equal(answer(f, CDS), "");
	assert_true(ads_state_dirty(f->s));
	given(f, CDS, "1", "a=2", "new");
	restart_agent(f);
	(void)ask(f, (struct ask){.type = CDS});
	assert_string_equal(answer(f, CDS), "agent-1: a=2 b=1");
}

static void A19_what_pilot_no_longer_has_leaves_with_the_first_whole_answer(void **state)
{
	struct fixture *f = *state;
	(void)ask(f, (struct ask){.type = CDS});
	given(f, CDS, "1", "a=1 b=1", NULL);
	ads_state_stream_opened(f->s);
	ads_state_upstream_lost(f->s);
	assert_string_equal(ask(f, (struct ask){.type = CDS}), "cds");
	given(f, CDS, "1", "b=1", NULL);
	given(f, CDS, "2", "c=1", NULL); /* a part only */
	restart_agent(f);
	(void)ask(f, (struct ask){.type = CDS});
	assert_string_equal(answer(f, CDS), "agent-1: b=1 c=1");
}

static void A19_unsubscribed_names_are_forgotten(void **state)
{
	struct fixture *f = *state;
	(void)ask(f, (struct ask){.type = EDS, .subscribe = "x y z"});
	given(f, EDS, "1", "x=1 y=1", NULL);
	assert_true(pilot_sends(f, EDS, "2", "z=1", NULL));
	assert_string_equal(ask(f, (struct ask){.type = EDS, .unsubscribe = "x z"}), "eds -x -z");
	(void)ask(f, (struct ask){.type = EDS, .nonce = "2"});
	assert_string_equal(resume(f), "eds +y y:1 node=n");
	restart_agent(f);
	(void)ask(f, (struct ask){.type = EDS, .subscribe = "x y z"});
	assert_string_equal(answer(f, EDS), "agent-1: y=1");
}

static void A19_only_changes_are_written(void **state)
{
	struct fixture *f = *state;
	char folder[] = "/tmp/ads-state-XXXXXX";
	struct err e = {0};
	assert_non_null(mkdtemp(folder));
	char *path = xasprintf("%s/cache", folder);
	(void)ask(f, (struct ask){.type = CDS});
	assert_false(ads_state_dirty(f->s));
	given(f, CDS, "1", "a=1", NULL);
	assert_true(ads_state_dirty(f->s));
	assert_true(ads_state_save(f->s, path, &e));
	assert_false(ads_state_dirty(f->s));
	given(f, CDS, "2", "a=1", "b");
	assert_false(ads_state_dirty(f->s));
	struct ads_state *other = ads_state_new();
	assert_true(ads_state_load(other, path, &e));
	assert_true(ads_state_has_content(other));
	ads_state_free(other);
	assert_int_equal(unlink(path), 0);
	other = ads_state_new();
	assert_false(ads_state_load(other, path, &e));
	assert_non_null(strstr(e.text, path));
	ads_state_free(other);
	assert_false(ads_state_save(f->s, "/nonexistent/folder/cache", &e));
	given(f, CDS, "3", "a=2", NULL);
	assert_false(ads_state_save(f->s, "/nonexistent/folder/cache", &e));
	assert_true(ads_state_dirty(f->s));
	assert_int_equal(rmdir(folder), 0);
	free(path);
}

static bool decodes(struct str file)
{
	struct ads_state *s = ads_state_new();
	struct err e = {0};
	bool ok = ads_state_decode(s, file, &e);
	assert_true(ok || e.text[0]);
	assert_true(ok || !ads_state_has_content(s));
	ads_state_free(s);
	return ok;
}

static void A19_changed_or_cut_cache_is_refused_whole(void **state)
{
	struct fixture *f = *state;
	struct strbuf file = {0};
	(void)ask(f, (struct ask){.type = CDS});
	(void)ask(f, (struct ask){.type = EDS, .subscribe = "x"});
	given(f, CDS, "1", "a=1 b=1", NULL);
	given(f, EDS, "2", "x=1", NULL);
	ads_state_encode(f->s, &file);
	assert_true(decodes(strbuf_str(&file)));
	for (size_t i = 0; i < file.len; i++) {
		assert_false(decodes(str_n(file.ptr, i)));
		file.ptr[i] ^= 1;
		assert_false(decodes(strbuf_str(&file)));
		file.ptr[i] ^= 1;
	}
	strbuf_addc(&file, '\0');
	assert_false(decodes(strbuf_str(&file)));
	strbuf_done(&file);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(A07_first_requests_go_to_pilot_and_acknowledgements_follow),
		TEST(A07_resume_lists_what_envoy_wants_and_holds),
		TEST(A07_refusal_goes_to_pilot_and_leaves_doubt),
		TEST(A07_nonces_of_a_lost_stream_stay_here),
		TEST(A07_too_many_unanswered_responses),
		TEST(A07_more_types_than_are_kept_still_pass),
		TEST(A19_starting_envoy_gets_what_was_accepted),
		TEST(A19_nothing_known_is_no_answer_but_known_to_be_empty_is),
		TEST(A19_own_answer_that_is_refused_is_not_pilots_matter),
		TEST(A19_newer_resources_of_an_envoy_that_stayed_are_kept_and_asked_for),
		TEST(A19_what_pilot_no_longer_has_leaves_with_the_first_whole_answer),
		TEST(A19_unsubscribed_names_are_forgotten),
		TEST(A19_only_changes_are_written),
		TEST(A19_changed_or_cut_cache_is_refused_whole),
	};
	return cmocka_run_group_tests_name("agent/ads_state", tests, NULL, NULL);
}
