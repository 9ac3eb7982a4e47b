/* `citadel ca-secret`; returns the exit code. */
#pragma once

int ca_secret_command(int argc, char **argv);
