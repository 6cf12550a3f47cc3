// The records of queues, exchanges and bindings, in their present form and in that of the first version.
//
// The numbers of a queue: max priority u8, overflow u8, type u8, ttl u64, expires u64, max length u64, max bytes u64,
// delivery limit u32, retry delay u32, multiplier as the bits of a double u64, max delay u32, dedupe window u32.
#include "engine/records.h"

#include <string.h>

enum {
    QUEUE_AUTO_DELETE = 1,
    QUEUE_HAS_TTL = 2,
    QUEUE_PARK = 4,
    QUEUE_HAS_DLX = 8,
    QUEUE_HAS_DLRK = 16,
    QUEUE_HAS_LENGTH = 32,
    QUEUE_HAS_LENGTH_BYTES = 64,
    QUEUE_SINGLE_ACTIVE = 128,
    QUEUE_DEDUPE_PRESENT = 256,
    QUEUE_ROOM = 512,
};

enum {
    EXCHANGE_AUTO_DELETE = 1,
    EXCHANGE_INTERNAL = 2,
    EXCHANGE_DELAYED = 4,
    EXCHANGE_HAS_ALTERNATE = 8,
    EXCHANGE_HAS_HASH_HEADER = 16,
    EXCHANGE_HAS_HASH_PROPERTY = 32,
};

static void optional_encode(struct buf *b, const char *text) { text_encode(b, text ? text : ""); }

static const char *optional(const char *text, bool there) { return there ? text : NULL; }

static void view_encode(struct buf *b, struct view v) {
    buf_add_u32(b, v.length);
    if (v.length) buf_add(b, v.data, v.length);
}

static struct view view_decode(struct reader *r) {
    uint32_t n = read_u32(r);
    return (struct view){.data = read_bytes(r, n), .length = r->failed ? 0 : n};
}

// ---- queues

static uint32_t queue_flags(const struct queue_options *o) {
    return (o->auto_delete ? QUEUE_AUTO_DELETE : 0u) | (o->has_message_ttl ? QUEUE_HAS_TTL : 0u) |
           (o->park ? QUEUE_PARK : 0u) | (o->dead_letter_exchange ? QUEUE_HAS_DLX : 0u) |
           (o->dead_letter_routing_key ? QUEUE_HAS_DLRK : 0u) | (o->has_max_length ? QUEUE_HAS_LENGTH : 0u) |
           (o->has_max_length_bytes ? QUEUE_HAS_LENGTH_BYTES : 0u) |
           (o->single_active_consumer ? QUEUE_SINGLE_ACTIVE : 0u) | (o->dedupe_present ? QUEUE_DEDUPE_PRESENT : 0u);
}

static void queue_flags_set(struct queue_options *o, uint32_t flags) {
    o->auto_delete = flags & QUEUE_AUTO_DELETE;
    o->has_message_ttl = flags & QUEUE_HAS_TTL;
    o->park = flags & QUEUE_PARK;
    o->has_max_length = flags & QUEUE_HAS_LENGTH;
    o->has_max_length_bytes = flags & QUEUE_HAS_LENGTH_BYTES;
    o->single_active_consumer = flags & QUEUE_SINGLE_ACTIVE;
    o->dedupe_present = flags & QUEUE_DEDUPE_PRESENT;
}

void queue_encode(struct buf *b, const struct queue_record *q) {
    const struct queue_options *o = &q->options;
    uint64_t multiplier;
    memcpy(&multiplier, &o->retry_multiplier, sizeof multiplier);
    buf_add_u32(b, q->id);
    buf_add_u32(b, q->vhost);
    buf_add_u32(b, queue_flags(o) | (q->is_room ? QUEUE_ROOM : 0u));
    buf_add_u8(b, o->max_priority);
    buf_add_u8(b, (uint8_t)o->overflow);
    buf_add_u8(b, (uint8_t)o->type);
    buf_add_u64(b, o->message_ttl_ms);
    buf_add_u64(b, o->expires_ms);
    buf_add_u64(b, o->max_length);
    buf_add_u64(b, o->max_length_bytes);
    buf_add_u32(b, o->delivery_limit);
    buf_add_u32(b, o->retry_delay_ms);
    buf_add_u64(b, multiplier);
    buf_add_u32(b, o->retry_max_delay_ms);
    buf_add_u32(b, o->dedupe_window_ms);
    text_encode(b, q->name);
    optional_encode(b, o->dead_letter_exchange);
    optional_encode(b, o->dead_letter_routing_key);
    view_encode(b, o->arguments);
}

static void numbers_decode(struct reader *r, struct queue_options *o) {
    o->message_ttl_ms = read_u64(r);
    o->expires_ms = read_u64(r);
    o->max_length = read_u64(r);
    o->max_length_bytes = read_u64(r);
    o->delivery_limit = read_u32(r);
    o->retry_delay_ms = read_u32(r);
    uint64_t multiplier = read_u64(r);
    memcpy(&o->retry_multiplier, &multiplier, sizeof multiplier);
    o->retry_max_delay_ms = read_u32(r);
    o->dedupe_window_ms = read_u32(r);
}

static void dead_letters_decode(struct reader *r, struct queue_options *o, uint32_t flags) {
    const char *exchange = text_decode(r), *key = text_decode(r);
    o->dead_letter_exchange = optional(exchange, flags & QUEUE_HAS_DLX);
    o->dead_letter_routing_key = optional(key, flags & QUEUE_HAS_DLRK);
}

// id u32, flags u8, max priority u8, overflow u8, the numbers, dead letter exchange and key, name; a length of zero
// was none.
static void queue_decode_v1(struct reader *r, struct queue_record *out) {
    struct queue_options *o = &out->options;
    out->id = read_u32(r);
    uint8_t flags = read_u8(r);
    queue_flags_set(o, flags);
    o->max_priority = read_u8(r);
    o->overflow = read_u8(r);
    numbers_decode(r, o);
    o->has_max_length = o->max_length != 0;
    o->has_max_length_bytes = o->max_length_bytes != 0;
    dead_letters_decode(r, o, flags);
    out->name = text_decode(r);
}

bool queue_decode(struct reader *r, uint8_t kind, struct queue_record *out) {
    *out = (struct queue_record){.options.durable = true};
    struct queue_options *o = &out->options;
    if (kind == RECORD_QUEUE_V1) {
        queue_decode_v1(r, out);
    } else {
        out->id = read_u32(r);
        out->vhost = read_u32(r);
        uint32_t flags = read_u32(r);
        queue_flags_set(o, flags);
        out->is_room = flags & QUEUE_ROOM;
        o->max_priority = read_u8(r);
        o->overflow = read_u8(r);
        o->type = read_u8(r);
        numbers_decode(r, o);
        out->name = text_decode(r);
        dead_letters_decode(r, o, flags);
        o->arguments = view_decode(r);
    }
    return !r->failed && o->overflow <= OVERFLOW_REJECT_PUBLISH_DLX && o->type <= QUEUE_QUORUM;
}

// ---- exchanges

void exchange_encode(struct buf *b, const struct exchange_record *x) {
    const struct exchange_options *o = &x->options;
    buf_add_u32(b, x->vhost);
    buf_add_u8(b, (uint8_t)o->type);
    buf_add_u8(b, (uint8_t)((o->auto_delete ? EXCHANGE_AUTO_DELETE : 0) | (o->internal ? EXCHANGE_INTERNAL : 0) |
                            (o->delayed ? EXCHANGE_DELAYED : 0) | (o->alternate ? EXCHANGE_HAS_ALTERNATE : 0) |
                            (o->hash_header ? EXCHANGE_HAS_HASH_HEADER : 0) |
                            (o->hash_property ? EXCHANGE_HAS_HASH_PROPERTY : 0)));
    buf_add_u32(b, o->dedupe_size);
    buf_add_u64(b, o->dedupe_ttl_ms);
    text_encode(b, x->name);
    optional_encode(b, o->alternate);
    optional_encode(b, o->hash_header);
    optional_encode(b, o->hash_property);
    view_encode(b, o->arguments);
}

static void exchange_rest(struct reader *r, struct exchange_record *out) {
    struct exchange_options *o = &out->options;
    uint8_t flags = read_u8(r);
    o->auto_delete = flags & EXCHANGE_AUTO_DELETE;
    o->internal = flags & EXCHANGE_INTERNAL;
    o->delayed = flags & EXCHANGE_DELAYED;
    o->dedupe_size = read_u32(r);
    o->dedupe_ttl_ms = read_u64(r);
    out->name = text_decode(r);
    o->alternate = optional(text_decode(r), flags & EXCHANGE_HAS_ALTERNATE);
    o->hash_header = optional(text_decode(r), flags & EXCHANGE_HAS_HASH_HEADER);
    o->hash_property = optional(text_decode(r), flags & EXCHANGE_HAS_HASH_PROPERTY);
    o->arguments = view_decode(r);
}

// The first version: type u8, name.
bool exchange_decode(struct reader *r, uint8_t kind, struct exchange_record *out) {
    *out = (struct exchange_record){.options.durable = true};
    if (kind == RECORD_EXCHANGE) out->vhost = read_u32(r);
    out->options.type = read_u8(r);
    if (kind == RECORD_EXCHANGE) exchange_rest(r, out);
    else out->name = text_decode(r);
    return !r->failed && out->name[0] != 0 && out->options.type <= EXCHANGE_CONSISTENT_HASH;
}

// ---- bindings

void binding_encode(struct buf *b, const struct binding_record *x) {
    buf_add_u32(b, x->vhost);
    buf_add_u8(b, x->to_exchange);
    buf_add_u32(b, x->queue_id);
    optional_encode(b, x->target);
    text_encode(b, x->source);
    text_encode(b, x->key);
    view_encode(b, x->arguments);
}

// The first version: queue id u32, exchange, key.
bool binding_decode(struct reader *r, uint8_t kind, struct binding_record *out) {
    *out = (struct binding_record){0};
    if (kind == RECORD_BINDING) {
        out->vhost = read_u32(r);
        out->to_exchange = read_u8(r) != 0;
    }
    out->queue_id = read_u32(r);
    if (kind == RECORD_BINDING) out->target = text_decode(r);
    out->source = text_decode(r);
    out->key = text_decode(r);
    if (kind == RECORD_BINDING) out->arguments = view_decode(r);
    return !r->failed;
}
