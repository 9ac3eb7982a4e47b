/*
 * DOC: The agent's view of an ADS stream under anything that Envoy, pilot or a cache file may hold. The first byte chooses: even, the rest is the
 * body of a cache file, whose checksum is made right here; odd, records of an operation, a length of two bytes and a packed message.
 * Oracles: what is sent on unpacks, an answer names each resource once, and the last good configuration always reads back as itself.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/ads_state.h"
#include "common/base/hash.h"
#include "common/pb/pb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fail(const char *why)
{
	(void)fprintf(stderr, "%s\n", why);
	abort();
}

/* Encoding, decoding and encoding again gives the same bytes. */
static void check_round_trip(const struct ads_state *s)
{
	struct strbuf first cleanup(strbuf_done) = {0}, second cleanup(strbuf_done) = {0};
	struct err e = {0};
	struct ads_state *copy = ads_state_new();
	ads_state_encode(s, &first);
	if (!ads_state_decode(copy, strbuf_str(&first), &e))
		fail(e.text);
	ads_state_encode(copy, &second);
	if (!str_eq(strbuf_str(&first), strbuf_str(&second)))
		fail("the cache reads back as something else");
	ads_state_free(copy);
}

static void check_request(struct arena *a, struct str packed)
{
	struct err e = {0};
	if (packed.len &&
		!PB_UNPACK(a, Ads__DeltaDiscoveryRequest, ads__delta_discovery_request, packed.ptr, packed.len, &e))
		fail(e.text);
}

static void check_answer(struct arena *a, struct str packed)
{
	struct err e = {0};
	if (!packed.len)
		return;
	const Ads__DeltaDiscoveryResponse *r = PB_UNPACK(
		a, Ads__DeltaDiscoveryResponse, ads__delta_discovery_response, packed.ptr, packed.len, &e);
	if (!r)
		fail(e.text);
	for (size_t i = 1; r && i < r->n_resources; i++)
		for (size_t k = 0; k < i; k++)
			if (streq(r->resources[i]->name, r->resources[k]->name))
				fail("an answer has a resource twice");
}

static void resume(struct ads_state *s, struct arena *a)
{
	struct str *messages = NULL;
	size_t n = ads_state_resume(s, NULL, a, &messages);
	for (size_t i = 0; i < n; i++)
		check_request(a, messages[i]);
}

static void operate(struct ads_state *s, unsigned op, struct str message)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	const Ads__DeltaDiscoveryRequest *q = NULL;
	const Ads__DeltaDiscoveryResponse *r = NULL;
	switch (op % 6) {
	case 0:
		q = PB_UNPACK(
			a, Ads__DeltaDiscoveryRequest, ads__delta_discovery_request, message.ptr, message.len, NULL);
		if (q)
			check_request(a, ads_state_request(s, q, a));
		break;
	case 1:
		r = PB_UNPACK(
			a, Ads__DeltaDiscoveryResponse, ads__delta_discovery_response, message.ptr, message.len, NULL);
		if (r)
			(void)!ads_state_response(s, r);
		break;
	case 2:
		ads_state_upstream_lost(s);
		break;
	case 3:
		ads_state_stream_opened(s);
		break;
	case 4:
		resume(s, a);
		break;
	default:
		for (size_t i = 0; ads_state_type(s, i); i++)
			check_answer(a, ads_state_answer(s, ads_state_type(s, i), a));
	}
	(void)ads_state_starved(s);
}

static void run_records(struct ads_state *s, const uint8_t *data, size_t size)
{
	for (size_t at = 0; at + 3 <= size;) {
		size_t len = (size_t)data[at + 1] << 8 | data[at + 2];
		if (len > size - at - 3)
			break;
		operate(s, data[at], str_n(data + at + 3, len));
		at += 3 + len;
	}
	check_round_trip(s);
	struct strbuf json cleanup(strbuf_done) = {0};
	ads_state_debug(s, &json);
}

static void run_file(struct ads_state *s, struct str body)
{
	struct strbuf file cleanup(strbuf_done) = {0};
	struct err e = {0};
	strbuf_addf(&file, "fairlead last good xds 1\n%016" PRIx64 "\n", hash64(body));
	strbuf_add(&file, body);
	if (ads_state_decode(s, strbuf_str(&file), &e))
		check_round_trip(s);
	else if (!e.text[0] || ads_state_has_content(s))
		fail("a refused file leaves something, or no reason");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1 || size > 1 << 14)
		return 0;
	struct ads_state *s = ads_state_new();
	if (data[0] & 1)
		run_records(s, data + 1, size - 1);
	else
		run_file(s, str_n(data + 1, size - 1));
	ads_state_free(s);
	return 0;
}
