/*
 * What to do about a refusal that names no single object: find the object by trying. All objects that changed since the client last
 * accepted the type are hidden from this client (the versions before answer in their place); when it accepts that, halves of them are
 * shown again until the ones that it refuses stand alone. Those stay hidden from it until they change; everything else reaches it.
 * One client's refusals never change what others get. Part of a session; no I/O, no clock.
 */
#pragma once

#include "pilot/xds/session.h"

struct xds_watch;

#define TRIAL_OBJECTS_MAX 256
#define TRIAL_DEPTH 32 /* spans that wait: halves of halves */

/* An object version that the client refused by itself. Strings are owned. */
struct xds_isolated {
	struct hidden what;
	char *key, *object, *origin, *text;
};

struct trial_span {
	size_t from, to;
};

struct xds_trial {
	enum { TRIAL_IDLE, TRIAL_CLEARING, TRIAL_SHOWING } phase;
	enum xds_type type;
	struct arena *arena; /* suspects and the text */
	struct source_ref *suspects;
	bool *cleared; /* not the cause, or isolated */
	size_t n;
	struct trial_span *waiting, shown;
	size_t n_waiting;
	bool absent; /* the versions before are no good either */
	bool pushed; /* something was sent since what is hidden changed */
	const char *text; /* of the refusal that the trial is about */
	uint64_t gave_up; /* version of the model that hiding did not help with */
	VEC(struct xds_isolated) isolated;
	struct arena *hidden; /* what the proxy's scopes have of it */
};

/* May the object be hidden? Not what security rests on. */
bool trial_hideable(const struct source_ref *s);
/* Will a refusal with n suspects be tried, so that something else is sent? */
bool trial_takes(const struct xds_session *s, size_t n);
/* The client refused a response of w; suspects changed since it last accepted one. */
void trial_refused(
	struct xds_session *s, struct xds_watch *w, const struct source_ref *suspects, size_t n, struct str text);
/* To be called when nothing is left to send; true: there may be something again. */
bool trial_step(struct xds_session *s);
void trial_model_changed(struct xds_session *s);
void trial_done(struct xds_trial *t);
