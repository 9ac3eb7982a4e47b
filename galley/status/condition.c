/* DOC: See the header. Everything that is compared is compared without times, so that a status is written when it says something else. */
#include "galley/status/condition.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/hash.h"

#define MESSAGES_MAX 20u
#define TEXT_MAX 1024u

static const char *const own_types[] = {CONDITION_RECONCILED, CONDITION_ACCEPTED};

/* ---- what it should say */

static json_t *condition(
	const struct status_input *in, const char *type, bool status, const char *reason, json_t *message)
{
	return json_pack("{s:s, s:s, s:s, s:o, s:I}", "type", type, "status", status ? "True" : "False", "reason",
		reason, "message", message, "observedGeneration", (json_int_t)in->generation);
}

static json_t *reconciled(const struct status_input *in)
{
	const struct status_object *o = in->object;
	const struct share *s = &o->share;
	if (!o->newest)
		return condition(in, CONDITION_RECONCILED, false, "NotAccepted",
			json_sprintf("the newest version is not accepted (%s); %s", o->reason,
				o->in_force ? "the last good one stays in force" : "none is in force"));
	if (!o->applied)
		return condition(in, CONDITION_RECONCILED, false, "NotApplied",
			json_string("checked and stored; this version does not apply objects of this kind"));
	if (!o->distributed)
		return condition(in, CONDITION_RECONCILED, true, "Accepted", json_string("accepted"));
	return condition(in, CONDITION_RECONCILED, s->accepted >= s->proxies,
		s->accepted >= s->proxies ? "Distributed"
		: s->rejected             ? "Rejected"
					  : "Pending",
		json_sprintf("%u/%u proxies up to date.", s->accepted, s->proxies));
}

static json_t *accepted(const struct status_input *in)
{
	const struct share *s = &in->object->share;
	json_t *text = s->rejected ? json_sprintf("acknowledged by %u of %u proxies, rejected by %u: %.512s",
					     s->accepted, s->proxies, s->rejected, s->error)
				   : json_sprintf("acknowledged by %u of %u proxies", s->accepted, s->proxies);
	return condition(in, CONDITION_ACCEPTED, !s->rejected, s->rejected ? "Rejected" : "NotRejected",
		text ? text : json_string("acknowledged by some proxies, rejected by others"));
}

static json_t *message(const struct diag *d)
{
	static const char *const levels[DIAG_SEVERITY_COUNT] = {"ERROR", "WARNING", "INFO"};
	char code[16];
	(void)snprintf(code, sizeof(code), "%s", d->rule);
	for (char *c = code; *c; c++)
		*c = (char)(*c >= 'A' && *c <= 'Z' ? *c - 'A' + 'a' : *c);
	json_t *text = json_sprintf("%s%s%.*s", d->path, *d->path ? ": " : "", (int)TEXT_MAX, d->text);
	return json_pack("{s:{s:s, s:s}, s:s, s:o, s:o}", "type", "code", d->rule, "name", d->source, "level",
		levels[d->severity], "message", text ? text : json_string(""), "documentationUrl",
		json_sprintf("https://istio.io/latest/docs/reference/config/analysis/%s/", code));
}

json_t *status_build(const struct status_input *in)
{
	json_t *conditions = json_array(), *messages = json_array();
	(void)json_array_append_new(conditions, reconciled(in));
	if (in->object->distributed && in->object->applied)
		(void)json_array_append_new(conditions, accepted(in));
	for (size_t i = 0; i < in->n_messages && i < MESSAGES_MAX; i++)
		(void)json_array_append_new(messages, message(in->messages[i]));
	return json_pack("{s:o, s:I, s:o}", "conditions", conditions, "observedGeneration", (json_int_t)in->generation,
		"validationMessages", messages);
}

/* ---- what a cluster has */

static bool is_own(const json_t *condition)
{
	const char *type = json_string_value(json_object_get(condition, "type"));
	for (size_t i = 0; i < ARRAY_LEN(own_types); i++)
		if (streq(type, own_types[i]))
			return true;
	return false;
}

json_t *status_own(const json_t *status, json_t **foreign)
{
	json_t *own = json_array(), *others = json_array(), *c;
	size_t i;
	json_array_foreach(json_object_get(status, "conditions"), i, c)(void)
		json_array_append(is_own(c) ? own : others, c);
	*foreign = json_array_size(others) ? others : NULL;
	if (!*foreign)
		json_decref(others);
	if (!json_array_size(own) && !json_object_get(status, "validationMessages")) {
		json_decref(own);
		return NULL;
	}
	json_t *out = json_pack("{s:o}", "conditions", own);
	(void)json_object_set(out, "observedGeneration", json_object_get(status, "observedGeneration"));
	(void)json_object_set(out, "validationMessages", json_object_get(status, "validationMessages"));
	return out;
}

/* Istio writes generations as text, as proto3's JSON has it. */
static long long generation_of(const json_t *o)
{
	const json_t *g = json_object_get(o, "observedGeneration");
	return json_is_string(g) ? strtoll(json_string_value(g), NULL, 10) : (long long)json_integer_value(g);
}

static void add_text(struct strbuf *b, const json_t *o, const char *key)
{
	const char *text = json_string_value(json_object_get(o, key));
	strbuf_addf(b, "%s\n", text ? text : "");
}

static uint64_t hash_of(const json_t *status, bool counts)
{
	struct strbuf b = {0};
	const json_t *c;
	size_t i;
	strbuf_addf(&b, "%lld\n", generation_of(status));
	json_array_foreach(json_object_get(status, "conditions"), i, c)
	{
		add_text(&b, c, "type");
		add_text(&b, c, "status");
		add_text(&b, c, "reason");
		if (counts)
			add_text(&b, c, "message");
	}
	json_array_foreach(json_object_get(status, "validationMessages"), i, c)
	{
		add_text(&b, json_object_get(c, "type"), "code");
		add_text(&b, c, "level");
	}
	uint64_t h = hash64(strbuf_str(&b));
	strbuf_done(&b);
	return h;
}

struct status_hash status_hash(const json_t *status)
{
	return (struct status_hash){hash_of(status, true), hash_of(status, false)};
}

/* ---- what is written */

static const char *time_of(const json_t *before, const json_t *condition, const char *now)
{
	const char *type = json_string_value(json_object_get(condition, "type")), *time;
	const json_t *c;
	size_t i;
	json_array_foreach(json_object_get(before, "conditions"), i, c)
	{
		time = json_string_value(json_object_get(c, "lastTransitionTime"));
		if (streq(json_string_value(json_object_get(c, "type")), type) && time &&
			json_equal(json_object_get(c, "status"), json_object_get(condition, "status")))
			return time;
	}
	return now;
}

json_t *status_complete(const json_t *wanted, const json_t *before, const json_t *foreign, const char *now)
{
	json_t *out = json_deep_copy(wanted), *conditions = json_object_get(out, "conditions"), *c;
	size_t i;
	json_array_foreach(conditions, i, c)
	{
		(void)json_object_set_new(c, "lastTransitionTime", json_string(time_of(before, c, now)));
		(void)json_object_set_new(c, "lastProbeTime", json_string(now));
	}
	if (foreign)
		(void)json_array_extend(conditions, (json_t *)(uintptr_t)foreign);
	return out;
}
