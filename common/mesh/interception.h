/* The words of sidecar.istio.io/interceptionMode and of ProxyConfig.interceptionMode. */
#pragma once

#include "common/base/err.h"
#include "common/base/str.h"

static inline bool interception_mode_is_known(const char *mode)
{
	return streq(mode, "REDIRECT") || streq(mode, "TPROXY") || streq(mode, "NONE");
}

MUST_CHECK static inline bool interception_mode_check(const char *mode, struct err *e)
{
	return interception_mode_is_known(mode) ||
	       err_set(e, ERR_PEER, "\"%.60s\" is not REDIRECT, TPROXY or NONE", mode);
}
