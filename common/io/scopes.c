/* DOC: The log scopes of common/io, defined once so that a level set for "grpc" holds for the server and the client. */
#include "common/io/scopes.h"

struct log_scope io_log = LOG_SCOPE("io", "event loop, files, processes and the HTTP client");
struct log_scope grpc_log = LOG_SCOPE("grpc", "gRPC connections and calls");
struct log_scope tls_log = LOG_SCOPE("tls", "TLS handshakes and identities");
