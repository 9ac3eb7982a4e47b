/*
 * DOC: What traffic capture is asked for. A row for each list: its option, and Istio's annotation that overrides it. Every item is parsed into a
 * number, an address or a name of harmless letters, so that the script which is made of them has no word of somebody else's.
 */
#include <grp.h>
#include <jansson.h>
#include <stdlib.h>

#include "agent/capture.h"
#include "common/base/limits.h"
#include "common/io/addr.h"

#define TRAFFIC "traffic.sidecar.istio.io/"
#define MODE_ANNOTATION "sidecar.istio.io/interceptionMode"

enum item_kind { ITEM_PORT, ITEM_RANGE, ITEM_LOOPBACK, ITEM_INTERFACE, ITEM_ID, ITEM_GROUP, ITEM_KIND_COUNT };

static const struct {
	const char *option;
	const char *annotations[2]; /* the first that is there counts */
	enum item_kind kind;
	bool wildcard; /* "*" is allowed */
	bool needed; /* not empty */
	size_t offset;
} rows[CAPTURE_SETTING_COUNT] = {
#define FIELD(name) offsetof(struct capture_config, name)
	[PROXY_UIDS] = {"proxy-uid", {NULL}, ITEM_ID, false, true, FIELD(proxy_uid)},
	[PROXY_GIDS] = {"proxy-gid", {NULL}, ITEM_ID, false, true, FIELD(proxy_gid)},
	[INCLUDE_INBOUND_PORTS] = {"include-inbound-ports", {TRAFFIC "includeInboundPorts"}, ITEM_PORT, true, false,
		FIELD(include_inbound_ports)},
	[EXCLUDE_INBOUND_PORTS] = {"exclude-inbound-ports", {TRAFFIC "excludeInboundPorts"}, ITEM_PORT, false, false,
		FIELD(exclude_inbound_ports)},
	[INCLUDE_OUTBOUND_RANGES] = {"include-outbound-ranges", {TRAFFIC "includeOutboundIPRanges"}, ITEM_RANGE, true,
		false, FIELD(include_outbound_ranges)},
	[EXCLUDE_OUTBOUND_RANGES] = {"exclude-outbound-ranges", {TRAFFIC "excludeOutboundIPRanges"}, ITEM_RANGE, false,
		false, FIELD(exclude_outbound_ranges)},
	[INCLUDE_OUTBOUND_PORTS] = {"include-outbound-ports", {TRAFFIC "includeOutboundPorts"}, ITEM_PORT, false, false,
		FIELD(include_outbound_ports)},
	[EXCLUDE_OUTBOUND_PORTS] = {"exclude-outbound-ports", {TRAFFIC "excludeOutboundPorts"}, ITEM_PORT, false, false,
		FIELD(exclude_outbound_ports)},
	[INCLUDE_OUTBOUND_GROUPS] = {"include-outbound-groups", {NULL}, ITEM_GROUP, true, false,
		FIELD(include_outbound_groups)},
	[EXCLUDE_OUTBOUND_GROUPS] = {"exclude-outbound-groups", {NULL}, ITEM_GROUP, false, false,
		FIELD(exclude_outbound_groups)},
	[EXCLUDE_INTERFACES] = {"exclude-interfaces", {TRAFFIC "excludeInterfaces"}, ITEM_INTERFACE, false, false,
		FIELD(exclude_interfaces)},
	[VIRTUAL_INTERFACES] = {"virtual-interfaces",
		{"istio.io/reroute-virtual-interfaces", TRAFFIC "kubevirtInterfaces"}, ITEM_INTERFACE, false, false,
		FIELD(virtual_interfaces)},
	[LOOPBACK_RANGE] = {"loopback-range", {NULL}, ITEM_LOOPBACK, false, true, FIELD(loopback_range)},
};

/* ---- items */

static bool parse_port(struct str text, struct capture_item *out, struct err *e)
{
	if (!str_u32(text, 65535, &out->number) || !out->number)
		return err_set(e, ERR_PEER, "\"" STR_FMT "\" is not a port 1..65535", STR_ARG(text));
	return true;
}

/* Bits behind the prefix do not count, as with the usual tools: they are cleared, so that the script has one spelling. */
static bool parse_range(struct str text, struct capture_item *out, struct err *e)
{
	if (!str_find(text, '/', &(size_t){0}) || !cidr_parse(text, out->ip, &out->bits, &out->prefix))
		return err_set(e, ERR_PEER, "\"" STR_FMT "\" is not an address range like 10.0.0.0/8", STR_ARG(text));
	for (unsigned bit = out->prefix; bit < out->bits; bit++)
		out->ip[bit / 8] = (uint8_t)(out->ip[bit / 8] & ~(0x80u >> (bit % 8)));
	return true;
}

static bool parse_loopback(struct str text, struct capture_item *out, struct err *e)
{
	if (!parse_range(text, out, e))
		return false;
	return (out->bits == 32 && out->ip[0] == 127 && out->prefix >= 8) ||
	       err_set(e, ERR_PEER, "\"" STR_FMT "\" is not a range of 127.0.0.0/8", STR_ARG(text));
}

static bool parse_interface(struct str text, struct capture_item *out, struct err *e)
{
	static const char also[] = "-_.@";
	bool ok = text.len > 0 && text.len < sizeof(out->interface);
	for (size_t i = 0; ok && i < text.len; i++) {
		char c = text.ptr[i];
		ok = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		     (c && strchr(also, c));
		out->interface[i] = c;
	}
	return ok ||
	       err_set(e, ERR_PEER, "\"" STR_FMT "\" is not an interface's name (up to 15 of A-Z a-z 0-9 - _ . @)",
		       STR_ARG(text));
}

static bool parse_id(struct str text, struct capture_item *out, struct err *e)
{
	return str_u32(text, UINT32_MAX - 1, &out->number) ||
	       err_set(e, ERR_PEER, "\"" STR_FMT "\" is not an id 0..4294967294", STR_ARG(text));
}

static bool parse_group(struct str text, struct capture_item *out, struct err *e)
{
	if (str_u32(text, UINT32_MAX - 1, &out->number))
		return true;
	char *name cleanup(free_p) = xstrndup(text.ptr, text.len);
	const struct group *g = *name ? getgrnam(name) : NULL;
	if (!g)
		return err_set(e, ERR_PEER, "\"" STR_FMT "\" is neither a group id nor a group of this system",
			STR_ARG(str_sub(text, 0, 60)));
	out->number = g->gr_gid;
	return true;
}

/* ---- lists */

static int number_cmp(const void *x, const void *y)
{
	uint32_t a = ((const struct capture_item *)x)->number, b = ((const struct capture_item *)y)->number;
	return (a > b) - (a < b);
}

static void sort_numbers(struct capture_list *l)
{
	size_t kept = 0;
	if (l->items.len > 1)
		qsort(l->items.items, l->items.len, sizeof(*l->items.items), number_cmp);
	for (size_t i = 0; i < l->items.len; i++)
		if (!i || l->items.items[i].number != l->items.items[kept - 1].number)
			l->items.items[kept++] = l->items.items[i];
	l->items.len = kept;
}

static bool parse_items(struct str rest, enum item_kind kind, struct capture_list *out, struct err *e)
{
	static bool (*const parse[ITEM_KIND_COUNT])(struct str text, struct capture_item * out, struct err * e) = {
		[ITEM_PORT] = parse_port,
		[ITEM_RANGE] = parse_range,
		[ITEM_LOOPBACK] = parse_loopback,
		[ITEM_INTERFACE] = parse_interface,
		[ITEM_ID] = parse_id,
		[ITEM_GROUP] = parse_group};
	struct str part;
	while (str_split(&rest, ',', &part)) {
		struct capture_item item = {0};
		if (str_eq(str_trim(part), STR("*")))
			return err_set(e, ERR_PEER, "\"*\" stands alone or not at all");
		if (!parse[kind](str_trim(part), &item, e))
			return false;
		if (out->items.len >= LIMIT_CAPTURE_ITEMS)
			return err_set(e, ERR_LIMIT, "more than %u items", LIMIT_CAPTURE_ITEMS);
		vec_push(&out->items, item);
	}
	if (kind == ITEM_PORT || kind == ITEM_ID || kind == ITEM_GROUP)
		sort_numbers(out);
	return true;
}

static bool parse_list(enum capture_setting s, const char *text, struct capture_list *out, struct err *e)
{
	struct str trimmed = str_trim(str_of(text));
	if (str_eq(trimmed, STR("*"))) {
		out->all = rows[s].wildcard;
		return out->all || err_set(e, ERR_PEER, "\"*\" is not allowed here");
	}
	if (!trimmed.len)
		return !rows[s].needed || err_set(e, ERR_PEER, "is needed");
	return parse_items(trimmed, rows[s].kind, out, e);
}

/* ---- annotations */

static bool is_known(const char *annotation)
{
	for (size_t i = 0; i < CAPTURE_SETTING_COUNT; i++)
		for (size_t k = 0; k < ARRAY_LEN(rows[i].annotations); k++)
			if (streq(rows[i].annotations[k], annotation))
				return true;
	return streq(annotation, MODE_ANNOTATION);
}

/* An annotation that is meant for capture and not understood would leave traffic outside the mesh, or inside: refused. */
static bool check_annotations(json_t *annotations, struct err *e)
{
	const char *key;
	json_t *value;
	json_object_foreach(annotations, key, value)
	{
		bool known = is_known(key);
		if (!known && str_starts(str_of(key), STR(TRAFFIC)))
			return err_set(e, ERR_PEER, "annotation %s is not known or not supported", key);
		if (known && !json_is_string(value))
			return err_set(e, ERR_PEER, "annotation %s: a string is expected", key);
	}
	return true;
}

static json_t *parse_annotations(const char *text, struct err *e)
{
	json_error_t error;
	json_t *j = str_empty(text) ? json_object() : json_loads(text, JSON_REJECT_DUPLICATES, &error);
	if (!j)
		(void)err_set(e, ERR_PEER, "--annotations: line %d: %s", error.line, error.text);
	else if (!json_is_object(j))
		(void)err_set(e, ERR_PEER, "--annotations: a JSON object is expected");
	else if (check_annotations(j, e))
		return j;
	json_decref(j);
	return NULL;
}

/* The annotation's name when one overrides the option, whose value *text is. */
static const char *overriding(size_t row, const json_t *annotations, const char **text)
{
	for (size_t k = 0; k < ARRAY_LEN(rows[row].annotations); k++) {
		const char *name = rows[row].annotations[k];
		const char *value = name ? json_string_value(json_object_get(annotations, name)) : NULL;
		if (value) {
			*text = value;
			return name;
		}
	}
	return NULL;
}

/* ---- all */

static bool parse_mode(const struct capture_config *c, const json_t *annotations, enum capture_mode *out, struct err *e)
{
	static const char *const names[CAPTURE_MODE_COUNT] = {
		[CAPTURE_REDIRECT] = "REDIRECT", [CAPTURE_TPROXY] = "TPROXY", [CAPTURE_NONE] = "NONE"};
	const char *annotated = json_string_value(json_object_get(annotations, MODE_ANNOTATION));
	const char *text = annotated ? annotated : c->mode;
	for (size_t i = 0; i < CAPTURE_MODE_COUNT; i++)
		if (streq(text, names[i])) {
			*out = (enum capture_mode)i;
			return true;
		}
	(void)err_set(e, ERR_PEER, "\"%.60s\" is not REDIRECT, TPROXY or NONE", text ? text : "");
	return annotated ? err_in(e, "annotation " MODE_ANNOTATION) : err_in(e, "--interception-mode");
}

static bool parse_all(
	const struct capture_config *c, const json_t *annotations, struct capture_settings *out, struct err *e)
{
	for (size_t i = 0; i < CAPTURE_SETTING_COUNT; i++) {
		const char *text = *(const char *const *)(const void *)((const char *)c + rows[i].offset);
		const char *annotation = overriding(i, annotations, &text);
		if (parse_list((enum capture_setting)i, text, &out->of[i], e))
			continue;
		return annotation ? err_in(e, "annotation %s", annotation) : err_in(e, "--%s", rows[i].option);
	}
	if (out->of[LOOPBACK_RANGE].items.len != 1)
		return err_set(e, ERR_PEER, "--loopback-range: one range is expected");
	if (!parse_mode(c, annotations, &out->mode, e))
		return false;
	if (c->remove)
		out->mode = CAPTURE_NONE;
	out->proxy_mark = c->proxy_mark;
	out->outbound_port = c->outbound_port;
	out->inbound_port = c->inbound_port;
	out->drop_invalid = c->drop_invalid;
	if (c->outbound_port == c->inbound_port)
		return err_set(e, ERR_PEER, "--inbound-capture-port: %u is the port of what goes out", c->inbound_port);
	return out->mode != CAPTURE_TPROXY || c->proxy_mark != TPROXY_MARK ||
	       err_set(e, ERR_PEER, "--proxy-mark: %u is TPROXY's own mark, of what goes to the application",
		       TPROXY_MARK);
}

bool capture_settings_parse(const struct capture_config *c, struct capture_settings *out, struct err *e)
{
	struct capture_settings s = {0};
	json_t *annotations = parse_annotations(c->annotations, e);
	bool ok = annotations && parse_all(c, annotations, &s, e);
	json_decref(annotations);
	if (ok)
		*out = s;
	else
		capture_settings_done(&s);
	return ok;
}

void capture_settings_done(struct capture_settings *s)
{
	for (size_t i = 0; i < CAPTURE_SETTING_COUNT; i++)
		vec_done(&s->of[i].items);
}
