/* Files that replicas sharing a directory make at first use: whoever is first wins, all others read what the winner wrote. */
#pragma once

#include "common/base/arena.h"
#include "common/base/err.h"
#include "common/pki/pki.h"

/* Makes the file with this content unless it is there. True also when somebody else was first. */
bool once_write(const char *path, struct str content, unsigned mode, struct err *e) MUST_CHECK;
/* "<dir>/<name>" in the arena. */
const char *path_in(struct arena *a, const char *dir, const char *name);
/* Whole file into the arena; an absent file is an error. Not for secrets: arenas are not wiped. */
bool read_text(struct arena *a, const char *path, struct str *out, struct err *e) MUST_CHECK;
/* A private key in PEM; NULL on error. The text is wiped. */
struct pki_key *read_key(const char *path, struct err *e);
