/*
 * Which of a list of labelled things have a label: so that the services of a namespace find their workloads without each looking at all of
 * them. Lives in the arena; immutable once filled.
 */
#pragma once

#include "common/base/arena.h"
#include "common/mesh/labels.h"

struct label_index;

struct label_index *label_index_new(struct arena *a);
void label_index_add(struct label_index *x, struct label_set labels, size_t position); /* in rising order */
/* Positions that may match the selector: all that do are among them, in rising order. False: any may (the selector is empty). */
bool label_index_find(const struct label_index *x, struct label_set selector, const size_t **out, size_t *n);
void label_index_done(struct label_index *x); /* what is not the arena's */
