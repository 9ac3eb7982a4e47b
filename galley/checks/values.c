#include "galley/checks/values.h"

#include <math.h>
#include <stdio.h>

#include "galley/checks/names.h"
#include "common/re/re.h"
#include "cfg/networking/virtual_service.pb-c.h"
#include "wkt/duration.pb-c.h"
#include "wkt/wrappers.pb-c.h"

/*
 * DOC: Values. Each checker says what it got and what it would take. Durations follow Istio: at least a millisecond and no finer.
 * Percentages follow Istio too: what is above zero is at least 0.0001, the finest that Envoy can express. Regular expressions are
 * compiled by RE2, as Envoy does.
 */

static bool number_of(const struct pb_place *p, double *out)
{
	switch (p->field->type) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32:
	case PROTOBUF_C_TYPE_ENUM:
		*out = *(const int32_t *)p->value;
		return true;
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32:
		*out = *(const uint32_t *)p->value;
		return true;
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
		*out = (double)*(const int64_t *)p->value;
		return true;
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
		*out = (double)*(const uint64_t *)p->value;
		return true;
	case PROTOBUF_C_TYPE_FLOAT:
		*out = (double)*(const float *)p->value;
		return true;
	case PROTOBUF_C_TYPE_DOUBLE:
		*out = *(const double *)p->value;
		return true;
	case PROTOBUF_C_TYPE_BOOL:
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_BYTES:
	case PROTOBUF_C_TYPE_MESSAGE:
		return false;
	}
	return false;
}

static void range(struct check *c, const struct rule *r, const char *path, double v)
{
	if (!(v >= r->min && v <= r->max))
		check_error(c, "range", r->source, path, "%.15g is not in the range %.15g..%.15g", v, r->min, r->max);
}

void check_number(struct check *c, const struct rule *r, const struct pb_place *p)
{
	double v;
	if (number_of(p, &v))
		range(c, r, p->path, v);
}

void check_port(struct check *c, const struct rule *r, const struct pb_place *p)
{
	double v;
	if (number_of(p, &v) && !(v >= 1 && v <= 65535))
		check_error(c, "port", r->source, p->path, "port %.15g is not in the range 1..65535", v);
}

void check_port_message(struct check *c, const struct rule *r, const struct pb_place *p)
{
	const Cfg__PortSelector *s = place_message(p);
	if (s && (s->number < 1 || s->number > 65535))
		check_error(c, "port", r->source, p->path, "port %u is not in the range 1..65535", s->number);
}

void check_duration(struct check *c, const struct rule *r, const struct pb_place *p)
{
	const Wkt__Duration *d = place_message(p);
	if (!d)
		return;
	double ms = (double)d->seconds * 1000 + (double)d->nanos / 1e6;
	if (ms < r->min)
		check_error(c, "duration", r->source, p->path, "%.15g ms is less than %.15g ms", ms, r->min);
	else if (r->max > 0 && ms > r->max)
		check_error(c, "duration", r->source, p->path, "%.15g ms is more than %.15g ms", ms, r->max);
	else if (d->nanos % 1000000 != 0)
		check_error(c, "duration", r->source, p->path, "durations are in whole milliseconds, not %.15g ms", ms);
}

void check_percentage(struct check *c, const struct rule *r, const struct pb_place *p)
{
	const Cfg__Percent *percent = place_message(p);
	if (!percent)
		return;
	double v = percent->value;
	if (!(v >= 0 && v <= 100) || (v > 0 && v < 0.0001))
		check_error(c, "percentage", r->source, p->path, "%.15g is neither 0 nor in the range 0.0001..100", v);
}

void check_wrapped(struct check *c, const struct rule *r, const struct pb_place *p)
{
	const ProtobufCMessage *m = place_message(p);
	if (!m || m->descriptor->n_fields != 1)
		return;
	struct pb_place inner = *p;
	inner.field = &m->descriptor->fields[0];
	inner.value = (const char *)m + inner.field->offset;
	double v;
	if (number_of(&inner, &v))
		range(c, r, p->path, v);
}

static void regex_at(struct check *c, const struct rule *r, const char *path, struct str pattern)
{
	struct err e;
	if (pattern.len == 0)
		check_error(c, "regex", r->source, path, "a regular expression must not be empty");
	else if (!re_check(pattern, &e))
		check_error(c, "regex", r->source, path, "%s", e.text);
}

void check_regex(struct check *c, const struct rule *r, const struct pb_place *p)
{
	regex_at(c, r, p->path, place_str(p));
}

static void string_match(struct check *c, const struct rule *r, const struct pb_place *p, bool empty_prefix)
{
	const Cfg__StringMatch *m = place_message(p);
	if (!m)
		return;
	switch (m->match_type_case) {
	case CFG__STRING_MATCH__MATCH_TYPE_PREFIX:
		if (str_empty(m->prefix) && !empty_prefix)
			check_error(c, "string-match", r->source, p->path, "a prefix match must not be empty");
		return;
	case CFG__STRING_MATCH__MATCH_TYPE_REGEX:
		regex_at(c, r, path_at(c, "%s.regex", p->path), str_of(m->regex ? m->regex : ""));
		return;
	case CFG__STRING_MATCH__MATCH_TYPE_EXACT:
	case CFG__STRING_MATCH__MATCH_TYPE__NOT_SET:
	case _CFG__STRING_MATCH__MATCH_TYPE__CASE_IS_INT_SIZE:
		return;
	}
}

void check_string_match(struct check *c, const struct rule *r, const struct pb_place *p)
{
	string_match(c, r, p, false);
}

void check_uri_match(struct check *c, const struct rule *r, const struct pb_place *p)
{
	string_match(c, r, p, true);
}

void check_without_header(struct check *c, const struct rule *r, const struct pb_place *p)
{
	const Cfg__StringMatch *m = place_message(p);
	if (m && m->match_type_case == CFG__STRING_MATCH__MATCH_TYPE_REGEX && streq(m->regex, "*"))
		return;
	string_match(c, r, p, false);
}

bool header_name_ok(struct str s)
{
	return name_has_only(s, "!#$%&'*+-.^_`|~");
}

#define HEADER_VALUE_MAX 16384 /* envoy: HeaderValue.value */

void check_one_line(struct check *c, const struct rule *r, const struct pb_place *p)
{
	struct str s = place_str(p);
	if (s.len && (memchr(s.ptr, '\n', s.len) || memchr(s.ptr, '\r', s.len)))
		check_error(c, "one-line", r->source, p->path, "has a line break");
}

/* A command from the '%' at *at; moves *at to its closing '%'. */
static const char *command_problem(struct str s, size_t *at)
{
	size_t end = *at + 1, name = *at + 1, depth = 0;
	while (end < s.len && (s.ptr[end] != '%' || depth)) {
		if (s.ptr[end] == '(')
			depth++;
		else if (s.ptr[end] == ')' && depth)
			depth--;
		end++;
	}
	if (end >= s.len)
		return "a '%' in a header value begins %COMMAND%; a literal one is written %%";
	while (name < end && s.ptr[name] != '(' && s.ptr[name] != ':')
		name++;
	struct str command = str_sub(s, *at + 1, name - *at - 1);
	bool has_arguments = name < end && s.ptr[name] == '(';
	bool escaped = end == *at + 1;
	*at = end;
	return escaped ? NULL : substitution_problem(command, has_arguments);
}

/* Envoy reads %NAME% in header values as a command; a lone '%' makes it refuse the whole configuration. */
const char *header_value_problem(struct str s)
{
	if (s.len > HEADER_VALUE_MAX)
		return "a header value is longer than 16384 bytes";
	for (size_t i = 0; i < s.len; i++) {
		unsigned char ch = (unsigned char)s.ptr[i];
		if ((ch < 0x20 && ch != '\t') || ch == 0x7f)
			return "a header value has no control characters";
	}
	for (size_t i = 0; i < s.len; i++) {
		const char *problem = s.ptr[i] == '%' ? command_problem(s, &i) : NULL;
		if (problem)
			return problem;
	}
	return NULL;
}

void check_header_remove(struct check *c, const struct rule *r, const struct pb_place *p)
{
	struct str s = place_str(p);
	if (s.len == 0)
		check_error(c, "header-name", r->source, p->path, "a header name must not be empty");
	else if (s.ptr[0] == ':' || str_ieq(s, STR("host")))
		check_error(
			c, "header-name", r->source, p->path, "header \"" STR_FMT "\" cannot be changed", STR_ARG(s));
	else if (!header_name_ok(s))
		check_error(c, "header-name", r->source, p->path, "\"" STR_FMT "\" is not a header name", STR_ARG(s));
}

void check_cors_header(struct check *c, const struct rule *r, const struct pb_place *p)
{
	struct str s = place_str(p);
	if (!str_eqc(s, "*") && !header_name_ok(s))
		check_error(c, "header-name", r->source, p->path, "\"" STR_FMT "\" is not a header name", STR_ARG(s));
}

static bool one_of(const char *const *list, struct str s)
{
	for (; *list; list++)
		if (str_eqc(s, *list))
			return true;
	return false;
}

void check_cors_method(struct check *c, const struct rule *r, const struct pb_place *p)
{
	static const char *const methods[] = {
		"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*", NULL};
	struct str s = place_str(p);
	if (!one_of(methods, s))
		check_error(c, "method", r->source, p->path, "\"" STR_FMT "\" is not an HTTP method", STR_ARG(s));
}

/* Envoy's x-envoy-retry-on and x-envoy-retry-grpc-on, and plain HTTP status codes. */
void check_retry_on(struct check *c, const struct rule *r, const struct pb_place *p)
{
	static const char *const policies[] = {"5xx", "gateway-error", "reset", "reset-before-request",
		"connect-failure", "retriable-4xx", "refused-stream", "retriable-status-codes", "retriable-headers",
		"envoy-ratelimited", "http3-post-connect-failure", "cancelled", "deadline-exceeded", "internal",
		"resource-exhausted", "unavailable", NULL};
	struct str rest = place_str(p), part;
	while (str_split(&rest, ',', &part)) {
		struct str name = str_trim(part);
		uint32_t status;
		bool is_status = str_u32(name, 599, &status) && status >= 100;
		if (!is_status && !one_of(policies, name))
			check_error(c, "retry-on", r->source, p->path, "\"" STR_FMT "\" is no retry condition",
				STR_ARG(name));
	}
}

void check_grpc_status(struct check *c, const struct rule *r, const struct pb_place *p)
{
	static const char *const names[] = {"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED",
		"NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
		"ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
		NULL};
	struct str s = place_str(p);
	if (!one_of(names, s))
		check_error(c, "grpc-status", r->source, p->path,
			"\"" STR_FMT "\" is not a gRPC status such as NOT_FOUND", STR_ARG(s));
}

void check_non_empty(struct check *c, const struct rule *r, const struct pb_place *p)
{
	if (p->field->type == PROTOBUF_C_TYPE_STRING && place_str(p).len == 0)
		check_error(c, "required", r->source, p->path, "must not be empty");
}
