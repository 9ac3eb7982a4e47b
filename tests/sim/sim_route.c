/* DOC: Virtual hosts (exact domain, longest suffix wildcard, longest prefix wildcard, "*") and routes (first that matches). */
#include <stdlib.h>

#include "common/re/re.h"
#include "tests/sim/sim_int.h"

static bool regex_matches(const char *pattern, const char *value)
{
	struct err e = {0};
	struct re *re = re_new(str_of(pattern), &e);
	bool ok = re && re_full_match(re, str_of(value));

	re_free(re);
	return ok;
}

bool string_matches(json_t *m, const char *value)
{
	bool fold = json_is_true(json_object_get(m, "ignoreCase"));
	const char *s;
	struct str v = str_of(value), head;

	if ((s = json_string_value(json_object_get(m, "exact"))))
		return fold ? str_ieq(v, str_of(s)) : streq(s, value);
	if ((s = json_string_value(json_object_get(m, "prefix")))) {
		head = str_sub(v, 0, min_size(v.len, strlen(s)));
		return fold ? str_ieq(head, str_of(s)) : str_eqc(head, s);
	}
	if ((s = json_string_value(json_object_get(m, "suffix"))))
		return str_ends(v, str_of(s));
	if ((s = json_string_value(json_object_get(m, "contains"))))
		return strstr(value, s) != NULL;
	if ((s = text(json_object_get(m, "safeRegex"), "regex", NULL)))
		return regex_matches(s, value);
	return !*value;
}

/* ---- virtual hosts */
static int domain_score(const char *domain, struct str host)
{
	struct str d = str_of(domain);

	if (str_ieq(d, host))
		return 100000;
	if (str_eqc(d, "*"))
		return 1;
	if (d.len > 1 && d.ptr[0] == '*' && host.len >= d.len && str_ends(host, str_from(d, 1)))
		return 50000 + (int)d.len;
	if (d.len > 1 && d.ptr[d.len - 1] == '*' && host.len >= d.len && str_starts(host, str_sub(d, 0, d.len - 1)))
		return 10000 + (int)d.len;
	return 0;
}

json_t *sim_virtual_host(json_t *routes, const struct request *r)
{
	struct str host = str_of(r->authority);
	json_t *vh, *domain, *best = NULL;
	size_t i, j, colon;
	int best_score = 0;

	if (json_is_true(json_object_get(routes, "ignorePortInHostMatching")) && str_rfind(host, ':', &colon))
		host = str_sub(host, 0, colon);
	json_array_foreach(json_object_get(routes, "virtualHosts"), i, vh)
		json_array_foreach(json_object_get(vh, "domains"), j, domain)
	{
		int s = domain_score(json_string_value(domain), host);

		if (s > best_score) {
			best_score = s;
			best = vh;
		}
	}
	return best;
}

/* ---- routes */
static bool path_matches(json_t *m, const char *path)
{
	json_t *fold = json_object_get(m, "caseSensitive");
	bool any_case = fold && json_is_false(fold);
	struct str p = str_of(path), head, tail;
	const char *s;

	if (str_cut(p, '?', &head, &tail))
		p = head;
	if ((s = json_string_value(json_object_get(m, "prefix")))) {
		head = str_sub(p, 0, min_size(p.len, strlen(s)));
		return any_case ? str_ieq(head, str_of(s)) : str_eqc(head, s);
	}
	if ((s = json_string_value(json_object_get(m, "path"))))
		return any_case ? str_ieq(p, str_of(s)) : str_eqc(p, s);
	if ((s = text(json_object_get(m, "safeRegex"), "regex", NULL))) {
		char *copy cleanup(free_p) = xstrndup(p.ptr, p.len);

		return regex_matches(s, copy);
	}
	return false;
}

static const char *header(const struct request *r, const char *name)
{
	if (streq(name, ":method"))
		return r->method;
	if (streq(name, ":authority"))
		return r->authority;
	if (streq(name, ":scheme"))
		return r->scheme;
	return json_string_value(json_object_get(r->headers, name));
}

static bool header_matches(json_t *m, const struct request *r)
{
	const char *value = header(r, text(m, "name", ""));
	json_t *string = json_object_get(m, "stringMatch");
	bool ok;

	if (string && !value && json_is_true(json_object_get(m, "treatMissingHeaderAsEmpty")))
		value = "";
	if (string && !value)
		return false; /* inverted or not */
	ok = string ? string_matches(string, value) : value != NULL;
	return ok != json_is_true(json_object_get(m, "invertMatch"));
}

static bool query_matches(json_t *m, const char *path)
{
	struct str query, pair, key, value, head;
	json_t *string = json_object_get(m, "stringMatch");

	if (!str_cut(str_of(path), '?', &head, &query))
		return false;
	while (str_split(&query, '&', &pair)) {
		if (!str_cut(pair, '=', &key, &value))
			key = pair, value = STR("");
		if (str_eqc(key, text(m, "name", ""))) {
			char *copy cleanup(free_p) = xstrndup(value.ptr, value.len);

			return !string || string_matches(string, copy);
		}
	}
	return false;
}

/* ---- claims, as the JWT filter leaves them in the dynamic metadata */
static bool value_matches(json_t *m, json_t *value)
{
	json_t *list = json_object_get(json_object_get(m, "orMatch"), "valueMatchers"), *x, *one;
	size_t i;

	json_array_foreach(list, i, x) if (value_matches(x, value)) return true;
	if (json_is_true(json_object_get(m, "presentMatch")))
		return value != NULL;
	if ((x = json_object_get(m, "stringMatch")))
		return json_is_string(value) && string_matches(x, json_string_value(value));
	one = json_object_get(json_object_get(m, "listMatch"), "oneOf");
	json_array_foreach(value, i, x) if (one && value_matches(one, x)) return true;
	return false;
}

static bool claim_matches(json_t *m, const struct request *r)
{
	json_t *segment, *value = r->claims;
	size_t i;

	if (!streq(text(m, "filter", ""), "envoy.filters.http.jwt_authn") ||
		!streq(text(json_array_get(json_object_get(m, "path"), 0), "key", ""), "payload"))
		return false;
	json_array_foreach(json_object_get(m, "path"), i, segment) if (i)
		value = json_object_get(value, text(segment, "key", ""));
	return value_matches(json_object_get(m, "value"), value) != json_is_true(json_object_get(m, "invert"));
}

static bool route_matches(json_t *route, const struct request *r)
{
	json_t *m = json_object_get(route, "match"), *x;
	size_t i;

	if (!path_matches(m, r->path))
		return false;
	json_array_foreach(json_object_get(m, "headers"), i, x) if (!header_matches(x, r)) return false;
	json_array_foreach(json_object_get(m, "queryParameters"), i, x) if (!query_matches(x, r->path)) return false;
	json_array_foreach(json_object_get(m, "dynamicMetadata"), i, x) if (!claim_matches(x, r)) return false;
	return true;
}

json_t *sim_route(json_t *host, const struct request *r)
{
	json_t *route;
	size_t i;

	json_array_foreach(json_object_get(host, "routes"), i, route) if (route_matches(route, r)) return route;
	return NULL;
}
