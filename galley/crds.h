/* `galley crds`: prints the CustomResourceDefinitions, YAML documents in JSON form, to standard output. Returns the exit code. */
#pragma once

int crds_command(int argc, char **argv);
