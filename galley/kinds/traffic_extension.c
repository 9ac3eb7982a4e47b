#include "galley/checks/names.h"
#include "galley/checks/policy.h"
#include "galley/checks/values.h"
#include "galley/kind.h"
#include "galley/kinds/wasm.h"

/* DOC: TrafficExtension: one filter of the user's, a WebAssembly module or a Lua script, at a place of the chain. */

static const struct rule rules[] = {
	{"wasm.url", check_module_url, .required = true, .source = "api: WasmConfig.url"},
	{"wasm.sha256", check_sha256, .source = "api: WasmConfig.sha256"},
	{"wasm.imagePullSecret", check_length, .max = 253, .source = "api: WasmConfig.imagePullSecret"},
	{"wasm.pluginName", check_length, .max = 256, .source = "api: WasmConfig.pluginName"},
	{"wasm.vmConfig.env[].name", check_length, .max = 256, .required = true, .source = "api: EnvVar.name"},
	{"wasm.vmConfig.env[].value", check_length, .max = 2048, .source = "api: EnvVar.value"},
	{"lua.inlineCode", check_length, .max = 65536, .required = true, .source = "api: LuaConfig.inlineCode"},
	{"match[].ports[].number", check_port, .required = true, .source = "api: PortSelector.number"},
};

static void validate(struct check *c, const void *message)
{
	const Ext__TrafficExtension *t = message;
	const struct attachment a = {t->selector, NULL, t->n_targetrefs, t->targetrefs};
	check_attachment(c, &a, "api: TrafficExtension.selector");
	if (t->filter_config_case == EXT__TRAFFIC_EXTENSION__FILTER_CONFIG__NOT_SET)
		check_error(c, "extension", "api: TrafficExtension", "spec", "needs one of wasm and lua");
	if (t->filter_config_case == EXT__TRAFFIC_EXTENSION__FILTER_CONFIG_WASM)
		check_vm(c, t->wasm->vm_config, "spec.wasm.vmConfig");
}

extern const struct kind_ops traffic_extension_ops;
const struct kind_ops traffic_extension_ops = {RULES(rules), .validate = validate, .not_applied = true};
