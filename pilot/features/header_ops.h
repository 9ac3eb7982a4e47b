/* Headers.request/response {set, add, remove} on anything that has Envoy's four header fields (routes, weighted clusters). */
#pragma once

#include "common/pb/pb.h"
#include "pilot/translate/build.h"

/* Host is no ordinary header: it is rewritten by the route action, not added. */
const char *header_host(const Cfg__Headers__HeaderOperations *ops);
bool header_is_host(const char *name);

#define header_ops_side(a, ops, out, to_add, to_remove) \
	do { \
		for (size_t i_ = 0; i_ < (ops)->n_set; i_++) \
			if (!header_is_host((ops)->set[i_]->key)) \
				pb_add((a), (out), to_add, \
					build_header((a), (ops)->set[i_]->key, (ops)->set[i_]->value, false)); \
		for (size_t i_ = 0; i_ < (ops)->n_add; i_++) \
			if (!header_is_host((ops)->add[i_]->key)) \
				pb_add((a), (out), to_add, \
					build_header((a), (ops)->add[i_]->key, (ops)->add[i_]->value, true)); \
		for (size_t i_ = 0; i_ < (ops)->n_remove; i_++) \
			pb_add((a), (out), to_remove, arena_strdup((a), (ops)->remove[i_])); \
	} while (0)

#define header_ops(a, headers, out) \
	do { \
		const Cfg__Headers *headers_ = (headers); \
		if (headers_ && headers_->request) \
			header_ops_side(a, headers_->request, out, request_headers_to_add, request_headers_to_remove); \
		if (headers_ && headers_->response) \
			header_ops_side( \
				a, headers_->response, out, response_headers_to_add, response_headers_to_remove); \
	} while (0)
