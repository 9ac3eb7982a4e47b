/* After this the process can read and write what it has open, allocate, tell the time and end; nothing else: no files, no network. */
#pragma once

#include "common/base/err.h"

bool sandbox_enter(struct err *e) MUST_CHECK;
