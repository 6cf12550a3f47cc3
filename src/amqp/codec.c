// Frames and methods. What a method's fields are is told by methods.def alone: each inclusion below makes one function
// or one case a method, straight-line code over a cursor that lives in registers.
#include "amqp/codec.h"

#include "base/assert.h"
#include "base/utf8.h"
#include "wire/bytes.h"

#include <string.h>

#define FRAME_HEAD  7
#define FRAME_END   0xCE
#define METHOD_HEAD 4  // class, method
#define HEADER_HEAD 12 // class, weight, body size
#define CLASS_BASIC 60
#define SHORT_MAX   255
#define NO_BITS     8 // every bit of the byte at hand is used
#define INLINE      static inline __attribute__((always_inline))

// ---- frames in

static bool type_known(uint8_t type) {
    return type == FRAME_METHOD || type == FRAME_HEADER || type == FRAME_BODY || type == FRAME_HEARTBEAT;
}

enum frame_result frame_decode(const uint8_t *data, size_t n, uint32_t frame_max, struct frame *out, size_t *consumed) {
    *consumed = 0;
    if (n > 0 && !type_known(data[0])) return FRAME_BAD_TYPE;
    if (n < FRAME_HEAD) return FRAME_MORE;
    uint32_t size = load_u32(data + 3);
    // Some clients (AMQPStorm) cut bodies into payloads of frame_max, and RabbitMQ lets them.
    if (frame_max != 0 && size > frame_max) return FRAME_TOO_LARGE;
    if (n - FRAME_HEAD <= size) return FRAME_MORE;
    if (data[FRAME_HEAD + (size_t)size] != FRAME_END) return FRAME_BAD_END;
    out->type = data[0];
    out->channel = load_u16(data + 1);
    out->payload = (struct view){data + FRAME_HEAD, size};
    *consumed = FRAME_OVERHEAD + (size_t)size;
    return FRAME_DONE;
}

// ---- methods in

struct in {
    const uint8_t *at, *end;
    uint8_t bits, bit; // the byte at hand, and which of its bits is next
    bool bad;
};

INLINE const uint8_t *in_take(struct in *in, size_t n) {
    const uint8_t *at = in->at;
    in->bit = NO_BITS;
    if (n > (size_t)(in->end - at)) {
        in->bad = true;
        return NULL;
    }
    in->at += n;
    return at;
}

INLINE uint8_t in_u8(struct in *in) {
    const uint8_t *at = in_take(in, 1);
    return at == NULL ? 0 : *at;
}

INLINE uint16_t in_u16(struct in *in) {
    const uint8_t *at = in_take(in, 2);
    return at == NULL ? 0 : load_u16(at);
}

INLINE uint32_t in_u32(struct in *in) {
    const uint8_t *at = in_take(in, 4);
    return at == NULL ? 0 : load_u32(at);
}

INLINE uint64_t in_u64(struct in *in) {
    const uint8_t *at = in_take(in, 8);
    return at == NULL ? 0 : load_u64(at);
}

INLINE bool in_bit(struct in *in) {
    if (in->bit == NO_BITS) {
        in->bits = in_u8(in);
        in->bit = 0;
    }
    return in->bits >> in->bit++ & 1;
}

INLINE struct view in_bytes(struct in *in, uint32_t n) {
    const uint8_t *at = in_take(in, n);
    return (struct view){at, at == NULL ? 0 : n};
}

INLINE struct view in_short(struct in *in) {
    struct view v = in_bytes(in, in_u8(in));
    if (!utf8_valid(v.data, v.length)) in->bad = true;
    return v;
}

INLINE struct view in_long(struct in *in) { return in_bytes(in, in_u32(in)); }

INLINE struct view in_table(struct in *in) {
    struct view v = in_long(in);
    if (v.length > 0 && !table_check(v)) in->bad = true;
    return v;
}

#define METHOD(ID, place, name, class_id, method_id, fields)                                                           \
    static bool decode_##place(struct in in, struct place *m) {                                                        \
        (void)m;                                                                                                       \
        fields return !in.bad && in.at == in.end;                                                                      \
    }
#define CONTENT_METHOD METHOD
#define U8(name)       m->name = in_u8(&in);
#define U16(name)      m->name = in_u16(&in);
#define U32(name)      m->name = in_u32(&in);
#define U64(name)      m->name = in_u64(&in);
#define BIT(name)      m->name = in_bit(&in);
#define SHORT(name)    m->name = in_short(&in);
#define LONG(name)     m->name = in_long(&in);
#define TABLE(name)    m->name = in_table(&in);
#define RESERVED_U16   in_u16(&in);
#define RESERVED_BIT   in_bit(&in);
#define RESERVED_SHORT in_short(&in);
#define RESERVED_LONG  in_long(&in);
#include "amqp/methods.def"

enum method_result method_decode(struct view payload, struct method *out) {
    if (payload.length < METHOD_HEAD) return METHOD_DAMAGED;
    struct in in = {.at = payload.data + METHOD_HEAD, .end = payload.data + payload.length, .bit = NO_BITS};
    bool good;
    out->id = (enum method_id)load_u32(payload.data);
    switch (out->id) {
#define METHOD(ID, place, name, class_id, method_id, fields)                                                           \
    case METHOD_##ID:                                                                                                  \
        good = decode_##place(in, &out->place);                                                                        \
        break;
#define CONTENT_METHOD METHOD
#include "amqp/methods.def"
    default: return METHOD_UNKNOWN;
    }
    return good ? METHOD_DONE : METHOD_DAMAGED;
}

enum method_result content_header_decode(struct view payload, struct content_header *out) {
    if (payload.length < HEADER_HEAD) return METHOD_DAMAGED;
    out->class_id = load_u16(payload.data);
    out->body_size = load_u64(payload.data + 4);
    out->properties = (struct view){payload.data + HEADER_HEAD, payload.length - HEADER_HEAD};
    if (out->class_id != CLASS_BASIC) return METHOD_UNKNOWN;
    bool weightless = load_u16(payload.data + 2) == 0;
    return weightless && properties_check(out->properties.data, out->properties.length) ? METHOD_DONE : METHOD_DAMAGED;
}

const char *method_name(enum method_id id) {
    switch (id) {
#define METHOD(ID, place, name, class_id, method_id, fields)                                                           \
    case METHOD_##ID:                                                                                                  \
        return name;
#define CONTENT_METHOD METHOD
#include "amqp/methods.def"
    default: return "unknown";
    }
}

bool method_has_content(enum method_id id) {
    switch (id) {
#define METHOD(ID, place, name, class_id, method_id, fields)
#define CONTENT_METHOD(ID, place, name, class_id, method_id, fields) case METHOD_##ID:
#include "amqp/methods.def"
        return true;
    default: return false;
    }
}

// ---- methods out. Room is made once, for at most so many bytes; then each field is a store.

// More than any buffer holds, so that a string too long for its place fails the buffer.
#define NO_ROOM ((size_t)1 << 48)

INLINE size_t short_size(struct view v) { return v.length > SHORT_MAX ? NO_ROOM : 1 + (size_t)v.length; }

#define METHOD(ID, place, name, class_id, method_id, fields)                                                           \
    INLINE size_t size_##place(const struct place *m) {                                                                \
        (void)m;                                                                                                       \
        return METHOD_HEAD fields;                                                                                     \
    }
#define CONTENT_METHOD METHOD
#define U8(name)       +1
#define U16(name)      +2
#define U32(name)      +4
#define U64(name)      +8
#define BIT(name)      +1
#define SHORT(name)    +short_size(m->name)
#define LONG(name)     +4 + (size_t)m->name.length
#define TABLE(name)    +4 + (size_t)m->name.length
#define RESERVED_U16   +2
#define RESERVED_BIT   +1
#define RESERVED_SHORT +1
#define RESERVED_LONG  +4
#include "amqp/methods.def"

static size_t method_room(const struct method *m) {
    switch (m->id) {
#define METHOD(ID, place, name, class_id, method_id, fields)                                                           \
    case METHOD_##ID:                                                                                                  \
        return FRAME_OVERHEAD + size_##place(&m->place);
#define CONTENT_METHOD METHOD
#include "amqp/methods.def"
    }
    ASSERT(!"a method of methods.def");
}

struct out {
    uint8_t *at;
    uint8_t bit; // of the byte before `at`
};

INLINE uint8_t *out_give(struct out *out, size_t n) {
    uint8_t *at = out->at;
    out->at += n;
    out->bit = NO_BITS;
    return at;
}

INLINE void out_bit(struct out *out, bool v) {
    if (out->bit == NO_BITS) {
        *out_give(out, 1) = 0;
        out->bit = 0;
    }
    out->at[-1] |= (uint8_t)(v << out->bit++);
}

INLINE void out_bytes(struct out *out, struct view v) {
    if (v.length > 0) memcpy(out_give(out, v.length), v.data, v.length);
}

INLINE void out_short(struct out *out, struct view v) {
    *out_give(out, 1) = (uint8_t)v.length;
    out_bytes(out, v);
}

INLINE void out_long(struct out *out, struct view v) {
    store_u32(out_give(out, 4), v.length);
    out_bytes(out, v);
}

#define METHOD(ID, place, name, class_id, method_id, fields)                                                           \
    INLINE uint8_t *encode_##place(struct out out, const struct place *m) {                                            \
        (void)m;                                                                                                       \
        fields return out.at;                                                                                          \
    }
#define CONTENT_METHOD METHOD
#define U8(name)       *out_give(&out, 1) = m->name;
#define U16(name)      store_u16(out_give(&out, 2), m->name);
#define U32(name)      store_u32(out_give(&out, 4), m->name);
#define U64(name)      store_u64(out_give(&out, 8), m->name);
#define BIT(name)      out_bit(&out, m->name);
#define SHORT(name)    out_short(&out, m->name);
#define LONG(name)     out_long(&out, m->name);
#define TABLE(name)    out_long(&out, m->name);
#define RESERVED_U16   store_u16(out_give(&out, 2), 0);
#define RESERVED_BIT   out_bit(&out, false);
#define RESERVED_SHORT *out_give(&out, 1) = 0;
#define RESERVED_LONG  store_u32(out_give(&out, 4), 0);
#include "amqp/methods.def"

static uint8_t *put_fields(uint8_t *at, const struct method *m) {
    struct out out = {at, NO_BITS};
    switch (m->id) {
#define METHOD(ID, place, name, class_id, method_id, fields)                                                           \
    case METHOD_##ID:                                                                                                  \
        return encode_##place(out, &m->place);
#define CONTENT_METHOD METHOD
#include "amqp/methods.def"
    }
    ASSERT(!"a method of methods.def");
}

// ---- frames out: each put_… writes where room was made, and gives the place behind

static uint8_t *put_head(uint8_t *at, enum frame_type type, uint16_t channel, uint32_t size) {
    at[0] = (uint8_t)type;
    store_u16(at + 1, channel);
    store_u32(at + 3, size);
    return at + FRAME_HEAD;
}

static uint8_t *put_view(uint8_t *at, struct view v) {
    if (v.length > 0) memcpy(at, v.data, v.length);
    return at + v.length;
}

static uint8_t *put_method(uint8_t *at, uint16_t channel, const struct method *m) {
    uint8_t *payload = at + FRAME_HEAD;
    store_u32(payload, (uint32_t)m->id);
    uint8_t *end = put_fields(payload + METHOD_HEAD, m);
    put_head(at, FRAME_METHOD, channel, (uint32_t)(end - payload));
    *end = FRAME_END;
    return end + 1;
}

static uint8_t *put_header(uint8_t *at, uint16_t channel, struct view properties, uint64_t body_size) {
    static const uint8_t none[2];
    if (properties.length == 0) properties = (struct view){none, sizeof none};
    at = put_head(at, FRAME_HEADER, channel, HEADER_HEAD + properties.length);
    store_u16(at, CLASS_BASIC);
    store_u16(at + 2, 0);
    store_u64(at + 4, body_size);
    at = put_view(at + HEADER_HEAD, properties);
    *at = FRAME_END;
    return at + 1;
}

static uint8_t *put_body(uint8_t *at, uint16_t channel, struct view body) {
    at = put_view(put_head(at, FRAME_BODY, channel, body.length), body);
    *at = FRAME_END;
    return at + 1;
}

static size_t head_room(const struct method *m, struct view properties) {
    return method_room(m) + FRAME_OVERHEAD + HEADER_HEAD + sizeof(uint16_t) + (size_t)properties.length;
}

static void wrote(struct buf *b, const uint8_t *end) { b->len = (size_t)(end - b->data); }

void method_encode(struct buf *b, uint16_t channel, const struct method *m) {
    uint8_t *at = buf_reserve(b, method_room(m));
    if (at != NULL) wrote(b, put_method(at, channel, m));
}

void content_head_encode(struct buf *b, uint16_t channel, const struct method *m, struct view properties,
                         uint64_t body_size) {
    uint8_t *at = buf_reserve(b, head_room(m, properties));
    if (at != NULL) wrote(b, put_header(put_method(at, channel, m), channel, properties, body_size));
}

void body_frame_encode(struct buf *b, uint16_t channel, struct view body) {
    uint8_t *at = buf_reserve(b, FRAME_OVERHEAD + (size_t)body.length);
    if (at != NULL) wrote(b, put_body(at, channel, body));
}

void content_encode(struct buf *b, uint16_t channel, const struct method *m, struct view properties, struct view body,
                    uint32_t frame_max) {
    ASSERT(frame_max == 0 || frame_max > FRAME_OVERHEAD);
    uint32_t most = (frame_max == 0 ? UINT32_MAX : frame_max) - FRAME_OVERHEAD;
    size_t frames = ((size_t)body.length + most - 1) / most;
    uint8_t *at = buf_reserve(b, head_room(m, properties) + frames * FRAME_OVERHEAD + body.length);
    if (at == NULL) return;
    at = put_header(put_method(at, channel, m), channel, properties, body.length);
    while (body.length > 0) {
        struct view part = {body.data, body.length < most ? body.length : most};
        at = put_body(at, channel, part);
        body.data += part.length;
        body.length -= part.length;
    }
    wrote(b, at);
}

void heartbeat_encode(struct buf *b) {
    uint8_t *at = buf_reserve(b, FRAME_OVERHEAD);
    if (at == NULL) return;
    at = put_head(at, FRAME_HEARTBEAT, 0, 0);
    *at = FRAME_END;
    wrote(b, at + 1);
}
