/* DOC: Measuring. CPU time comes from the process's clock, which has nanoseconds where /proc/PID/stat has hundredths of seconds. */
#include "tests/bench/load_measure.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "common/base/str.h"

bool load_pids_parse(struct load_pids *p, const char *list, struct err *e)
{
	struct str rest = str_of(list), part;
	p->n = 0;
	while (rest.len && str_split(&rest, ',', &part)) {
		uint32_t pid;
		if (p->n == LOAD_PIDS_MAX || !str_u32(part, 1u << 22, &pid))
			return err_set(e, ERR_PEER, "\"%s\": at most %d process ids with commas", list, LOAD_PIDS_MAX);
		p->items[p->n++] = (pid_t)pid;
	}
	return true;
}

uint64_t load_cpu_ns(const struct load_pids *p)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < p->n; i++) {
		clockid_t clock;
		struct timespec t;
		if (!clock_getcpuclockid(p->items[i], &clock) && !clock_gettime(clock, &t))
			sum += (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
	}
	return sum;
}

uint64_t load_private_bytes(const struct load_pids *p)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < p->n; i++) {
		char path[64], line[256];
		(void)snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)p->items[i]);
		FILE *f = fopen(path, "re");
		while (f && fgets(line, sizeof(line), f)) {
			struct str text = str_trim(str_of(line)), name, value;
			uint64_t kb;
			if (!str_starts(text, STR("Private_")) || !str_cut(text, ':', &name, &value))
				continue;
			value = str_trim(value);
			if (!str_eqc(name, "Private_Hugetlb") &&
				str_u64(str_sub(value, 0, value.len - 3), UINT32_MAX, &kb))
				sum += kb * 1024;
		}
		if (f)
			(void)fclose(f);
	}
	return sum;
}

void load_latency(struct load_latencies *l, uint64_t from_us, uint64_t to_us)
{
	uint64_t us = to_us > from_us ? to_us - from_us : 0;
	vec_push(l, (uint32_t)(us < UINT32_MAX ? us : UINT32_MAX));
}

static int by_size(const void *x, const void *y)
{
	uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
	return a < b ? -1 : a > b;
}

double load_quantile_ms(struct load_latencies *l, double share)
{
	if (!l->len)
		return 0;
	qsort(l->items, l->len, sizeof(*l->items), by_size);
	size_t at = (size_t)(share * (double)(l->len - 1) + 0.5);
	return (double)l->items[at] / 1000;
}
