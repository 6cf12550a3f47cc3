// What the engine's journal records look like. Little endian, no padding; texts are followed by a NUL that their
// length does not count, so that they can be handed out as they lie.
//
// A record is named by its place (segment, offset). Records about another one name its place, and are kept by
// the journal exactly as long as the segment of that place exists; a queue is named by its id.
//
// PUBLISH   a message and the durable queues that took it
//
//   0        8              16              24           32        36      40       44    45    46  47  48  49
//   ├────────┼──────────────┼───────────────┼────────────┼─────────┼───────┼────────┼─────┼─────┼───┼───┼───┤
//   │ seq u64│published i64 │delay until i64│expires i64 │props u32│body   │entries │prio │hops │ex │key│id │
//   ├────────┴──────────────┴───────────────┴────────────┴─────────┴───────┴────────┴─────┴─────┴───┴───┴───┤
//   │ exchange NUL, routing key NUL, message id NUL, properties, body │ entries × queue id u32               │
//
//   Times are wall clock milliseconds; delay 0: none; expires is a duration, -1: none. The highest bit of hops: the
//   body is claimed; it is the ticket and the length u64 of what it stands for.
//
// LETTER    a PUBLISH that ends an entry at the same time: after its entries the place of that message (u32 segment,
//           u32 offset) and the queue id u32. So a dead letter is never there twice, nor what was delayed
// MOVED     the same message written again by compaction: the place it was at (u32 segment, u32 offset) after the
//           body, then entries × (queue id u32, state)
//   state     attempts u16, parked u8; and when parked: id u64, at i64, reason length u8, reason
// SETTLE    segment u32, n u32, n × (offset u32, queue id u32): these entries are done with
// STATE     segment u32, n u32, n × (offset u32, queue id u32, state): attempts counted, parked, taken back
// GONE      segment u32, n u32, n × offset u32: these records mean nothing any more
// VHOST     id u32, name
// QUEUE     id u32, vhost u32, flags u32, numbers (records_topology.c), name, dead letter exchange and key, arguments
// EXCHANGE  vhost u32, type u8, flags u8, dedupe size u32, ttl u64, name, alternate, hash header, property, arguments
// BINDING   vhost u32, to exchange u8, queue id u32, exchange it leads to, source, key, arguments
//   arguments are a length u32 and as many bytes; absent texts are empty
// QUEUE_V1, EXCHANGE_V1, BINDING_V1: of the first version, of the vhost "/"; they are read, and written no more
// DEDUPE    n u32, n × (queue id u32, seq u64, until i64, id): ids seen, of messages that are done with
//
// SETTLE, STATE and GONE are ephemeral (they need the segment they are about); the others live until released.
#ifndef BARID_ENGINE_RECORDS_H
#define BARID_ENGINE_RECORDS_H

#include "base/buf.h"
#include "engine/engine.h"

#include <stdbool.h>
#include <stdint.h>

enum record_kind {
    RECORD_PUBLISH = 1,
    RECORD_MOVED,
    RECORD_SETTLE,
    RECORD_STATE,
    RECORD_GONE,
    RECORD_QUEUE_V1,
    RECORD_EXCHANGE_V1,
    RECORD_BINDING_V1,
    RECORD_DEDUPE,
    RECORD_VHOST,
    RECORD_QUEUE,
    RECORD_EXCHANGE,
    RECORD_BINDING,
    RECORD_LETTER,
};

#define HEAD_BYTES    49
#define CLAIMED_BYTES (CLAIM_TICKET + 8) // what stands for a claimed body

// A decoded message; pointers lead into the bytes it was decoded from.
struct content {
    uint64_t seq;
    int64_t published_at_ms, delay_until_ms, expires_ms;
    uint32_t properties_length, body_length, entries;
    uint8_t priority, hops, exchange_length, key_length, id_length;
    const char *exchange, *routing_key, *message_id;
    const uint8_t *properties, *body;
    bool claimed;
    uint32_t size; // of head and content, where the entries begin
};

// Head of a message whose texts and numbers are in `c`.
void content_encode_head(const struct content *c, uint8_t out[HEAD_BYTES]);
uint64_t claimed_length(const struct content *c);
bool content_decode(struct content *c, const uint8_t *data, size_t length);
uint64_t content_size(const struct content *c); // head and content

struct entry_record {
    uint32_t queue_id;
    uint16_t attempts;
    bool parked;
    uint64_t parked_id;
    int64_t parked_at_ms;
    const char *reason;
    uint8_t reason_length;
};
void entry_encode(struct buf *b, const struct entry_record *x);
bool entry_decode(struct reader *r, struct entry_record *x);

// The records of topology, as they are written and read. Texts and arguments lead into the record; absent ones are
// NULL.
struct queue_record {
    uint32_t id, vhost;
    bool is_room; // of the delayed exchange of that name
    const char *name;
    struct queue_options options;
};
void queue_encode(struct buf *b, const struct queue_record *q);
bool queue_decode(struct reader *r, uint8_t kind, struct queue_record *out);

struct exchange_record {
    uint32_t vhost;
    const char *name;
    struct exchange_options options;
};
void exchange_encode(struct buf *b, const struct exchange_record *x);
bool exchange_decode(struct reader *r, uint8_t kind, struct exchange_record *out);

struct binding_record {
    uint32_t vhost, queue_id;
    bool to_exchange;
    const char *target, *source, *key;
    struct view arguments;
};
void binding_encode(struct buf *b, const struct binding_record *x);
bool binding_decode(struct reader *r, uint8_t kind, struct binding_record *out);

void text_encode(struct buf *b, const char *text); // length u8, bytes, NUL
const char *text_decode(struct reader *r);         // NULL when damaged

static inline void put_u16(uint8_t *p, uint16_t v) {
    for (int i = 0; i < 2; i++) p[i] = (uint8_t)(v >> 8 * i);
}
static inline void put_u32(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> 8 * i);
}
static inline void put_u64(uint8_t *p, uint64_t v) {
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(v >> 8 * i);
}

#endif
