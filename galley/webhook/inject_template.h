/* Custom templates: text with values in it, to a patch of a pod. Pure. */
#pragma once

#include "galley/webhook/inject_internal.h"

/* What a template may name; the data have them, .ObjectMeta.Labels and .ObjectMeta.Annotations as maps of texts. */
#define TEMPLATE_NAMES \
	".ObjectMeta.Name, .ObjectMeta.GenerateName, .ObjectMeta.Namespace, .DeploymentMeta.Name, " \
	".DeploymentMeta.Namespace, " \
	".Spec.ServiceAccountName, .MeshConfig.TrustDomain, .ProxyImage, .ProxyUID, .ProxyGID, .Revision"

/* The text with its values. Errors name the template, the line, what stands there and the rule. */
bool template_render(
	const char *name, const char *text, const json_t *data, struct strbuf *out, struct err *e) MUST_CHECK;
/* The patch that the text makes, checked; the caller's. */
bool template_patch(const char *name, const char *text, const json_t *data, json_t **out, struct err *e) MUST_CHECK;
