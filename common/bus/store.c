/* DOC: The publisher's table. Only changes of content get past store_apply() (rule 5). */
#include "common/bus/store.h"

#include <stdlib.h>

static struct str put_str(char **at, struct str s)
{
	char *to = *at;
	if (s.len)
		memcpy(to, s.ptr, s.len);
	*at += s.len;
	return str_n(to, s.len);
}

struct bus_value *bus_value_new(const struct bus_change *c)
{
	struct bus_value *v = xmalloc(sizeof(*v) + c->key.len + c->value.len + c->origin.len + 1);
	char *at = (char *)(v + 1);
	*v = (struct bus_value){.refs = 1, .change = *c};
	v->change.key = put_str(&at, c->key);
	v->change.origin = put_str(&at, c->origin);
	v->change.value = c->value.ptr ? put_str(&at, c->value) : (struct str){0};
	return v;
}

struct bus_value *bus_value_ref(struct bus_value *v)
{
	v->refs++;
	return v;
}

void bus_value_unref(struct bus_value *v)
{
	if (v && --v->refs == 0)
		free(v);
}

void store_init(struct store *s)
{
	*s = (struct store){.values = map_new()};
}

void store_done(struct store *s)
{
	size_t cursor = 0;
	struct str id;
	void *value = NULL;
	while (s->values && map_next(s->values, &cursor, &id, &value))
		bus_value_unref(value);
	map_free(s->values);
	s->values = NULL;
}

static uint64_t size_of(const struct bus_value *v)
{
	return v->change.key.len + v->change.value.len;
}

bool store_apply(struct store *s, const struct bus_change *c)
{
	struct bus_id id;
	const struct str name = bus_id(&id, c->topic, c->key);
	struct bus_value *old = map_get(s->values, name);
	if (c->value.ptr ? old && old->change.hash == c->hash : !old)
		return false;
	if (old)
		s->bytes -= size_of(old);
	if (c->value.ptr) {
		struct bus_value *fresh = bus_value_new(c);
		s->bytes += size_of(fresh);
		(void)map_put(s->values, name, fresh);
	} else {
		(void)map_del(s->values, name);
	}
	bus_value_unref(old);
	return true;
}
