#include "galley/kinds/kubernetes.h"

/* DOC: Namespace. Its labels reach pilot (injection, discovery selectors); there is nothing to check that the metadata has not had. */
const struct kind_ops namespace_ops = {0};
