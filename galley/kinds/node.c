#include "galley/kinds/kubernetes.h"

/* DOC: Node. Its topology labels give the locality of the pods that run there. */
const struct kind_ops node_ops = {.any_name = true};
