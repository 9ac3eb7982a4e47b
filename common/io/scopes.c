/* DOC: The log scopes of common/io, defined once so that a level set for "grpc" holds for the server and the client. */
#include "common/io/scopes.h"

LOG_SCOPE_SHARED(io_log, "io", "event loop, files, processes and the HTTP client");
LOG_SCOPE_SHARED(grpc_log, "grpc", "gRPC connections and calls");
LOG_SCOPE_SHARED(tls_log, "tls", "TLS handshakes and identities");
