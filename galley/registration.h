/*
 * Workloads that register themselves (row P61): pilots report who is connected, and here a WorkloadEntry is made of it and of the WorkloadGroup that
 * the workload names. With files as the source the entry lives in galley alone; with Kubernetes it is written to the API server. Time is an
 * argument; who stores the documents is the caller's affair.
 */
#pragma once

#include "galley/galley.h"

struct registrations;

struct registration_ops {
	void (*put)(void *ctx, const char *ns, const char *name, const char *document); /* JSON */
	void (*remove)(void *ctx, const char *ns, const char *name);
};

struct registrations *registrations_new(const struct registration_ops *ops, void *ctx);
void registrations_free(struct registrations *r);
/* A report of the topic status with the key "workload/<namespace>/<entry>/<pilot>". False: it is none, or not understood. */
bool registrations_report(struct registrations *r, const struct bus_change *c, uint64_t mono_ms);
/* Puts and removes what has changed: by reports, by WorkloadGroups that came or went, by time. */
void registrations_sync(struct registrations *r, const struct galley *g, uint64_t mono_ms);
/* The entry could not be stored: it is put again at the next sync. */
void registrations_failed(struct registrations *r, const char *ns, const char *name);
/* Over a restart, until the pilots have reported again: {"ns/name": document}. */
void registrations_save(const struct registrations *r, struct strbuf *json);
bool registrations_load(struct registrations *r, struct str json, uint64_t mono_ms, struct err *e) MUST_CHECK;
void registrations_debug(const struct registrations *r, struct strbuf *json);
