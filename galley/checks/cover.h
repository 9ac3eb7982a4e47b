/*
 * Whether one condition takes everything that another one would: the ground of every statement that a rule is never reached. Answers
 * err on the side of "no": true means that it is certain. Pure.
 */
#pragma once

#include "cfg/networking/virtual_service.pb-c.h"
#include "common/mesh/labels.h"

/* Every request that `later` admits, `earlier` admits too. NULL: a rule without matches, which admits all. What the control plane
 * decides (gateways, port, labels and namespace of the caller) counts as part of the match. */
bool match_covers(const Cfg__HTTPMatchRequest *earlier, const Cfg__HTTPMatchRequest *later);
/* The match admits every request of every caller. */
bool match_is_everything(const Cfg__HTTPMatchRequest *m);
/* Why no request at all can fulfil it, NULL: one may. */
const char *match_contradiction(const Cfg__HTTPMatchRequest *m);

bool tls_match_covers(const Cfg__TLSMatchAttributes *earlier, const Cfg__TLSMatchAttributes *later);
bool tcp_match_covers(const Cfg__L4MatchAttributes *earlier, const Cfg__L4MatchAttributes *later); /* NULL: no match */
