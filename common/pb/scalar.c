/*
 * DOC: Resolution of plain scalars, after the table and the order of tests of the YAML reader that Kubernetes uses
 * (goyaml.v2 inside sigs.k8s.io/yaml): words of YAML 1.1 are booleans, also single letters y and n; integers may be
 * hexadecimal, octal (017 and 0o17) or binary and have underscores; what is left may be a float. "08" is no octal number
 * and so reads as a float; sexagesimal numbers and dates are strings.
 */
#include "common/pb/scalar.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define NUMBER_TEXT_MAX 400 /* digits of the longest double written out, and some */

static const char *const true_words[] = {"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"};
static const char *const false_words[] = {"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"};
static const char *const null_words[] = {"", "~", "null", "Null", "NULL"};
static const struct {
	const char *text;
	double value;
} real_words[] = {
	{".nan", NAN},
	{".NaN", NAN},
	{".NAN", NAN},
	{".inf", INFINITY},
	{".Inf", INFINITY},
	{".INF", INFINITY},
	{"+.inf", INFINITY},
	{"+.Inf", INFINITY},
	{"+.INF", INFINITY},
	{"-.inf", -INFINITY},
	{"-.Inf", -INFINITY},
	{"-.INF", -INFINITY},
};

static bool one_of(struct str text, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (str_eqc(text, words[i]))
			return true;
	return false;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

bool scalar_is_true(struct str text)
{
	return one_of(text, true_words, ARRAY_LEN(true_words));
}

enum node_type scalar_type(struct str text)
{
	struct number n;
	if (one_of(text, null_words, ARRAY_LEN(null_words)))
		return NODE_NULL;
	if (text.len <= 5 && (scalar_is_true(text) || one_of(text, false_words, ARRAY_LEN(false_words))))
		return NODE_BOOL;
	return scalar_number(text, &n) ? NODE_NUMBER : NODE_STRING;
}

static int digit_value(char c)
{
	if (is_digit(c))
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return 16;
}

static bool digits(struct str s, unsigned base, uint64_t *out)
{
	uint64_t value = 0;
	for (size_t i = 0; i < s.len; i++) {
		unsigned d = (unsigned)digit_value(s.ptr[i]);
		if (d >= base || __builtin_mul_overflow(value, base, &value) ||
			__builtin_add_overflow(value, d, &value))
			return false;
	}
	*out = value;
	return s.len > 0;
}

static bool has_prefix_letter(struct str s, char lower)
{
	return s.len > 2 && s.ptr[0] == '0' && (s.ptr[1] | 0x20) == lower;
}

/* Go's rule for base 0: 0x, 0o, 0b and a leading zero choose the base. */
static bool whole(struct str s, uint64_t *out)
{
	if (has_prefix_letter(s, 'x'))
		return digits(str_from(s, 2), 16, out);
	if (has_prefix_letter(s, 'o'))
		return digits(str_from(s, 2), 8, out);
	if (has_prefix_letter(s, 'b'))
		return digits(str_from(s, 2), 2, out);
	if (s.len > 1 && s.ptr[0] == '0')
		return digits(str_from(s, 1), 8, out);
	return digits(s, 10, out);
}

static size_t skip_digits(struct str s, size_t at)
{
	while (at < s.len && is_digit(s.ptr[at]))
		at++;
	return at;
}

/* [-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)? */
static bool looks_real(struct str s)
{
	size_t at = s.len > 0 && (s.ptr[0] == '-' || s.ptr[0] == '+');
	size_t start = at;
	at = skip_digits(s, at);
	size_t whole_digits = at - start;
	if (at < s.len && s.ptr[at] == '.') {
		size_t point = ++at;
		at = skip_digits(s, at);
		if (whole_digits == 0 && at == point)
			return false;
	} else if (whole_digits == 0) {
		return false;
	}
	if (at < s.len && (s.ptr[at] | 0x20) == 'e') {
		at++;
		if (at < s.len && (s.ptr[at] == '-' || s.ptr[at] == '+'))
			at++;
		size_t exponent = at;
		at = skip_digits(s, at);
		if (at == exponent)
			return false;
	}
	return at == s.len;
}

/* An integral double within 64 bits counts as an integer: 1.0 and 1e3 are valid for an integer field. */
static void set_real(double value, struct number *out)
{
	*out = (struct number){.real = value};
	double size = fabs(value);
	if (size < 18446744073709551616.0 && floor(size) == size) {
		out->integral = true;
		out->negative = value < 0;
		out->magnitude = (uint64_t)size;
	}
}

static bool real_number(const char *text, struct number *out)
{
	if (!looks_real(str_of(text)))
		return false;
	double value = strtod(text, NULL);
	if (isinf(value)) /* beyond the range of a double: Go's parser refuses it, and it stays a string */
		return false;
	set_real(value, out);
	return true;
}

static bool real_word(struct str text, struct number *out)
{
	for (size_t i = 0; i < ARRAY_LEN(real_words); i++) {
		if (str_eqc(text, real_words[i].text)) {
			*out = (struct number){.real = real_words[i].value};
			return true;
		}
	}
	return false;
}

bool scalar_number(struct str text, struct number *out)
{
	char plain[NUMBER_TEXT_MAX];
	size_t len = 0;
	if (text.len == 0 || text.len >= sizeof(plain))
		return false;
	if (text.ptr[0] != '.' && text.ptr[0] != '+' && text.ptr[0] != '-' && !is_digit(text.ptr[0]))
		return false;
	if (real_word(text, out))
		return true;
	for (size_t i = 0; i < text.len; i++)
		if (text.ptr[i] != '_')
			plain[len++] = text.ptr[i];
	plain[len] = '\0';
	if (memchr(plain, '\0', len) || (text.ptr[0] == '.' && len != text.len))
		return false;
	bool negative = plain[0] == '-';
	bool sign = negative || plain[0] == '+';
	uint64_t magnitude;
	if (whole(str_n(plain + sign, len - sign), &magnitude) && (!negative || magnitude <= (uint64_t)1 << 63)) {
		double real = (double)magnitude;
		*out = (struct number){true, negative && magnitude, magnitude, negative ? -real : real};
		return true;
	}
	return real_number(plain, out);
}

bool number_u64(const struct number *n, uint64_t max, uint64_t *out)
{
	if (!n->integral || n->negative || n->magnitude > max)
		return false;
	*out = n->magnitude;
	return true;
}

bool number_i64(const struct number *n, int64_t min, int64_t max, int64_t *out)
{
	if (!n->integral || n->magnitude > (uint64_t)INT64_MAX + n->negative)
		return false;
	int64_t value = n->negative ? -(int64_t)(n->magnitude - 1) - 1 : (int64_t)n->magnitude;
	if (value < min || value > max)
		return false;
	*out = value;
	return true;
}

static bool reads_back(const char *text, double value, bool single)
{
	return single ? strtof(text, NULL) == (float)value : strtod(text, NULL) == value;
}

/* "1e+21" -> "1e+21", "1e-07" -> "1e-7": as Go and JavaScript write exponents. */
static void trim_exponent(char *text)
{
	char *e = strchr(text, 'e');
	if (e && e[1] && e[2] == '0' && e[3])
		memmove(e + 2, e + 3, strlen(e + 3) + 1);
}

void real_text(double value, bool single, char out[REAL_TEXT_MAX])
{
	if (floor(value) == value && fabs(value) < 1e15) {
		/* "-0" would be read as an integer, which has no such zero. */
		(void)snprintf(out, REAL_TEXT_MAX, value == 0 && signbit(value) ? "-0.0" : "%.0f", value);
		if (reads_back(out, value, single))
			return;
	}
	for (int precision = single ? 6 : 15; precision <= 17; precision++) {
		(void)snprintf(out, REAL_TEXT_MAX, "%.*g", precision, value);
		if (reads_back(out, value, single))
			break;
	}
	trim_exponent(out);
}
