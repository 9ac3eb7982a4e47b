/* The hosts that a VirtualService sends to: its destinations and mirrors. */
#pragma once

#include <stdbool.h>

#include "cfg/networking/virtual_service.pb-c.h"

/* Calls fn for each, until it returns true; the result of the last call. A host may come several times. */
bool each_destination(const Cfg__VirtualService *vs, bool (*fn)(void *ctx, const char *host), void *ctx);
