// The headers of a webhook's call: CloudEvents in binary mode, and the event's own.
#ifndef BARID_INBOX_WEB_HEADERS_H
#define BARID_INBOX_WEB_HEADERS_H

#include "outbox/sink.h"

struct curl_slist;

// "ce-specversion: 1.0", "ce-id: …", "ce-type: <topic>", "ce-source: /barid/<topic>", "ce-time: …", "ce-partitionkey:
// …" (an event without a key has none), "Content-Type: …", "Idempotency-Key: <event id>", "Barid-Attempt: 2", then the
// event's own headers, but those whose name is no HTTP token or would change the call itself (Host, Content-Length,
// Connection …). The content type is the header "content-type" of the event, or application/json when the payload
// begins as an object or a list does, or else application/octet-stream. Bytes that may not stand in a header are %XX.
// Released with curl_slist_free_all.
struct curl_slist *web_headers(const struct outbox_item *item);

#endif
