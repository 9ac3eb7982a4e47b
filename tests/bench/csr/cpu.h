/* CPU time of processes, out of /proc, and what OpenSSL's command does in the same minute. */
#pragma once

#include "common/base/err.h"

/* User and system time of the processes and of all their children that live, in seconds. An unknown pid is an error. */
bool cpu_of(const char *const *pids, double *out_s, struct err *e) MUST_CHECK;

struct floors {
	double sign_s, verify_s, agree_s; /* seconds of CPU for one operation on P-256 */
};
/* Runs `openssl speed`; takes about 4 s. */
bool floors_measure(struct floors *out, struct err *e) MUST_CHECK;
