/*
 * Every input's bound, in one table. Reaching one is an ordinary error that names the limit; tests/unit/base/test_limits
 * and the tests of each parser reach them.
 */
#pragma once

#define LIMIT_FILE_BYTES (64u << 20) /* one configuration file */
#define LIMIT_DOCUMENT_BYTES (4u << 20) /* one YAML or JSON document (Kubernetes: 1.5 MiB in etcd) */
#define LIMIT_DOCUMENT_DEPTH 64u /* nesting */
#define LIMIT_DOCUMENT_NODES 400000u /* scalars, maps and sequences after alias expansion */
#define LIMIT_DOCUMENTS_PER_FILE 100000u
#define LIMIT_SOURCE_FILES 200000u
#define LIMIT_YAML_ALIASES 1000u
#define LIMIT_DIAGS_PER_DOCUMENT 200u
#define LIMIT_PB_MESSAGE_BYTES (256u << 20) /* any packed message */
#define LIMIT_PB_UNPACKED_BYTES (1u << 30) /* memory one packed message may turn into */
#define LIMIT_PB_DEPTH 64u
#define LIMIT_GRPC_MESSAGE_BYTES (64u << 20) /* received; xDS responses are the largest */
#define LIMIT_GRPC_HEADER_BYTES (64u << 10)
#define LIMIT_GRPC_CONCURRENT_STREAMS 1000u /* per connection */
#define LIMIT_GRPC_CONNECTIONS 20000u /* per listener */
#define LIMIT_GRPC_QUEUE_BYTES (128u << 20) /* output waiting on one stream; past it the stream is reset */
#define LIMIT_BUS_FRAME_BYTES (64u << 20)
#define LIMIT_BUS_CHUNK_BYTES (1u << 20) /* a snapshot chunk is closed at this size */
#define LIMIT_BUS_QUEUE_FRAMES 10000u /* PUB high-water mark: drop and resync */
#define LIMIT_BUS_KEYS 1000000u /* keys that one publisher offers or one replica holds */
#define LIMIT_BUS_KEY_BYTES 1024u
#define LIMIT_BUS_VALUE_BYTES (32u << 20) /* one value; with its key it fits a frame */
#define LIMIT_BUS_PENDING_BYTES (256u << 20) /* live frames that wait for a snapshot's end: drop and resync */
#define LIMIT_BUS_SNAPSHOT_BYTES (2047u << 20) /* what one resync may bring: refused */
#define LIMIT_BUS_WINDOW_CHUNKS 4u /* snapshot chunks under way to one subscriber */
#define LIMIT_BUS_PEERS 4096u /* subscribers of one publisher: refused */
#define LIMIT_BUS_OTHERS 16u /* publishers of one role that are told and not followed: the rest is not told */
#define LIMIT_BUS_REPORT_KEYS 20000u /* keys of reports kept: the oldest is dropped */
#define LIMIT_CSR_BYTES (64u << 10)
#define LIMIT_JWT_BYTES (16u << 10)
#define LIMIT_TOKEN_REVIEWS \
	4096u /* answers of the API server about tokens that citadel remembers: the oldest gives way */
#define LIMIT_TOKEN_REVIEWS_OPEN 256u /* questions under way: the caller tries again later */
#define LIMIT_NODE_QUESTIONS 256u /* of node accounts for others, under way: the caller tries again later */
#define LIMIT_ACCESS_ACCOUNTS 20000u /* service accounts that galley asks about: the rest gets no key of a Secret */
#define LIMIT_PEM_BYTES (1u << 20)
#define LIMIT_XDS_NAMES 100000u /* resource names one stream subscribes to */
#define LIMIT_NODE_METADATA_BYTES (256u << 10)
#define LIMIT_METRIC_SERIES 20000u
#define LIMIT_SCRAPE_BYTES (32u << 20) /* metrics of Envoy or of an application that pass through the agent */
#define LIMIT_SCRAPE_TARGETS 16u /* places where one application has metrics */
#define LIMIT_SCRAPES 4u /* scrapes of one agent at a time: the next is refused */
#define LIMIT_PROBES 64u /* probes of the application by one agent at a time: the next is refused */
#define LIMIT_PROBERS 1000u /* that an agent knows of */
#define LIMIT_CAPTURE_ITEMS 1024u /* ports or address ranges in one capture option */
#define LIMIT_HTTP_BODY_BYTES (4u << 20) /* admin and webhook requests */
#define LIMIT_REGEX_PROGRAM 32768u /* RE2 program size; Istio's bootstrap and ours tell Envoy the same */
#define LIMIT_REGEX_BYTES 1024u /* Istio: regex length in StringMatch */
