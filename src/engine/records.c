#include "engine/records.h"

#include <string.h>

void content_encode_head(const struct content *c, uint8_t out[HEAD_BYTES]) {
    put_u64(out, c->seq);
    put_u64(out + 8, (uint64_t)c->published_at_ms);
    put_u64(out + 16, (uint64_t)c->delay_until_ms);
    put_u64(out + 24, (uint64_t)c->expires_ms);
    put_u32(out + 32, c->properties_length);
    put_u32(out + 36, c->body_length);
    put_u32(out + 40, c->entries);
    out[44] = c->priority;
    out[45] = c->hops;
    out[46] = c->exchange_length;
    out[47] = c->key_length;
    out[48] = c->id_length;
}

uint64_t content_size(const struct content *c) {
    return (uint64_t)HEAD_BYTES + c->exchange_length + 1 + c->key_length + 1 + c->id_length + 1 + c->properties_length +
           c->body_length;
}

static const char *text_view(struct reader *r, uint8_t length) {
    const uint8_t *text = read_bytes(r, (size_t)length + 1);
    if (!text || text[length] != 0) {
        r->failed = true;
        return NULL;
    }
    return (const char *)text;
}

bool content_decode(struct content *c, const uint8_t *data, size_t length) {
    struct reader r = reader_of(data, length);
    c->seq = read_u64(&r);
    c->published_at_ms = (int64_t)read_u64(&r);
    c->delay_until_ms = (int64_t)read_u64(&r);
    c->expires_ms = (int64_t)read_u64(&r);
    c->properties_length = read_u32(&r);
    c->body_length = read_u32(&r);
    c->entries = read_u32(&r);
    c->priority = read_u8(&r);
    c->hops = read_u8(&r);
    c->exchange_length = read_u8(&r);
    c->key_length = read_u8(&r);
    c->id_length = read_u8(&r);
    c->exchange = text_view(&r, c->exchange_length);
    c->routing_key = text_view(&r, c->key_length);
    c->message_id = text_view(&r, c->id_length);
    c->properties = read_bytes(&r, c->properties_length);
    c->body = read_bytes(&r, c->body_length);
    c->size = (uint32_t)r.at;
    return !r.failed;
}

void text_encode(struct buf *b, const char *text) {
    size_t n = strlen(text);
    buf_add_u8(b, (uint8_t)n);
    buf_add(b, text, n + 1);
}

const char *text_decode(struct reader *r) {
    uint8_t length = read_u8(r);
    return text_view(r, length);
}

void entry_encode(struct buf *b, const struct entry_record *x) {
    buf_add_u32(b, x->queue_id);
    buf_add_u16(b, x->attempts);
    buf_add_u8(b, x->parked);
    if (!x->parked) return;
    buf_add_u64(b, x->parked_id);
    buf_add_u64(b, (uint64_t)x->parked_at_ms);
    buf_add_u8(b, x->reason_length);
    buf_add(b, x->reason, x->reason_length);
}

bool entry_decode(struct reader *r, struct entry_record *x) {
    *x = (struct entry_record){.queue_id = read_u32(r)};
    x->attempts = read_u16(r);
    x->parked = read_u8(r) != 0;
    if (x->parked) {
        x->parked_id = read_u64(r);
        x->parked_at_ms = (int64_t)read_u64(r);
        x->reason_length = read_u8(r);
        x->reason = (const char *)read_bytes(r, x->reason_length);
    }
    return !r->failed;
}

enum { QUEUE_AUTO_DELETE = 1, QUEUE_HAS_TTL = 2, QUEUE_PARK = 4, QUEUE_HAS_DLX = 8, QUEUE_HAS_DLRK = 16 };

// options: flags u8, max priority u8, overflow u8, ttl u64, expires u64, max length u64, max bytes u64,
// delivery limit u32, retry delay u32, multiplier as the bits of a double u64, max delay u32, dedupe u32,
// dead letter exchange and routing key as texts.
void queue_encode(struct buf *b, uint32_t id, const char *name, const struct queue_options *o) {
    uint64_t multiplier;
    memcpy(&multiplier, &o->retry_multiplier, sizeof multiplier);
    buf_add_u32(b, id);
    buf_add_u8(b, (uint8_t)((o->auto_delete ? QUEUE_AUTO_DELETE : 0) | (o->has_message_ttl ? QUEUE_HAS_TTL : 0) |
                            (o->park ? QUEUE_PARK : 0) | (o->dead_letter_exchange ? QUEUE_HAS_DLX : 0) |
                            (o->dead_letter_routing_key ? QUEUE_HAS_DLRK : 0)));
    buf_add_u8(b, o->max_priority);
    buf_add_u8(b, (uint8_t)o->overflow);
    buf_add_u64(b, o->message_ttl_ms);
    buf_add_u64(b, o->expires_ms);
    buf_add_u64(b, o->max_length);
    buf_add_u64(b, o->max_length_bytes);
    buf_add_u32(b, o->delivery_limit);
    buf_add_u32(b, o->retry_delay_ms);
    buf_add_u64(b, multiplier);
    buf_add_u32(b, o->retry_max_delay_ms);
    buf_add_u32(b, o->dedupe_window_ms);
    text_encode(b, o->dead_letter_exchange ? o->dead_letter_exchange : "");
    text_encode(b, o->dead_letter_routing_key ? o->dead_letter_routing_key : "");
    text_encode(b, name);
}

bool queue_decode(struct reader *r, uint32_t *id, const char **name, struct queue_options *o) {
    *id = read_u32(r);
    uint8_t flags = read_u8(r);
    *o = (struct queue_options){.durable = true};
    o->auto_delete = flags & QUEUE_AUTO_DELETE;
    o->has_message_ttl = flags & QUEUE_HAS_TTL;
    o->park = flags & QUEUE_PARK;
    o->max_priority = read_u8(r);
    o->overflow = read_u8(r);
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
    const char *exchange = text_decode(r), *key = text_decode(r);
    if (flags & QUEUE_HAS_DLX) o->dead_letter_exchange = exchange;
    if (flags & QUEUE_HAS_DLRK) o->dead_letter_routing_key = key;
    *name = text_decode(r);
    return !r->failed;
}
