/*
 * DOC: Durations and timestamps as text, by the rules of google/protobuf/duration.proto and timestamp.proto: a fraction
 * has 0, 3, 6 or 9 digits when written and 1 to 9 when read, a duration is at most 315 576 000 000 s either way. Days are
 * counted by the proleptic Gregorian calendar, with years that begin in March so that a leap day is the last of its year.
 */
#include "common/pb/wkt_text.h"

#define DURATION_MAX_S 315576000000
#define NANOS 1000000000
#define DAY_S 86400
#define TIMESTAMP_MIN (-62135596800) /* 0001-01-01T00:00:00Z */
#define TIMESTAMP_MAX 253402300799 /* 9999-12-31T23:59:59Z */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* 1 to 9 digits at the front of s as nanoseconds. */
static bool fraction(struct str *s, int32_t *nanos)
{
	int32_t value = 0;
	size_t n = 0;
	for (; n < s->len && is_digit(s->ptr[n]); n++) {
		if (n >= 9)
			return false;
		value = value * 10 + (s->ptr[n] - '0');
	}
	for (size_t i = n; i < 9; i++)
		value *= 10;
	*s = str_from(*s, n);
	*nanos = value;
	return n > 0;
}

static bool plain_seconds(struct str text, int64_t *seconds, int32_t *nanos)
{
	bool negative = str_starts(text, STR("-"));
	struct str s = str_from(text, negative);
	struct str digits;
	uint64_t whole = 0;
	size_t n = 0;
	*nanos = 0;
	while (n < s.len && is_digit(s.ptr[n]))
		n++;
	digits = str_sub(s, 0, n);
	s = str_from(s, n);
	if (!str_u64(digits, DURATION_MAX_S, &whole))
		return false;
	if (str_starts(s, STR("."))) {
		s = str_from(s, 1);
		if (!fraction(&s, nanos))
			return false;
	}
	if (!str_eqc(s, "s") || (whole == DURATION_MAX_S && *nanos > 0))
		return false;
	*seconds = negative ? -(int64_t)whole : (int64_t)whole;
	*nanos = negative ? -*nanos : *nanos;
	return true;
}

bool duration_read(struct str text, int64_t *seconds, int32_t *nanos)
{
	int64_t ns;
	int64_t s;
	int32_t n;
	if (plain_seconds(text, &s, &n)) {
		*seconds = s;
		*nanos = n;
		return true;
	}
	if (!str_duration(text, &ns))
		return false;
	*seconds = ns / NANOS;
	*nanos = (int32_t)(ns % NANOS);
	return true;
}

/* ".5" is written as ".500". */
static void write_fraction(uint32_t nanos, struct strbuf *out)
{
	if (nanos == 0)
		return;
	if (nanos % 1000000 == 0)
		strbuf_addf(out, ".%03u", nanos / 1000000);
	else if (nanos % 1000 == 0)
		strbuf_addf(out, ".%06u", nanos / 1000);
	else
		strbuf_addf(out, ".%09u", nanos);
}

void duration_write(int64_t seconds, int32_t nanos, struct strbuf *out)
{
	bool negative = seconds < 0 || nanos < 0;
	uint64_t whole = seconds < 0 ? 0 - (uint64_t)seconds : (uint64_t)seconds;
	uint32_t part = nanos < 0 ? 0 - (uint32_t)nanos : (uint32_t)nanos;
	strbuf_addf(out, "%s%llu", negative ? "-" : "", (unsigned long long)whole);
	write_fraction(part % NANOS, out);
	strbuf_addc(out, 's');
}

/* Days since 1970-01-01. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
	int64_t y = month <= 2 ? year - 1 : year;
	int64_t m = month <= 2 ? month + 9 : month - 3; /* March = 0 */
	int64_t leap_days = y / 4 - y / 100 + y / 400;
	return y * 365 + leap_days + (m * 153 + 2) / 5 + day - 1 - 719468;
}

static int64_t month_days(int64_t year, int64_t month)
{
	return month == 12 ? 31 : days_of(year, month + 1, 1) - days_of(year, month, 1);
}

/* A number of exactly n digits, then one of the characters of `end` (NULL: nothing more is looked at). */
static bool part(struct str *s, size_t n, const char *end, int64_t max, int64_t *out)
{
	if (s->len < n + (end != NULL) || (end && (!s->ptr[n] || !strchr(end, s->ptr[n]))))
		return false;
	if (!is_digit(s->ptr[0]) || !str_i64(str_sub(*s, 0, n), 0, max, out))
		return false;
	*s = str_from(*s, n + (end != NULL));
	return true;
}

/* "Z" or "+01:00", in seconds. */
static bool offset(struct str s, int64_t *out)
{
	int64_t hours = 0;
	int64_t minutes = 0;
	*out = 0;
	if (str_eqc(s, "Z") || str_eqc(s, "z"))
		return true;
	if (s.len != 6 || (s.ptr[0] != '+' && s.ptr[0] != '-'))
		return false;
	bool west = s.ptr[0] == '-';
	s = str_from(s, 1);
	if (!part(&s, 2, ":", 23, &hours) || !part(&s, 2, NULL, 59, &minutes))
		return false;
	*out = (hours * 3600 + minutes * 60) * (west ? -1 : 1);
	return true;
}

bool timestamp_read(struct str s, int64_t *seconds, int32_t *nanos)
{
	int64_t year, month, day, hour, minute, second, east;
	int32_t part_ns = 0;
	if (!part(&s, 4, "-", 9999, &year) || !part(&s, 2, "-", 12, &month) || !part(&s, 2, "Tt", 31, &day) ||
		!part(&s, 2, ":", 23, &hour) || !part(&s, 2, ":", 59, &minute) || !part(&s, 2, NULL, 59, &second))
		return false;
	if (year < 1 || month < 1 || day < 1 || day > month_days(year, month))
		return false;
	if (str_starts(s, STR("."))) {
		s = str_from(s, 1);
		if (!fraction(&s, &part_ns))
			return false;
	}
	if (!offset(s, &east))
		return false;
	int64_t at = days_of(year, month, day) * DAY_S + hour * 3600 + minute * 60 + second - east;
	if (at < TIMESTAMP_MIN || at > TIMESTAMP_MAX)
		return false;
	*seconds = at;
	*nanos = part_ns;
	return true;
}

bool timestamp_write(int64_t seconds, int32_t nanos, struct strbuf *out)
{
	if (seconds < TIMESTAMP_MIN || seconds > TIMESTAMP_MAX || nanos < 0 || nanos >= NANOS)
		return false;
	int64_t days = (seconds - TIMESTAMP_MIN) / DAY_S + days_of(1, 1, 1);
	int64_t rest = (seconds - TIMESTAMP_MIN) % DAY_S;
	int64_t year = 1970 + (days < 0 ? days / 365 - 1 : days / 366); /* not after the true one */
	while (days_of(year + 1, 1, 1) <= days)
		year++;
	int64_t month = 1;
	while (month < 12 && days_of(year, month + 1, 1) <= days)
		month++;
	strbuf_addf(out, "%04d-%02d-%02dT%02d:%02d:%02d", (int)year, (int)month,
		(int)(days - days_of(year, month, 1) + 1), (int)(rest / 3600), (int)(rest / 60 % 60), (int)(rest % 60));
	write_fraction((uint32_t)nanos, out);
	strbuf_addc(out, 'Z');
	return true;
}
