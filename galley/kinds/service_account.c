#include "galley/kinds/kubernetes.h"

/* DOC: ServiceAccount. Read so that a directory may hold it; identities are named by pods. */
const struct kind_ops service_account_ops = {.any_name = true};
