/* The state-of-the-world ADS stream, passed through to pilot as it is: for clients other than our Envoy, whose bootstrap asks for delta. */
#pragma once

#include "common/io/grpc.h"

/* *channel may be NULL until there is one; while it is not connected, streams are ended with UNAVAILABLE and the client comes again. */
void sotw_relay_route(struct grpc_server *s, struct grpc_channel **channel);
