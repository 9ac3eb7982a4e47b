/* The rows that main.c's table is made of; each is defined at the end of the file named after it. */
#pragma once

#include "cli/command.h"

extern const struct command up_command;
extern const struct command status_command;
extern const struct command validate_command;
extern const struct command analyze_command;
extern const struct command proxy_status_command;
extern const struct command proxy_config_command;
extern const struct command bus_command;
extern const struct command bus_keys_command;
extern const struct command kube_inject_command;
extern const struct command wait_command;
extern const struct command workload_env_command;
