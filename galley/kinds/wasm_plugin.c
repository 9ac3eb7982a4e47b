#include "galley/kinds/wasm.h"

#include "galley/checks/names.h"
#include "galley/checks/policy.h"
#include "galley/checks/shared.h"
#include "galley/checks/values.h"
#include "galley/kind.h"

/*
 * DOC: WasmPlugin: a module that proxies load. Its address has a scheme that proxies can fetch from, its checksum is one, and the
 * variables of its machine have distinct names, each with a value of its own or the proxy's, not both.
 */

void check_module_url(struct check *c, const struct rule *r, const struct pb_place *p)
{
	static const char *const schemes[] = {"oci", "http", "https", "file"};
	struct str s = place_str(p), rest = s;
	size_t at;
	bool known = true;
	for (size_t i = 0; i + 3 <= s.len; i++)
		if (str_starts(str_from(s, i), STR("://"))) {
			known = false;
			for (size_t k = 0; k < ARRAY_LEN(schemes); k++)
				known |= str_eqc(str_sub(s, 0, i), schemes[k]);
			rest = str_from(s, i + 3);
			break;
		}
	if (!known)
		check_error(c, "module-url", r->source, p->path, "\"" STR_FMT "\" is none of oci, http, https, file",
			STR_ARG(s));
	else if (rest.len == 0 || str_find(s, ' ', &at))
		check_error(
			c, "module-url", r->source, p->path, "\"" STR_FMT "\" is no address of a module", STR_ARG(s));
}

void check_sha256(struct check *c, const struct rule *r, const struct pb_place *p)
{
	struct str s = place_str(p);
	bool good = s.len == 64;
	for (size_t i = 0; good && i < s.len; i++)
		good = (s.ptr[i] >= '0' && s.ptr[i] <= '9') || (s.ptr[i] >= 'a' && s.ptr[i] <= 'f');
	if (!good)
		check_error(c, "sha256", r->source, p->path, "is not 64 hexadecimal digits in lower case");
}

#define ENV_MAX 256 /* api: VmConfig.env */

void check_vm(struct check *c, const Ext__VmConfig *vm, const char *path)
{
	static const char source[] = "api: VmConfig.env";
	if (!vm)
		return;
	if (vm->n_env > ENV_MAX)
		check_error(c, "length", source, path_at(c, "%s.env", path), "%zu items are more than %d", vm->n_env,
			ENV_MAX);
	for (size_t i = 0; i < vm->n_env; i++) {
		const char *at = path_at(c, "%s.env[%zu]", path, i);
		for (size_t k = 0; k < i; k++)
			if (streq(vm->env[k]->name, vm->env[i]->name))
				check_error(c, "duplicate", source, path_at(c, "%s.name", at), "\"%s\" is there twice",
					vm->env[i]->name);
		if (vm->env[i]->value_from == EXT__ENV_VALUE_SOURCE__HOST && !str_empty(vm->env[i]->value))
			check_error(c, "env-value", "api: EnvVar.value", path_at(c, "%s.value", at),
				"with valueFrom HOST the value is the proxy's: leave this out");
	}
}

static const struct rule rules[] = {
	{"url", check_module_url, .required = true, .source = "api: WasmPlugin.url"},
	{"sha256", check_sha256, .source = "api: WasmPlugin.sha256"},
	{"imagePullSecret", check_length, .max = 253, .source = "api: WasmPlugin.imagePullSecret"},
	{"pluginName", check_length, .max = 256, .source = "api: WasmPlugin.pluginName"},
	{"vmConfig.env[].name", check_length, .max = 256, .required = true, .source = "api: EnvVar.name"},
	{"vmConfig.env[].value", check_length, .max = 2048, .source = "api: EnvVar.value"},
	{"match[].ports[].number", check_port, .required = true, .source = "api: PortSelector.number"},
};

static void validate(struct check *c, const void *message)
{
	const Ext__WasmPlugin *p = message;
	const struct attachment a = ATTACHMENT(p);
	check_attachment(c, &a, "api: WasmPlugin.selector");
	check_vm(c, p->vm_config, "spec.vmConfig");
}

extern const struct kind_ops wasm_plugin_ops;
const struct kind_ops wasm_plugin_ops = {RULES(rules), .validate = validate, .not_applied = true};
