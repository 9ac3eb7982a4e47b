/* DOC: Whether a pod's application accepts connections, read from the kernel's table of sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/up/listening.h"

static const char table[] =
	"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	"   0: 00000000:2378 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 "
	"0\n"
	"   1: 0100007F:1F90 0100007F:23F0 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0 20 4 30 10 "
	"-1\n";

static void a_listening_socket_counts(void **state)
{
	(void)state;
	assert_true(proc_net_listens(STR(table), 0x2378));
}

static void a_connected_or_remote_one_does_not(void **state)
{
	(void)state;
	assert_false(proc_net_listens(STR(table), 0x1F90));
	assert_false(proc_net_listens(STR(table), 0x23F0));
	assert_false(proc_net_listens(STR(table), 0));
	assert_false(proc_net_listens(STR(""), 9080));
	assert_false(proc_net_listens(STR("no table\n\n: : :"), 9080));
}

static void pods_without_application_or_port_need_none(void **state)
{
	(void)state;
	static const char *const command[] = {"x", NULL};
	const struct mesh_paths paths = {.state = "/nonexistent"};
	struct pod p = {.name = "a", .ns = "b", .port = 9080};
	assert_true(pod_listens(&paths, &p));
	p.command = command;
	assert_false(pod_listens(&paths, &p)); /* there is no run.json: it has not started */
	p.port = 0;
	assert_true(pod_listens(&paths, &p));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_listening_socket_counts),
		cmocka_unit_test(a_connected_or_remote_one_does_not),
		cmocka_unit_test(pods_without_application_or_port_need_none),
	};
	return cmocka_run_group_tests_name("listening", tests, NULL, NULL);
}
