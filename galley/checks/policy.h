/* Checks that policies share: what they are attached to, and lists of texts with a form of their own. */
#pragma once

#include "cfg/type.pb-c.h"
#include "galley/checks/check.h"

/* Whom a policy is for: workloads by label, or named objects; both NULL: everyone of its namespace. */
struct attachment {
	const IType__WorkloadSelector *selector;
	const IType__PolicyTargetReference *ref; /* the older form: one */
	size_t n_refs;
	IType__PolicyTargetReference *const *refs;
};
#define ATTACHMENT(m) ((struct attachment){(m)->selector, (m)->targetref, (m)->n_targetrefs, (m)->targetrefs})
void check_attachment(struct check *c, const struct attachment *a, const char *source);

check_fn check_length; /* a list of at most `max` items, a text of at most `max` bytes */
check_fn check_header_name; /* RFC 9110 */
check_fn check_port_text; /* "0" to "65535" */
check_fn check_path_template; /* a path; {*} is one part of it, {**} the rest */
check_fn check_service_account; /* "name" or "namespace/name" */
check_fn check_key_uri; /* http or https, with a host */
