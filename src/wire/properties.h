// The basic class's properties (spec section 4.2.6.1, 1.8): what the engine keeps beside a body, byte for byte as a
// client sent it: flags u16, then those that the flags name, in this order.
//
//   15 content-type  14 content-encoding  13 headers  12 delivery-mode  11 priority  10 correlation-id  9 reply-to
//    8 expiration     7 message-id         6 timestamp  5 type           4 user-id    3 app-id           2 cluster-id
#ifndef BARID_WIRE_PROPERTIES_H
#define BARID_WIRE_PROPERTIES_H

#include "wire/table.h"

enum property {
    PROPERTY_CLUSTER_ID = 1 << 2,
    PROPERTY_APP_ID = 1 << 3,
    PROPERTY_USER_ID = 1 << 4,
    PROPERTY_TYPE = 1 << 5,
    PROPERTY_TIMESTAMP = 1 << 6,
    PROPERTY_MESSAGE_ID = 1 << 7,
    PROPERTY_EXPIRATION = 1 << 8,
    PROPERTY_REPLY_TO = 1 << 9,
    PROPERTY_CORRELATION_ID = 1 << 10,
    PROPERTY_PRIORITY = 1 << 11,
    PROPERTY_DELIVERY_MODE = 1 << 12,
    PROPERTY_HEADERS = 1 << 13,
    PROPERTY_CONTENT_ENCODING = 1 << 14,
    PROPERTY_CONTENT_TYPE = 1 << 15,
};

struct properties {
    uint16_t flags; // which of these are there; the others are zero
    uint8_t delivery_mode, priority;
    uint64_t timestamp;
    struct view content_type, content_encoding, correlation_id, reply_to, expiration, message_id, type, user_id, app_id,
        cluster_id;
    struct view headers; // a table's entries
};

bool properties_check(const void *data, uint32_t length); // would they be decoded? The cheapest way to know
// Views lead into `data`. False: not properties (too short, too long, a damaged headers table).
bool properties_decode(struct properties *p, const void *data, uint32_t length);
void properties_encode(struct buf *b, const struct properties *p); // writes what `flags` names; a string
                                                                   // longer than 255 bytes fails the buffer
// The headers alone, for who wants only these; an empty view when there are none.
struct view properties_headers(const void *data, uint32_t length);

#endif
