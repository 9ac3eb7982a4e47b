/* Kubernetes' own kinds are decoded leniently, because another system owns them: only what discovery cannot live without is checked. */
#pragma once

#include "galley/kind.h"

extern const struct kind_ops namespace_ops, service_ops, endpoint_slice_ops, pod_ops, node_ops, service_account_ops,
	secret_ops, config_map_ops;
