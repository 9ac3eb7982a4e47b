/*
 * DOC: Numbers and durations from text. A value is taken only when the whole string is one: no white space, no
 * trailing characters, no silent wrap-around. Durations follow the grammar of Go's time.ParseDuration, which is what
 * Istio's YAML is written in: a sign, then decimal numbers with units, or a bare 0.
 */
#include <math.h>
#include <stdlib.h>

#include "common/base/str.h"

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

bool str_u64(struct str s, uint64_t max, uint64_t *out)
{
	uint64_t value = 0;

	if (s.len == 0)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		if (!is_digit(s.ptr[i]) || __builtin_mul_overflow(value, 10u, &value) ||
			__builtin_add_overflow(value, (uint64_t)(s.ptr[i] - '0'), &value))
			return false;
	}
	if (value > max)
		return false;
	*out = value;
	return true;
}

bool str_i64(struct str s, int64_t min, int64_t max, int64_t *out)
{
	bool negative = s.len > 0 && s.ptr[0] == '-';
	uint64_t magnitude;
	int64_t value;

	if (!str_u64(negative ? str_from(s, 1) : s, (uint64_t)INT64_MAX + (negative ? 1 : 0), &magnitude))
		return false;
	value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
	if (value < min || value > max)
		return false;
	*out = value;
	return true;
}

bool str_u32(struct str s, uint32_t max, uint32_t *out)
{
	uint64_t value;

	if (!str_u64(s, max, &value))
		return false;
	*out = (uint32_t)value;
	return true;
}

bool str_double(struct str s, double *out)
{
	char text[128];
	char *end;
	double value;

	if (s.len == 0 || s.len >= sizeof(text))
		return false;
	/* strtod also takes white space, hexadecimal, "inf" and "nan"; none of them is a number here. */
	for (size_t i = 0; i < s.len; i++) {
		if (!is_digit(s.ptr[i]) && !strchr("+-.eE", s.ptr[i]))
			return false;
		if (s.ptr[i] == '\0')
			return false;
		text[i] = s.ptr[i];
	}
	text[s.len] = '\0';
	value = strtod(text, &end);
	if (end != text + s.len || !isfinite(value))
		return false;
	*out = value;
	return true;
}

static uint64_t duration_unit(struct str s, size_t *len)
{
	static const struct {
		const char *name;
		uint64_t ns;
	} units[] = {
		{"ns", 1},
		{"us", 1000},
		{"\xc2\xb5s", 1000},
		{"\xce\xbcs", 1000},
		{"ms", 1000000},
		{"s", 1000000000},
		{"m", UINT64_C(60000000000)},
		{"h", UINT64_C(3600000000000)},
	};

	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (str_starts(s, str_of(units[i].name))) {
			*len = strlen(units[i].name);
			return units[i].ns;
		}
	}
	return 0;
}

/* The fraction's digits times the unit; digits too small to matter are dropped, as Go does. */
static uint64_t fraction_ns(struct str digits, uint64_t unit)
{
	double value = 0;
	double scale = 1;

	for (size_t i = 0; i < digits.len && i < 18; i++) {
		value = value * 10 + (digits.ptr[i] - '0');
		scale *= 10;
	}
	return (uint64_t)(value * ((double)unit / scale));
}

static struct str take_digits(struct str *s)
{
	size_t n = 0;

	while (n < s->len && is_digit(s->ptr[n]))
		n++;
	struct str digits = str_sub(*s, 0, n);

	*s = str_from(*s, n);
	return digits;
}

/* One "1.5h" off the front, added to *total; false on bad syntax or overflow. */
static bool take_term(struct str *s, uint64_t *total)
{
	struct str whole = take_digits(s);
	struct str fraction = {0};
	uint64_t value = 0;
	uint64_t unit;
	size_t unit_len;

	if (s->len > 0 && s->ptr[0] == '.') {
		*s = str_from(*s, 1);
		fraction = take_digits(s);
	}
	if (whole.len == 0 && fraction.len == 0)
		return false;
	if (whole.len > 0 && !str_u64(whole, UINT64_MAX, &value))
		return false;
	unit = duration_unit(*s, &unit_len);
	if (unit == 0 || __builtin_mul_overflow(value, unit, &value) ||
		__builtin_add_overflow(value, fraction_ns(fraction, unit), &value))
		return false;
	*s = str_from(*s, unit_len);
	return !__builtin_add_overflow(*total, value, total);
}

bool str_duration(struct str s, int64_t *out_ns)
{
	uint64_t total = 0;
	bool negative = s.len > 0 && s.ptr[0] == '-';

	if (s.len > 0 && (s.ptr[0] == '-' || s.ptr[0] == '+'))
		s = str_from(s, 1);
	if (s.len == 0)
		return false;
	if (str_eq(s, STR("0"))) {
		*out_ns = 0;
		return true;
	}
	while (s.len > 0) {
		if (!take_term(&s, &total))
			return false;
	}
	if (total > (uint64_t)INT64_MAX)
		return false;
	*out_ns = negative ? -(int64_t)total : (int64_t)total;
	return true;
}
