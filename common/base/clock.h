/* The clocks and the randomness of the process, in one place so that tests can fix them. Protocol logic gets time as an argument. */
#pragma once

#include "common/base/util.h"

uint64_t clock_mono_ms(void); /* never goes back */
uint64_t clock_mono_us(void);
int64_t clock_wall_ms(void); /* since 1970, UTC */
void clock_fix_for_tests(bool fixed, uint64_t mono_ms, int64_t wall_ms);

/* RFC 3339 in UTC: "2026-01-02T03:04:05Z"; out holds at least 32 bytes. */
void clock_format(int64_t wall_ms, char out[32]);
bool clock_parse(const char *rfc3339, int64_t *out_wall_ms) MUST_CHECK;

void random_bytes(void *out, size_t len); /* getrandom(2) */
uint64_t random_u64(void);
/* base * (1 - spread .. 1 + spread), spread in 0..1. */
uint64_t random_jitter(uint64_t base, double spread);
/* How long to wait after so many failures in a row: first_ms after one (and none), doubled by each further one, max_ms at most; jittered. */
uint64_t random_backoff(unsigned failures, uint64_t first_ms, uint64_t max_ms, double spread);
