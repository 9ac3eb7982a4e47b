/* DOC: `sim RENDERED.json` reads one request a line from standard input and answers each with a line. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/sim.h"

int main(int argc, char **argv)
{
	json_error_t e;
	json_t *resources = argc == 2 ? json_load_file(argv[1], 0, &e) : NULL, *request;
	char line[65536];

	if (!resources) {
		(void)fprintf(stderr, "usage: sim RENDERED.json < REQUESTS\n");
		return 2;
	}
	while (fgets(line, sizeof(line), stdin)) {
		json_t *answer;

		if (!(request = json_loads(line, 0, &e))) {
			(void)fprintf(stderr, "request: %s\n", e.text);
			json_decref(resources);
			return 2;
		}
		answer = sim_walk(resources, request);
		(void)json_dumpf(answer, stdout, JSON_COMPACT | JSON_SORT_KEYS);
		(void)putchar('\n');
		json_decref(answer);
		json_decref(request);
	}
	json_decref(resources);
	return 0;
}
