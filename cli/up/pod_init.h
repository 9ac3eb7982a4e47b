/* `fairlead pod-init SPEC`: the first process of a machine-local pod. Not for people; `fairlead up` starts it. */
#pragma once

int pod_init_main(int argc, char **argv);
