/* Checks of a WebAssembly module: WasmPlugin has its fields at the top, TrafficExtension has them in a message. */
#pragma once

#include "cfg/extensions.pb-c.h"
#include "galley/checks/check.h"

check_fn check_module_url; /* oci (also without a scheme), http, https, file */
check_fn check_sha256; /* 64 hexadecimal digits, lower case */
void check_vm(struct check *c, const Ext__VmConfig *vm, const char *path);
