#include "wire/properties.h"

#include "wire/bytes.h"

#define UNKNOWN_FLAGS 3u // more flags follow, and one that has no property

// What is left to read; `data` is NULL from the first thing on that is not there.
static struct view take(struct view *rest, uint32_t n) {
    if (rest->data == NULL || n > rest->length) {
        *rest = (struct view){0};
        return (struct view){0};
    }
    struct view taken = {rest->data, n};
    rest->data += n;
    rest->length -= n;
    return taken;
}

static struct view take_short(struct view *rest, uint16_t flags, enum property which) {
    if ((flags & which) == 0) return (struct view){0};
    struct view length = take(rest, 1);
    return length.data == NULL ? length : take(rest, *length.data);
}

static struct view take_table(struct view *rest, uint16_t flags) {
    if ((flags & PROPERTY_HEADERS) == 0) return (struct view){0};
    struct view length = take(rest, 4);
    return length.data == NULL ? length : take(rest, load_u32(length.data));
}

static uint8_t take_u8(struct view *rest, uint16_t flags, enum property which) {
    struct view v = (flags & which) == 0 ? (struct view){0} : take(rest, 1);
    return v.data == NULL ? 0 : *v.data;
}

static uint64_t take_u64(struct view *rest, uint16_t flags, enum property which) {
    struct view v = (flags & which) == 0 ? (struct view){0} : take(rest, 8);
    return v.data == NULL ? 0 : load_u64(v.data);
}

bool properties_decode(struct properties *p, const void *data, uint32_t length) {
    struct view rest = {data, length}, flags = take(&rest, 2);
    *p = (struct properties){0};
    if (flags.data == NULL) return false;
    uint16_t has = p->flags = load_u16(flags.data);
    if (has & UNKNOWN_FLAGS) return false;
    p->content_type = take_short(&rest, has, PROPERTY_CONTENT_TYPE);
    p->content_encoding = take_short(&rest, has, PROPERTY_CONTENT_ENCODING);
    p->headers = take_table(&rest, has);
    p->delivery_mode = take_u8(&rest, has, PROPERTY_DELIVERY_MODE);
    p->priority = take_u8(&rest, has, PROPERTY_PRIORITY);
    p->correlation_id = take_short(&rest, has, PROPERTY_CORRELATION_ID);
    p->reply_to = take_short(&rest, has, PROPERTY_REPLY_TO);
    p->expiration = take_short(&rest, has, PROPERTY_EXPIRATION);
    p->message_id = take_short(&rest, has, PROPERTY_MESSAGE_ID);
    p->timestamp = take_u64(&rest, has, PROPERTY_TIMESTAMP);
    p->type = take_short(&rest, has, PROPERTY_TYPE);
    p->user_id = take_short(&rest, has, PROPERTY_USER_ID);
    p->app_id = take_short(&rest, has, PROPERTY_APP_ID);
    p->cluster_id = take_short(&rest, has, PROPERTY_CLUSTER_ID);
    return rest.data != NULL && rest.length == 0 && table_check(p->headers);
}

// From flag 15 down: short string, table, u8, u64.
static const char KINDS[] = "sst11ssss8ssss";

bool properties_check(const void *data, uint32_t length) {
    struct view rest = {data, length}, flags = take(&rest, 2);
    if (flags.data == NULL) return false;
    unsigned left = load_u16(flags.data);
    if (left & UNKNOWN_FLAGS) return false;
    while (left != 0) {
        int highest = 31 - __builtin_clz(left);
        uint16_t flag = (uint16_t)(1u << highest);
        left &= ~(unsigned)flag;
        switch (KINDS[15 - highest]) {
        case '1': take(&rest, 1); break;
        case '8': take(&rest, 8); break;
        case 't':
            if (!table_check(take_table(&rest, PROPERTY_HEADERS))) return false;
            break;
        default: take_short(&rest, flag, flag); break;
        }
    }
    return rest.data != NULL && rest.length == 0;
}

struct view properties_headers(const void *data, uint32_t length) {
    struct view rest = {data, length}, flags = take(&rest, 2);
    if (flags.data == NULL) return flags;
    uint16_t has = load_u16(flags.data);
    take_short(&rest, has, PROPERTY_CONTENT_TYPE);
    take_short(&rest, has, PROPERTY_CONTENT_ENCODING);
    return take_table(&rest, has);
}

static void put_short(struct buf *b, uint16_t flags, enum property which, struct view v) {
    if ((flags & which) != 0 && !wire_short_string(b, v)) b->failed = true;
}

static void put_table(struct buf *b, uint16_t flags, struct view entries) {
    if ((flags & PROPERTY_HEADERS) == 0) return;
    wire_u32(b, entries.length);
    buf_add(b, entries.data, entries.length);
}

void properties_encode(struct buf *b, const struct properties *p) {
    uint16_t has = (uint16_t)(p->flags & ~UNKNOWN_FLAGS);
    wire_u16(b, has);
    put_short(b, has, PROPERTY_CONTENT_TYPE, p->content_type);
    put_short(b, has, PROPERTY_CONTENT_ENCODING, p->content_encoding);
    put_table(b, has, p->headers);
    if (has & PROPERTY_DELIVERY_MODE) buf_add_u8(b, p->delivery_mode);
    if (has & PROPERTY_PRIORITY) buf_add_u8(b, p->priority);
    put_short(b, has, PROPERTY_CORRELATION_ID, p->correlation_id);
    put_short(b, has, PROPERTY_REPLY_TO, p->reply_to);
    put_short(b, has, PROPERTY_EXPIRATION, p->expiration);
    put_short(b, has, PROPERTY_MESSAGE_ID, p->message_id);
    if (has & PROPERTY_TIMESTAMP) wire_u64(b, p->timestamp);
    put_short(b, has, PROPERTY_TYPE, p->type);
    put_short(b, has, PROPERTY_USER_ID, p->user_id);
    put_short(b, has, PROPERTY_APP_ID, p->app_id);
    put_short(b, has, PROPERTY_CLUSTER_ID, p->cluster_id);
}
