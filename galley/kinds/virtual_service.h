/* VirtualService is too long for one file: validation is in virtual_service.c, normalisation in virtual_service_normal.c. */
#pragma once

#include "cfg/networking/virtual_service.pb-c.h"
#include "galley/kind.h"

extern const struct kind_ops virtual_service_ops;

/* Hosts, gateways, destinations, mirrors and deprecated spellings in the one form that pilot reads. */
void virtual_service_normalise(struct normal *n, void *message);
