// Messages and the states of their entries; topology is in records_topology.c.
#include "engine/records.h"

#include <string.h>

#define CLAIMED 0x80 // in the byte of the hops

void content_encode_head(const struct content *c, uint8_t out[HEAD_BYTES]) {
    put_u64(out, c->seq);
    put_u64(out + 8, (uint64_t)c->published_at_ms);
    put_u64(out + 16, (uint64_t)c->delay_until_ms);
    put_u64(out + 24, (uint64_t)c->expires_ms);
    put_u32(out + 32, c->properties_length);
    put_u32(out + 36, c->body_length);
    put_u32(out + 40, c->entries);
    out[44] = c->priority;
    out[45] = (uint8_t)(c->hops | (c->claimed ? CLAIMED : 0));
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
    uint8_t hops = read_u8(&r);
    c->hops = hops & (CLAIMED - 1);
    c->claimed = hops & CLAIMED;
    c->exchange_length = read_u8(&r);
    c->key_length = read_u8(&r);
    c->id_length = read_u8(&r);
    c->exchange = text_view(&r, c->exchange_length);
    c->routing_key = text_view(&r, c->key_length);
    c->message_id = text_view(&r, c->id_length);
    c->properties = read_bytes(&r, c->properties_length);
    c->body = read_bytes(&r, c->body_length);
    c->size = (uint32_t)r.at;
    return !r.failed && (!c->claimed || c->body_length == CLAIMED_BYTES);
}

uint64_t claimed_length(const struct content *c) {
    struct reader r = reader_of(c->body + CLAIM_TICKET, 8);
    return read_u64(&r);
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
