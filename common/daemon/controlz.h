/*
 * ControlZ, Istio's introspection port: the pages /scopez/, /memz/, /envz/, /procz/, /argz/, /versionz/, /metricz/, /signalz/ and /configz/ for
 * people, the same with j instead of z as JSON, and PUT where something can be changed. One of them per daemon, on its loop's thread.
 */
#pragma once

#include "common/base/err.h"
#include "common/daemon/admin.h"

struct daemon;

/* Opens --ctrlz_address with ControlZ's pages and all the daemon's others. Without it ("off", or the default port is not free) the same pages
 * are on the admin address, for callers on this machine. */
struct controlz *controlz_new(struct daemon *d, struct err *e) MUST_CHECK;
void controlz_free(struct controlz *c);
/* "/" for a browser; false: the caller wants no HTML, nothing is answered. */
bool controlz_answer_home(struct daemon *d, struct admin_request *r);

/* Topics: each writes one JSON value. */
void controlz_scopes(struct daemon *d, struct strbuf *out);
void controlz_memory(struct daemon *d, struct strbuf *out);
void controlz_environment(struct daemon *d, struct strbuf *out);
void controlz_process(struct daemon *d, struct strbuf *out);
void controlz_arguments(struct daemon *d, struct strbuf *out);
void controlz_version(struct daemon *d, struct strbuf *out);
void controlz_metrics(struct daemon *d, struct strbuf *out);
void controlz_signals(struct daemon *d, struct strbuf *out);
void controlz_config(struct daemon *d, struct strbuf *out);
void controlz_home(struct daemon *d, struct strbuf *out);
bool controlz_scope(struct str name, struct strbuf *out); /* one of them; false: no scope is called so */

/* An HTML page: `json` as tables. links: pairs of path and name, NULL-terminated; form: HTML of ours above the tables, may be "". */
void controlz_html(const char *title, const char *const *links, const char *form, struct str json, struct strbuf *out);
