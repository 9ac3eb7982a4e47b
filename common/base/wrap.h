/*
 * For functions of a static library that the linker sends to us (ld --wrap=<function>): declares both names with the library's own type.
 * __wrap_<function> is ours to define; __real_<function> is the library's.
 */
#pragma once

#define WRAPPED(function) \
	extern __typeof__(function) __real_##function; \
	extern __typeof__(function) __wrap_##function
