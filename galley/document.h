/*
 * From a document tree to an object: metadata, strict decode, rules, normalisation. Everything wrong with a document is reported at
 * once. Pure: no I/O, no clock.
 */
#pragma once

#include "common/pb/node.h"
#include "galley/object.h"

enum document_state {
	DOCUMENT_OK, /* object is set */
	DOCUMENT_BAD, /* identity is known, the rest is not acceptable */
	DOCUMENT_HELD, /* defined by a file that does not parse at the moment (made by the store) */
	DOCUMENT_UNNAMED, /* no identity: only diagnostics */
	DOCUMENT_FOREIGN, /* a kind that galley does not read */
	DOCUMENT_EMPTY,
	DOCUMENT_STATE_COUNT
};
const char *document_state_name(enum document_state s);

struct document {
	enum document_state state;
	const struct kind *kind; /* OK, BAD, HELD */
	const char *key; /* "<kind>/<ns>/<name>": identity in the store */
	const char *title; /* "VirtualService default/reviews"; FOREIGN: "Deployment (apps/v1)" */
	unsigned line;
	const char *reason; /* BAD: short, for metrics: the rule of the first error */
	struct object *object; /* one reference, NULL unless OK */
};

struct document_options {
	const char *file;
	const char *domain_suffix;
	const char *revision; /* objects that are labelled with another are foreign; NULL, "": none is */
};

/* Strings of *out live in a; diagnostics get file, object and line. */
void document_read(struct arena *a, const struct node *root, const struct document_options *o, struct diags *diags,
	struct document *out);
