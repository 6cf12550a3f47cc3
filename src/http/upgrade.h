// May this HTTP request become a WebSocket? Path, subprotocol, version and origin are looked at before
// libwebsockets shakes hands.
#ifndef BARID_HTTP_UPGRADE_H
#define BARID_HTTP_UPGRADE_H

#include "http/server.h"

// For LWS_CALLBACK_HTTP_CONFIRM_UPGRADE: 0 to go on, -1 after the refusal has been written.
int upgrade_check(struct conn *c, struct lws *wsi);
// "http://host:port" (or https) against the Host header; "null" and others are refused.
bool upgrade_origin_matches(const char *origin, const char *host);

#endif
