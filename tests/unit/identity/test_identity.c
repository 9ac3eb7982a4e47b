/*
 * DOC: An identity against a real citadel (its path is the first argument): by token, renewed, and from disk after a
 * restart while the CA is away.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "citadel/citadel.h"
#include "common/base/clock.h"
#include "common/identity/identity.h"
#include "common/io/file.h"
#include "common/io/proc.h"

static const char *program;
static const char own_id[] = "spiffe://cluster.local/ns/shop/sa/cart";

static void changed(void *ctx)
{
	(*(unsigned *)ctx)++;
}

static void wait_for(struct loop *l, const unsigned *changes, unsigned wanted, const struct identity *i)
{
	uint64_t end = clock_mono_ms() + 20000;
	while (*changes < wanted) {
		if (clock_mono_ms() > end)
			fail_msg("no certificate: %s", identity_last_error(i));
		loop_run_once(l, 100);
	}
}

static void C07_identity_by_token_again_and_from_disk(void **state)
{
	char dir[] = "/tmp/identity-XXXXXX";
	struct err e = {0};
	struct loop *l = loop_new();
	assert_non_null(mkdtemp(dir));
	char *socket = xasprintf("%s/ca.sock", dir), *address = xasprintf("unix:%s", socket),
	     *token_file = xasprintf("%s/token", dir);
	char *persist = xasprintf("%s/id", dir), *token = NULL;
	const char *const argv[] = {program, "--state-dir", dir, "--bus", "none", "--address", "127.0.0.1:0",
		"--admin-address", "127.0.0.1:0", "--unix", socket, NULL};
	struct proc_options po = PROC_OPTIONS_INIT;
	po.argv = argv;
	struct proc *ca = proc_start(l, &po, NULL, NULL, &e);
	assert_non_null(ca);
	const struct citadel_token t = {.state_dir = dir, .ns = "shop", .service_account = "cart"};
	assert_true(citadel_token_mint(&t, &token, &e));
	assert_true(file_write_atomic(token_file, str_of(token), 0600, &e));
	unsigned changes = 0;
	const struct identity_options o = {.ca_address = address,
		.token_file = token_file,
		.spiffe_id = own_id,
		.persist_dir = persist,
		.on_change = changed,
		.ctx = &changes};
	struct identity *i = identity_new(l, &o, &e);
	assert_null(identity_get(i));
	wait_for(l, &changes, 1, i);
	assert_non_null(identity_get(i));
	assert_int_equal(identity_get(i)->generation, 1);
	identity_renew_now(i);
	wait_for(l, &changes, 2, i);
	assert_string_equal(identity_last_error(i), "");
	identity_free(i);
	proc_free(ca);
	i = identity_new(l, &o, &e); /* the CA is gone, the certificate is still good */
	assert_non_null(identity_get(i));
	struct strbuf page = {0};
	identity_debug(i, &page);
	assert_non_null(strstr(page.ptr, "\"valid\":true"));
	strbuf_done(&page);
	identity_free(i);
	loop_free(l);
	free(token);
	free(persist);
	free(token_file);
	free(address);
	free(socket);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(C07_identity_by_token_again_and_from_disk)};
	program = argc > 1 ? argv[1] : "citadel/citadel";
	return cmocka_run_group_tests(tests, NULL, NULL);
}
