/*
 * DOC: Runs a fuzz target over every file of the directories given: the seeds, and what earlier fuzzing found, as an ordinary test.
 * A directory without any file is a failure, so that a test cannot pass by having nothing to do.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/err.h"
#include "common/base/str.h"
#include "common/io/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t run_dir(const char *dir)
{
	struct dirent **names = NULL;
	int n = scandir(dir, &names, NULL, alphasort);
	size_t done = 0;
	for (int i = 0; i < n; i++) {
		if (names[i]->d_name[0] != '.') {
			char *path = xasprintf("%s/%s", dir, names[i]->d_name);
			char *content = NULL;
			size_t len = 0;
			struct err e = {0};
			if (!file_read(path, SIZE_MAX / 2, &content, &len, &e)) {
				(void)fprintf(stderr, "%s\n", e.text);
				exit(1);
			}
			/* A copy of the exact size, so that the sanitizer sees reads past the end. */
			uint8_t *exact = xmalloc(len ? len : 1);
			memcpy(exact, content, len);
			(void)LLVMFuzzerTestOneInput(exact, len);
			free(exact);
			free(content);
			free(path);
			done++;
		}
		free(names[i]);
	}
	free(names);
	return done;
}

int main(int argc, char **argv)
{
	size_t total = 0;
	for (int i = 1; i < argc; i++)
		total += run_dir(argv[i]);
	(void)printf("%zu inputs\n", total);
	return total ? 0 : 1;
}
