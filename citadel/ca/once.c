/*
 * DOC: link(2) is the only atomic "create this whole file unless it exists" that works on shared file systems too: the content is written
 * under a name of its own first, so that a reader never sees a part of it, and a crash leaves nothing that would look like a key.
 */
#include "citadel/ca/once.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/io/file.h"

bool once_write(const char *path, struct str content, unsigned mode, struct err *e)
{
	char *temporary cleanup(free_p) = xasprintf("%s.%016llx", path, (unsigned long long)random_u64());
	if (!file_write_atomic(temporary, content, mode, e))
		return false;
	int rc = link(temporary, path), error = errno;
	(void)unlink(temporary);
	errno = error;
	return rc == 0 || error == EEXIST || err_errno(e, "create %s", path);
}

const char *path_in(struct arena *a, const char *dir, const char *name)
{
	return arena_printf(a, "%s/%s", dir, name);
}

bool read_text(struct arena *a, const char *path, struct str *out, struct err *e)
{
	char *text cleanup(free_p) = NULL;
	size_t len = 0;
	if (!file_read(path, LIMIT_PEM_BYTES, &text, &len, e))
		return false;
	*out = str_n(arena_dup(a, text, len + 1), len);
	return true;
}

struct pki_key *read_key(const char *path, struct err *e)
{
	char *pem = NULL;
	size_t len = 0;
	if (!file_read(path, LIMIT_PEM_BYTES, &pem, &len, e))
		return NULL;
	struct pki_key *k = pki_key_parse(str_n(pem, len), e);
	if (!k)
		(void)err_in(e, "%s", path);
	secret_free(pem);
	return k;
}
