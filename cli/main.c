/* DOC: The fairlead command: the table of its commands. `pod-init` is how `fairlead up` starts a pod, and is not listed. */
#include <signal.h>

#include "cli/commands.h"
#include "cli/up/pod_init.h"
#include "common/base/log.h"

static const struct command *const commands[] = {
	&up_command,
	&status_command,
	&validate_command,
	&analyze_command,
	&proxy_status_command,
	&proxy_config_command,
	&bus_command,
	&bus_keys_command,
	&kube_inject_command,
	&wait_command,
	&workload_env_command,
};

int main(int argc, char **argv)
{
	(void)signal(SIGPIPE, SIG_IGN);
	if (argc > 1 && streq(argv[1], "pod-init"))
		return pod_init_main(argc - 1, argv + 1);
	bool quiet = log_set_levels(STR("default:warn"), NULL); /* a command's own output says the rest */
	assert(quiet);
	return command_main(commands, ARRAY_LEN(commands), argc, argv);
}
