/*
 * DOC: The signer's cage. The process is not dumpable, so that not even its parent, of the same user, can read its memory through /proc
 * or ptrace; and a seccomp filter kills it at any system call that signing does not need.
 */
#include "citadel/signer/sandbox.h"

#include <seccomp.h>
#include <string.h>
#include <sys/prctl.h>

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_SANITIZER 1
#endif
#endif

static const int allowed[] = {
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(writev),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(mmap),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(mprotect),
	SCMP_SYS(madvise),
	SCMP_SYS(brk),
	SCMP_SYS(futex),
	SCMP_SYS(getrandom),
	SCMP_SYS(getpid), /* OpenSSL's generator: has the process forked? */
	SCMP_SYS(clock_gettime),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(time),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(close),
	SCMP_SYS(newfstatat),
	SCMP_SYS(fstat),
#ifdef UNDER_SANITIZER
	/* What the sanitizers' run time itself needs to report and to look for leaks. */
	SCMP_SYS(sigaltstack),
	SCMP_SYS(gettid),
	SCMP_SYS(sched_yield),
	SCMP_SYS(readlink),
	SCMP_SYS(openat),
	SCMP_SYS(prctl),
	SCMP_SYS(tgkill),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(clone),
	SCMP_SYS(wait4),
	SCMP_SYS(ptrace),
	SCMP_SYS(getdents64),
	SCMP_SYS(getppid),
#endif
};

bool sandbox_enter(struct err *e)
{
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return err_errno(e, "signer: prctl");
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	if (!ctx)
		return err_set(e, ERR_LIBRARY, "seccomp_init failed");
	int rc = 0;
	for (size_t i = 0; i < ARRAY_LEN(allowed) && !rc; i++)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
	rc = rc ? rc : seccomp_load(ctx);
	seccomp_release(ctx);
	return rc == 0 || err_set(e, ERR_SYSTEM, "signer: seccomp: %s", strerror(-rc));
}
