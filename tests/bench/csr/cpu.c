/* DOC: /proc/PID/stat: fields 14 and 15 are user and system time in ticks; children are found by field 4 (proc(5)). */
#include "tests/bench/csr/cpu.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/str.h"

struct stat_line {
	unsigned long parent, user, system;
};

static bool read_stat(const char *pid, struct stat_line *out)
{
	char path[64], text[1024];
	(void)snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
	FILE *f = fopen(path, "r");
	size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
	if (f)
		(void)fclose(f);
	text[n] = 0;
	const char *rest = strrchr(text, ')'); /* the name may have anything in it */
	return rest && sscanf(rest + 1, " %*c %lu %*u %*u %*u %*d %*u %*u %*u %*u %*u %lu %lu", &out->parent,
			       &out->user, &out->system) == 3;
}

static unsigned long ticks_of_children(const char *pid)
{
	unsigned long sum = 0, parent = strtoul(pid, NULL, 10);
	DIR *d = opendir("/proc");
	struct stat_line s;
	for (struct dirent *entry; d && (entry = readdir(d)) != NULL;)
		if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9' && read_stat(entry->d_name, &s) &&
			s.parent == parent)
			sum += s.user + s.system;
	if (d)
		(void)closedir(d);
	return sum;
}

bool cpu_of(const char *const *pids, double *out_s, struct err *e)
{
	unsigned long sum = 0;
	for (size_t i = 0; pids[i]; i++) {
		struct stat_line s;
		if (!read_stat(pids[i], &s))
			return err_set(e, ERR_SYSTEM, "--pid %s: there is no such process", pids[i]);
		sum += s.user + s.system + ticks_of_children(pids[i]);
	}
	*out_s = (double)sum / (double)sysconf(_SC_CLK_TCK);
	return true;
}

bool floors_measure(struct floors *out, struct err *e)
{
	FILE *f = popen("openssl speed -seconds 1 ecdsap256 ecdhp256 2>/dev/null", "r");
	char line[256];
	double sign = 0, verify = 0, agree = 0;
	while (f && fgets(line, sizeof(line), f)) {
		(void)sscanf(line, " 256 bits ecdsa (nistp256) %*fs %*fs %lf %lf", &sign, &verify);
		(void)sscanf(line, " 256 bits ecdh (nistp256) %*fs %lf", &agree);
	}
	if (!f || pclose(f) || sign <= 0 || verify <= 0 || agree <= 0)
		return err_set(e, ERR_SYSTEM, "`openssl speed ecdsap256 ecdhp256` gave no figures");
	*out = (struct floors){1 / sign, 1 / verify, 1 / agree};
	return true;
}
