/* The log scopes of common/io: one per subject, used by several files. */
#pragma once

#include "common/base/log.h"

extern struct log_scope io_log; /* "io": loop, files, processes, HTTP client */
extern struct log_scope grpc_log; /* "grpc": connections and calls */
extern struct log_scope tls_log; /* "tls": handshakes and identities */
