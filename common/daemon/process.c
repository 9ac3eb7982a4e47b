/*
 * DOC: What the kernel knows about this process: memory, processor time, descriptors. The metric names are the ones
 * every Prometheus client library uses, so that ordinary dashboards work. Private bytes are the honest size of a
 * process: what would come back if it ended, without the pages it shares with others.
 */
#include <dirent.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/metric.h"
#include "common/daemon/daemon_internal.h"
#include "common/io/file.h"

METRIC(build_info, GAUGE, "fairlead_build_info", "Version of the running program; the value is always 1", "program",
	"version");
METRIC(resident_bytes, GAUGE, "process_resident_memory_bytes", "Resident memory in bytes");
METRIC(cpu_seconds, COUNTER, "process_cpu_seconds_total", "User and system processor time spent, in seconds");
METRIC(start_time, GAUGE, "process_start_time_seconds", "When the process started, in seconds since 1970");
METRIC(open_fds, GAUGE, "process_open_fds", "Open file descriptors");
METRIC(max_fds, GAUGE, "process_max_fds", "How many file descriptors may be open");

static void read_resident(void)
{
	cleanup(free_p) char *text = NULL;
	size_t len = 0;
	struct str size;
	struct str rest;
	struct str pages;
	uint64_t n;

	if (!file_read("/proc/self/statm", 4096, &text, &len, NULL))
		return;
	(void)str_cut(str_n(text, len), ' ', &size, &rest);
	(void)str_cut(rest, ' ', &pages, &rest);
	if (str_u64(pages, UINT64_MAX / 65536, &n))
		metric_set(&resident_bytes, n * (uint64_t)sysconf(_SC_PAGESIZE));
}

static double seconds(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static void count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t n = 0;

	if (!dir)
		return;
	while (readdir(dir))
		n++;
	closedir(dir);
	/* Without ".", ".." and the descriptor of the directory itself. */
	metric_set(&open_fds, n - 3);
}

static void on_scrape(void *ctx)
{
	struct rusage usage;
	struct rlimit limit;

	read_resident();
	count_fds();
	if (getrusage(RUSAGE_SELF, &usage) == 0)
		metric_set(&cpu_seconds, seconds(usage.ru_utime) + seconds(usage.ru_stime));
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		metric_set(&max_fds, limit.rlim_cur);
}

void process_metrics_start(const char *program)
{
	metric_set(&build_info, 1, program, FAIRLEAD_VERSION);
	metric_set(&start_time, (double)clock_wall_ms() / 1000.0);
	metric_on_scrape(on_scrape, NULL);
}

/* "Private_Dirty:      1234 kB" -> bytes. */
static bool smaps_value(struct str line, struct str *name, uint64_t *bytes)
{
	struct str value;

	if (!str_cut(line, ':', name, &value))
		return false;
	value = str_trim(value);
	if (!str_ends(value, STR(" kB")))
		return false;
	value.len -= 3;
	if (!str_u64(str_trim(value), UINT64_MAX / 1024, bytes))
		return false;
	*bytes *= 1024;
	return true;
}

void process_write_memory(struct strbuf *out)
{
	static const struct {
		const char *smaps;
		const char *json;
	} shown[] = {
		{"Rss", "rss_bytes"}, {"Pss", "pss_bytes"}, {"Anonymous", "anonymous_bytes"}, {"Swap", "swap_bytes"}};
	cleanup(free_p) char *text = NULL;
	size_t len = 0;
	struct str line;
	struct str name;
	uint64_t bytes;
	uint64_t private_bytes = 0;
	struct mallinfo2 heap = mallinfo2();

	strbuf_addf(out, "\"heap_used_bytes\":%zu,\"heap_mapped_bytes\":%zu", heap.uordblks, heap.arena + heap.hblkhd);
	if (file_read("/proc/self/smaps_rollup", 65536, &text, &len, NULL)) {
		for (struct str rest = str_n(text, len); str_split(&rest, '\n', &line);) {
			if (!smaps_value(line, &name, &bytes))
				continue;
			if (str_eq(name, STR("Private_Clean")) || str_eq(name, STR("Private_Dirty")))
				private_bytes += bytes;
			for (size_t i = 0; i < ARRAY_LEN(shown); i++) {
				if (str_eqc(name, shown[i].smaps))
					strbuf_addf(out, ",\"%s\":%llu", shown[i].json, (unsigned long long)bytes);
			}
		}
		strbuf_addf(out, ",\"private_bytes\":%llu", (unsigned long long)private_bytes);
	}
}
