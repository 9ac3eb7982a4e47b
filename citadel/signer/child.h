/* The process that holds the CA's key: `citadel signer`, started by citadel itself, speaks frames on descriptor 1. */
#pragma once

int signer_command(int argc, char **argv);
