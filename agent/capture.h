/*
 * `agent capture`: which TCP connections of a network namespace go through its Envoy. One file each: capture_settings.c reads what was asked for,
 * capture_rules.c makes the nftables script of it (pure, but for names of groups), capture_route.c has the routes of TPROXY, capture_check.c
 * tries whether capture is there, capture.c is the command.
 */
#pragma once

#include "common/base/err.h"
#include "common/base/str.h"
#include "common/base/vec.h"

/* Istio's: on what Envoy sends to the application in a client's name (original_src), and the routing table that brings the answers back. */
#define TPROXY_MARK 1337u
#define TPROXY_TABLE 133

struct capture_config {
	uint32_t proxy_mark; /* 0: the proxy is known by its user and group */
	const char *proxy_uid; /* list */
	const char *proxy_gid; /* list */
	const char *mode; /* REDIRECT, TPROXY, NONE */
	uint32_t outbound_port, inbound_port; /* where the proxy takes what goes out and what comes in */
	const char *include_inbound_ports; /* "*" or list */
	const char *exclude_inbound_ports; /* counts where all ports are captured */
	const char *include_outbound_ranges; /* "*" or CIDR list */
	const char *exclude_outbound_ranges;
	const char *include_outbound_ports;
	const char *exclude_outbound_ports;
	const char *include_outbound_groups; /* "*" or list of group ids and names */
	const char *exclude_outbound_groups; /* counts where all groups are captured */
	const char *exclude_interfaces;
	const char *virtual_interfaces; /* what comes in from them counts as outbound */
	const char *loopback_range; /* of IPv4: where applications reach their own pod without the proxy */
	const char *annotations; /* JSON: traffic.sidecar.istio.io/... override the options */
	bool drop_invalid;
	bool dry_run;
	bool remove;
	bool skip_rule_apply;
	bool run_validation;
	uint64_t probe_timeout_ms;
};

int capture_main(int argc, char **argv);
/* The nftables script. The caller frees *out. */
bool capture_script(const struct capture_config *c, char **out, struct err *e) MUST_CHECK;

/* ---- capture_settings.c */
enum capture_mode { CAPTURE_REDIRECT, CAPTURE_TPROXY, CAPTURE_NONE, CAPTURE_MODE_COUNT };

enum capture_setting {
	PROXY_UIDS,
	PROXY_GIDS,
	INCLUDE_INBOUND_PORTS,
	EXCLUDE_INBOUND_PORTS,
	INCLUDE_OUTBOUND_RANGES,
	EXCLUDE_OUTBOUND_RANGES,
	INCLUDE_OUTBOUND_PORTS,
	EXCLUDE_OUTBOUND_PORTS,
	INCLUDE_OUTBOUND_GROUPS,
	EXCLUDE_OUTBOUND_GROUPS,
	EXCLUDE_INTERFACES,
	VIRTUAL_INTERFACES,
	LOOPBACK_RANGE,
	CAPTURE_SETTING_COUNT
};

struct capture_item {
	uint8_t ip[16]; /* a range's first address */
	unsigned bits, prefix;
	uint32_t number; /* a port, a user, a group */
	char interface[16];
};

struct capture_list {
	bool all;
	VEC(struct capture_item) items; /* numbers are sorted, and no number is there twice */
};

struct capture_settings {
	enum capture_mode mode;
	uint32_t proxy_mark;
	uint32_t outbound_port, inbound_port;
	bool drop_invalid;
	struct capture_list of[CAPTURE_SETTING_COUNT];
};

/* Options, and annotations over them; everything that is wrong is refused by name. */
bool capture_settings_parse(const struct capture_config *c, struct capture_settings *out, struct err *e) MUST_CHECK;
void capture_settings_done(struct capture_settings *s);

/* ---- capture_rules.c: the nftables script; the caller frees it */
char *capture_rules(const struct capture_settings *s);

/* ---- capture_route.c: marked packets are delivered here, whatever their address. Adding what is there and removing what is not is no error. */
bool capture_routes_add(struct err *e) MUST_CHECK;
bool capture_routes_remove(struct err *e) MUST_CHECK;

/* ---- capture_check.c: true once a connection of this process has been redirected to one of the proxy's ports */
bool capture_validate(const struct capture_config *c, struct err *e) MUST_CHECK;
