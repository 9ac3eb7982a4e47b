/*
 * DOC: Credentials for the API server: the service account's files inside a cluster, or a kubeconfig outside. Only what a daemon can
 * safely use: tokens, token files and client certificates. Programs named by a kubeconfig are never run.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/arena.h"
#include "common/io/file.h"
#include "common/kube/kube_internal.h"
#include "common/base/base64.h"
#include "common/pb/node.h"

#define SERVICE_ACCOUNT "/var/run/secrets/kubernetes.io/serviceaccount"
#define KUBECONFIG_MAX (4u << 20)

void kube_config_done(struct kube_config *c)
{
	char **owned[] = {
		&c->server, &c->ca_file, &c->cert_file, &c->key_file, &c->token, &c->token_file, &c->namespace};
	for (size_t i = 0; i < ARRAY_LEN(owned); i++) {
		if (*owned[i])
			explicit_bzero(*owned[i], strlen(*owned[i]));
		free(*owned[i]);
		*owned[i] = NULL;
	}
	for (size_t i = 0; i < c->n_fds; i++)
		(void)close(c->fds[i]);
	c->n_fds = 0;
}

/* ---- in a cluster */

static bool in_cluster(const struct kube_options *o, struct kube_config *c, struct err *e)
{
	const char *dir = o->service_account_dir ? o->service_account_dir : SERVICE_ACCOUNT;
	const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");
	char *ns_file cleanup(free_p) = xasprintf("%s/namespace", dir);
	char *ns cleanup(free_p) = NULL;
	size_t len = 0;
	if (str_empty(host))
		return err_set(
			e, ERR_SYSTEM, "not in a cluster (KUBERNETES_SERVICE_HOST is not set) and no kubeconfig given");
	bool v6 = strchr(host, ':') != NULL;
	c->server = xasprintf("https://%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "", str_empty(port) ? "443" : port);
	c->ca_file = xasprintf("%s/ca.crt", dir);
	c->token_file = xasprintf("%s/token", dir);
	if (!file_exists(c->ca_file) || !file_exists(c->token_file))
		return err_set(e, ERR_SYSTEM, "%s: ca.crt and token of the service account are not there", dir);
	if (file_read(ns_file, 4096, &ns, &len, NULL)) {
		struct str name = str_trim(str_n(ns, len));
		c->namespace = xstrndup(name.ptr, name.len);
	}
	return true;
}

/* ---- kubeconfig */

static const struct node *named(const struct node *root, const char *list, const char *member, struct str name)
{
	const struct node *l = node_get(root, list);
	for (size_t i = 0; l && l->type == NODE_LIST && i < l->len; i++)
		if (str_eq(node_text(l->items[i], "name"), name))
			return node_get(l->items[i], member);
	return NULL;
}

static char *copy_text(const struct node *n, const char *key)
{
	struct str s = node_text(n, key);
	return s.len ? xstrndup(s.ptr, s.len) : NULL;
}

/* Relative paths of a kubeconfig are relative to it. */
static char *copy_path(const char *kubeconfig, const struct node *n, const char *key)
{
	struct str s = node_text(n, key), dir = str_of(kubeconfig);
	size_t slash = 0;
	if (!s.len || s.ptr[0] == '/' || !str_rfind(dir, '/', &slash))
		return copy_text(n, key);
	return xasprintf(STR_FMT "/" STR_FMT, (int)slash, dir.ptr, STR_ARG(s));
}

static bool memory_file(struct kube_config *c, const char *what, struct str base64, char **path, struct err *e)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct str bytes;
	if (!base64_read(a, base64, &bytes))
		return err_set(e, ERR_PEER, "%s is not base64", what);
	int fd = memfd_create(what, MFD_CLOEXEC);
	if (fd < 0)
		return err_errno(e, "keep %s in memory", what);
	c->fds[c->n_fds++] = fd;
	for (size_t at = 0; at < bytes.len;) {
		ssize_t n = write(fd, bytes.ptr + at, bytes.len - at);
		if (n <= 0)
			return err_errno(e, "keep %s in memory", what);
		at += (size_t)n;
	}
	explicit_bzero((char *)(uintptr_t)bytes.ptr, bytes.len);
	*path = xasprintf("/proc/self/fd/%d", fd);
	return true;
}

/* A file name under `key`, or its content under `key`-data, which wins as in kubectl. */
static bool pem(struct kube_config *c, const char *kubeconfig, const struct node *n, const char *key, char **path,
	struct err *e)
{
	char data[64];
	(void)snprintf(data, sizeof(data), "%s-data", key);
	struct str inline_data = node_text(n, data);
	if (inline_data.len)
		return memory_file(c, data, inline_data, path, e);
	*path = copy_path(kubeconfig, n, key);
	return !*path || file_exists(*path) || err_set(e, ERR_SYSTEM, "%s: %s does not exist", key, *path);
}

static bool refuse(const struct node *n, const char *what, const char *const *keys, struct err *e)
{
	for (; *keys; keys++)
		if (node_get(n, *keys))
			return err_set(e, ERR_PEER,
				"%s: \"%s\" is not supported; use a token, a token file or a client certificate", what,
				*keys);
	return true;
}

static bool read_user(struct kube_config *c, const char *kubeconfig, const struct node *user, struct err *e)
{
	static const char *const refused[] = {"exec", "auth-provider", "username", "as", NULL};
	if (!refuse(user, "user", refused, e))
		return false;
	c->token = copy_text(user, "token");
	c->token_file = copy_path(kubeconfig, user, "tokenFile");
	if (!pem(c, kubeconfig, user, "client-certificate", &c->cert_file, e) ||
		!pem(c, kubeconfig, user, "client-key", &c->key_file, e))
		return false;
	return (c->cert_file != NULL) == (c->key_file != NULL) ||
	       err_set(e, ERR_PEER, "user: client-certificate and client-key belong together");
}

static bool read_cluster(struct kube_config *c, const char *kubeconfig, const struct node *cluster, struct err *e)
{
	static const char *const refused[] = {"proxy-url", "tls-server-name", NULL};
	struct str server = node_text(cluster, "server");
	if (!refuse(cluster, "cluster", refused, e))
		return false;
	while (server.len && server.ptr[server.len - 1] == '/')
		server.len--;
	if (!str_starts(server, STR("https://")) && !str_starts(server, STR("http://")))
		return err_set(e, ERR_PEER, "cluster: server \"" STR_FMT "\" is not an http(s) URL", STR_ARG(server));
	c->server = xstrndup(server.ptr, server.len);
	c->insecure = str_eqc(node_text(cluster, "insecure-skip-tls-verify"), "true");
	return pem(c, kubeconfig, cluster, "certificate-authority", &c->ca_file, e);
}

static bool from_kubeconfig(const struct kube_options *o, const struct node *root, struct kube_config *c, struct err *e)
{
	struct str name = o->context ? str_of(o->context) : node_text(root, "current-context");
	const struct node *context = named(root, "contexts", "context", name);
	if (!context)
		return err_set(e, ERR_PEER, "there is no context \"" STR_FMT "\"", STR_ARG(name));
	struct str cluster_name = node_text(context, "cluster"), user_name = node_text(context, "user");
	const struct node *cluster = named(root, "clusters", "cluster", cluster_name);
	const struct node *user = named(root, "users", "user", user_name);
	if (!cluster || !user)
		return err_set(e, ERR_PEER,
			"context \"" STR_FMT "\" names a cluster \"" STR_FMT "\" and a user \"" STR_FMT
			"\", of which one is not there",
			STR_ARG(name), STR_ARG(cluster_name), STR_ARG(user_name));
	c->namespace = copy_text(context, "namespace");
	return read_cluster(c, o->kubeconfig, cluster, e) && read_user(c, o->kubeconfig, user, e);
}

static bool read_kubeconfig(const struct kube_options *o, struct kube_config *c, struct err *e)
{
	struct arena *a cleanup(arena_free_p) = arena_new();
	struct documents docs = {0};
	struct diags diags;
	char *text cleanup(free_p) = NULL;
	size_t len = 0;
	if (!file_read(o->kubeconfig, KUBECONFIG_MAX, &text, &len, e))
		return false;
	diags_init(&diags, a);
	bool ok = yaml_parse(a, str_n(text, len), o->kubeconfig, &docs, &diags) && docs.len == 1;
	ok = ok ? from_kubeconfig(o, docs.items[0], c, e)
		: err_set(e, ERR_PEER, "%s", diags.len ? diags.items[0].text : "one YAML document is expected");
	explicit_bzero(text, len);
	return ok || err_in(e, "%s", o->kubeconfig);
}

bool kube_config_load(const struct kube_options *o, struct kube_config *out, struct err *e)
{
	struct kube_config c = {0};
	bool ok = str_empty(o->kubeconfig) ? in_cluster(o, &c, e) : read_kubeconfig(o, &c, e);
	if (!ok) {
		kube_config_done(&c);
		return false;
	}
	if (!c.namespace)
		c.namespace = xstrdup("default");
	*out = c;
	return true;
}
