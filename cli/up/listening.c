/*
 * DOC: A pod's port is open when the kernel says so: /proc/PID/net/tcp is the table of the namespace that the process is in. Connecting to
 * the port would prove nothing, since the pod's Envoy accepts whatever comes from outside.
 */
#include "cli/up/listening.h"

#include <jansson.h>
#include <stdlib.h>

#include "common/io/file.h"

#define TABLE_LIMIT_BYTES (16u << 20)

/* "   0: 0100007F:2378 00000000:0000 0A ...": local address, remote address, state; 0A is LISTEN. */
bool proc_net_listens(struct str table, uint32_t port)
{
	char wanted[8];
	struct str line;
	(void)snprintf(wanted, sizeof(wanted), ":%04X", port);
	while (str_split(&table, '\n', &line)) {
		struct str field, fields[4] = {{0}};
		for (size_t n = 0; n < ARRAY_LEN(fields) && str_split(&line, ' ', &field);)
			if (field.len)
				fields[n++] = field;
		if (str_ends(fields[1], str_of(wanted)) && str_eqc(fields[3], "0A"))
			return true;
	}
	return false;
}

static int app_pid(const struct mesh_paths *m, const struct pod *p)
{
	char *dir cleanup(free_p) = pod_state_dir(m, p);
	char *path cleanup(free_p) = xasprintf("%s/run.json", dir);
	json_t *root = json_load_file(path, 0, NULL);
	int pid = (int)json_integer_value(json_object_get(root, "app"));
	json_decref(root);
	return pid;
}

static bool listens_in(const char *process, const char *table, uint32_t port)
{
	char *path cleanup(free_p) = xasprintf("/proc/%s/net/%s", process, table);
	char *text cleanup(free_p) = NULL;
	size_t len = 0;
	return file_read(path, TABLE_LIMIT_BYTES, &text, &len, NULL) && proc_net_listens(str_n(text, len), port);
}

bool process_listens(const char *process, uint32_t port)
{
	return listens_in(process, "tcp", port) || listens_in(process, "tcp6", port);
}

bool pod_listens(const struct mesh_paths *m, const struct pod *p)
{
	if (!p->command || !p->port)
		return true;
	char *process cleanup(free_p) = xasprintf("%d", app_pid(m, p));
	return process_listens(process, p->port);
}
