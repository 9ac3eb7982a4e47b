/*
 * DOC: Clocks and randomness. Tests may freeze both clocks; nothing else in the tree calls clock_gettime. Times are
 * written and read as RFC 3339, which is what Kubernetes objects and certificates' reports use.
 */
#include "common/base/clock.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "common/base/str.h"

static _Atomic bool fixed_clock;
static _Atomic uint64_t fixed_mono_ms;
static _Atomic int64_t fixed_wall_ms;

void clock_fix_for_tests(bool fixed, uint64_t mono_ms, int64_t wall_ms)
{
	atomic_store(&fixed_mono_ms, mono_ms);
	atomic_store(&fixed_wall_ms, wall_ms);
	atomic_store(&fixed_clock, fixed);
}

uint64_t clock_mono_us(void)
{
	struct timespec now;

	if (atomic_load(&fixed_clock))
		return atomic_load(&fixed_mono_ms) * 1000;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t clock_mono_ms(void)
{
	return clock_mono_us() / 1000;
}

int64_t clock_wall_ms(void)
{
	struct timespec now;

	if (atomic_load(&fixed_clock))
		return atomic_load(&fixed_wall_ms);
	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void clock_format(int64_t wall_ms, char out[32])
{
	time_t seconds = (time_t)(wall_ms / 1000 - (wall_ms % 1000 < 0 ? 1 : 0));
	struct tm tm;

	if (!gmtime_r(&seconds, &tm) || strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		snprintf(out, 32, "invalid time");
}

/* Two (or four) digits at the front, in range. */
static bool take_number(struct str *s, size_t digits, uint32_t low, uint32_t high, int *out)
{
	uint32_t value;

	if (s->len < digits || !str_u32(str_sub(*s, 0, digits), high, &value) || value < low)
		return false;
	*s = str_from(*s, digits);
	*out = (int)value;
	return true;
}

static bool take_char(struct str *s, const char *any_of)
{
	if (s->len == 0 || s->ptr[0] == '\0' || !strchr(any_of, s->ptr[0]))
		return false;
	*s = str_from(*s, 1);
	return true;
}

static int days_in_month(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days[month - 1] + (leap && month == 2 ? 1 : 0);
}

static bool take_date(struct str *s, struct tm *tm)
{
	int year, month, day;

	if (!take_number(s, 4, 0, 9999, &year) || !take_char(s, "-") || !take_number(s, 2, 1, 12, &month) ||
		!take_char(s, "-") || !take_number(s, 2, 1, 31, &day) || day > days_in_month(year, month))
		return false;
	tm->tm_year = year - 1900;
	tm->tm_mon = month - 1;
	tm->tm_mday = day;
	return true;
}

static bool take_time(struct str *s, struct tm *tm, int *ms)
{
	int scale = 100;

	if (!take_number(s, 2, 0, 23, &tm->tm_hour) || !take_char(s, ":") || !take_number(s, 2, 0, 59, &tm->tm_min) ||
		!take_char(s, ":") || !take_number(s, 2, 0, 60, &tm->tm_sec))
		return false;
	*ms = 0;
	if (!take_char(s, "."))
		return true;
	if (s->len == 0 || !strchr("0123456789", s->ptr[0]))
		return false;
	while (s->len > 0 && s->ptr[0] >= '0' && s->ptr[0] <= '9') {
		*ms += (s->ptr[0] - '0') * scale;
		scale /= 10;
		*s = str_from(*s, 1);
	}
	return true;
}

static bool take_offset(struct str *s, int *seconds)
{
	int hours, minutes;
	bool west;

	*seconds = 0;
	if (take_char(s, "Zz"))
		return true;
	west = s->len > 0 && s->ptr[0] == '-';
	if (!take_char(s, "+-") || !take_number(s, 2, 0, 23, &hours) || !take_char(s, ":") ||
		!take_number(s, 2, 0, 59, &minutes))
		return false;
	*seconds = (hours * 60 + minutes) * 60 * (west ? -1 : 1);
	return true;
}

bool clock_parse(const char *rfc3339, int64_t *out_wall_ms)
{
	struct str s = str_of(rfc3339);
	struct tm tm = {0};
	int ms, offset;

	if (!take_date(&s, &tm) || !take_char(&s, "Tt ") || !take_time(&s, &tm, &ms) || !take_offset(&s, &offset) ||
		s.len > 0)
		return false;
	*out_wall_ms = ((int64_t)timegm(&tm) - offset) * 1000 + ms;
	return true;
}

void random_bytes(void *out, size_t len)
{
	char *at = out;

	while (len > 0) {
		ssize_t got = getrandom(at, len, 0);

		if (got < 0 && errno == EINTR)
			continue;
		/* Without randomness there are no keys and no nonces: nothing safe is left to do. */
		if (got <= 0)
			abort();
		at += got;
		len -= (size_t)got;
	}
}

uint64_t random_u64(void)
{
	uint64_t value;

	random_bytes(&value, sizeof(value));
	return value;
}

uint64_t random_jitter(uint64_t base, double spread)
{
	/* 53 bits: what a double holds exactly. */
	double unit = (double)(random_u64() >> 11) / (double)(UINT64_C(1) << 53);

	return (uint64_t)((double)base * (1.0 - spread + 2.0 * spread * unit));
}

uint64_t random_backoff(unsigned failures, uint64_t first_ms, uint64_t max_ms, double spread)
{
	uint64_t ms = first_ms;

	for (unsigned i = 1; i < failures && ms < max_ms; i++)
		ms = ms > max_ms / 2 ? max_ms : ms * 2;
	return random_jitter(ms < max_ms ? ms : max_ms, spread);
}
