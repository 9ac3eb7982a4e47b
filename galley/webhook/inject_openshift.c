/*
 * DOC: OpenShift gives each namespace a range of user ids, in annotations of the Namespace, and puts the first of it into the containers of a pod
 * before the webhook sees them. The proxy may not have the application's user, whose traffic is captured, and may have none outside of the range: it
 * gets the last of it, as Istio's does, and the last of the first range of groups. An annotation that cannot be read is a warning: the pod then runs
 * as elsewhere, if OpenShift's policy for it allows that.
 */
#include <stdlib.h>

#include "galley/webhook/inject_internal.h"

/* "1000/10" (first and number) or "1000-1009". */
static bool last_of(struct str text, uint32_t *last)
{
	struct str first, rest;
	uint32_t from, to;
	if (str_cut(text, '/', &first, &rest)) {
		if (!str_u32(first, INT32_MAX, &from) || !str_u32(rest, INT32_MAX - from, &to) || to == 0)
			return false;
		*last = from + to - 1;
		return true;
	}
	if (!str_cut(text, '-', &first, &rest) || !str_u32(first, INT32_MAX, &from) || !str_u32(rest, INT32_MAX, &to) ||
		to < from)
		return false;
	*last = to;
	return true;
}

static void read_range(struct injection *i, const char *annotation, const char *text, uint32_t *last)
{
	struct str rest = str_of(text), first = {0};
	(void)str_split(&rest, ',', &first);
	char *path cleanup(free_p) = xasprintf("namespace %.63s, annotation %s", i->ns, annotation);
	if (!str_empty(text) && !last_of(str_trim(first), last))
		(void)diag_add(i->warnings, DIAG_WARNING, "id-range", path,
			"\"%.60s\" is no range like 1000650000/10000: the proxy runs as %d", text, PROXY_USER);
}

static const json_t *user_of(const json_t *container)
{
	return json_object_get(json_object_get(container, "securityContext"), "runAsUser");
}

/* The application's user, as the last container that is not ours says it. */
static const json_t *application_user(const json_t *spec)
{
	static const char *const lists[] = {"containers", "initContainers"};
	const json_t *user = NULL;
	for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
		const json_t *list = json_object_get(spec, lists[l]);
		for (size_t k = 0; k < json_array_size(list); k++) {
			const char *name = json_string_value(json_object_get(json_array_get(list, k), "name"));
			const json_t *found = user_of(json_array_get(list, k));
			if (found && !is_injected(name))
				user = found;
		}
	}
	return user;
}

void openshift_read(struct injection *i)
{
	const struct inject_request *q = i->q;
	if (!streq(i->o->platform, INJECT_OPENSHIFT))
		return;
	read_range(i, INJECT_UID_RANGE, q->uid_range, &i->user);
	i->group = i->user;
	read_range(i, INJECT_GROUPS, q->groups, &i->group);
}

void openshift_clear_user(const struct injection *i)
{
	json_t *rights = json_object_get(find_proxy(i->spec), "securityContext");
	const json_t *application = application_user(i->spec), *user = json_object_get(rights, "runAsUser");
	if (!streq(i->o->platform, INJECT_OPENSHIFT) || !user || !application || !json_equal(user, application))
		return;
	(void)json_object_del(rights, "runAsUser");
	(void)json_object_del(rights, "runAsGroup");
}

bool inject_platform_check(const char *platform, struct err *e)
{
	return str_empty(platform) || streq(platform, INJECT_OPENSHIFT) ||
	       err_set(e, ERR_PEER, "\"%.40s\" is not " INJECT_OPENSHIFT, platform);
}
