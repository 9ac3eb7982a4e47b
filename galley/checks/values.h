/* Checks of values: numbers, durations, percentages, regular expressions, HTTP header names and values, addresses, protocols. */
#pragma once

#include "galley/checks/check.h"

check_fn check_number; /* any integer or double between min and max */
check_fn check_port; /* 1..65535 */
check_fn check_port_message; /* a message with a `number` field: PortSelector */
check_fn check_duration; /* a Duration of min..max milliseconds (max 0: none), in whole milliseconds */
check_fn check_percentage; /* a Percent message: 0, or 0.0001..100 */
check_fn check_wrapped; /* a wrapper message (UInt32Value, DoubleValue ...), its value between min and max */
check_fn check_regex; /* RE2 */
check_fn check_string_match; /* StringMatch: a value is chosen, prefix and regex not empty, regex compiles */
check_fn check_uri_match; /* as above, but an empty prefix matches everything */
check_fn check_without_header; /* as check_string_match, and the regex "*" means "is present" */
check_fn check_header_remove;
check_fn check_cors_header;
check_fn check_cors_method;
check_fn check_retry_on;
check_fn check_grpc_status;
check_fn check_ip;
check_fn check_cidr; /* an address or an address/length */
check_fn check_protocol; /* a name that Istio knows, any case */
check_fn check_listener_protocol;
check_fn check_bind; /* an IP address or "unix:///path" */
check_fn check_trust_domain;
check_fn check_non_empty;
check_fn check_one_line; /* text of URLs that Envoy takes without CR and LF only */

bool header_name_ok(struct str s); /* RFC 9110 token */
/* Control characters, %COMMAND% that Envoy does not know, too long: each makes Envoy refuse all routes of the resource. */
const char *header_value_problem(struct str s);
/* %NAME% or %NAME(arguments)% (substitution.c); NULL: Envoy takes it. */
const char *substitution_problem(struct str name, bool has_arguments);
const char *unix_path_problem(struct str path);
bool cidr_ok(struct str s);

/* "http2" -> "HTTP2"; "" for names that Istio does not know. */
const char *protocol_canonical(struct str name);
