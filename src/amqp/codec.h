// AMQP 0-9-1 on the wire, sans-IO: bytes in; consumed count, frame or error out. One table (methods.def) from which the
// structs, decoding, encoding, names and dispatch are made.
//
//   frame    type u8 │ channel u16 │ size u32 │ payload (size bytes) │ 0xCE
//   method   class u16 │ method u16 │ arguments
//   header   class u16 │ weight u16 = 0 │ body size u64 │ properties (wire/properties.h)
//
// Names: the struct of queue.declare is struct queue_declare, its id METHOD_QUEUE_DECLARE, its place in struct method
// `queue_declare`; fields are the specification's with '_' for '-' ("no_wait", "routing_key", "if_unused"). Reserved
// fields are read over and written as zeros, and are in no struct. Short and long strings and tables (entries without
// the length) are struct view, bits are bool.
#ifndef BARID_AMQP_CODEC_H
#define BARID_AMQP_CODEC_H

#include "wire/properties.h"
#include "wire/table.h"

#define FRAME_OVERHEAD 8 // agreed-on sizes include it, and what we send; 0 is no bound
#define FRAME_MIN_SIZE 4096

enum frame_type { FRAME_METHOD = 1, FRAME_HEADER = 2, FRAME_BODY = 3, FRAME_HEARTBEAT = 8 };

struct frame {
    enum frame_type type;
    uint16_t channel;
    struct view payload;
};

enum frame_result {
    FRAME_DONE,      // *consumed bytes were a frame
    FRAME_MORE,      // not all there yet, nothing consumed
    FRAME_BAD_TYPE,  // 501
    FRAME_BAD_END,   // 501
    FRAME_TOO_LARGE, // 501: larger than was agreed on, known from its head already
};
enum frame_result frame_decode(const uint8_t *data, size_t n, uint32_t frame_max, struct frame *out, size_t *consumed);

// enum method_id { METHOD_CONNECTION_START = 10 << 16 | 10, … }, struct connection_start …, struct method
#include "amqp/methods.h"

enum method_result { METHOD_DONE, METHOD_UNKNOWN /* 540 */, METHOD_DAMAGED /* 502: tables, UTF-8, length */ };
enum method_result method_decode(struct view payload, struct method *out); // views lead into the payload
// The whole frame. A short string of more than 255 bytes fails the buffer, as everything here that does not fit does;
// nothing is written then.
void method_encode(struct buf *b, uint16_t channel, const struct method *m);
const char *method_name(enum method_id id); // "queue.declare-ok", "unknown"
bool method_has_content(enum method_id id);

struct content_header {
    uint16_t class_id;
    uint64_t body_size;
    struct view properties; // checked: properties_decode will succeed
};
// METHOD_UNKNOWN: of another class than basic, the only one that has contents; class_id is there then.
enum method_result content_header_decode(struct view payload, struct content_header *out);

// A method with its header frame and its body in frames of at most frame_max: basic.deliver, get-ok, return.
void content_encode(struct buf *b, uint16_t channel, const struct method *m, struct view properties, struct view body,
                    uint32_t frame_max);
// The same in pieces, for a body that is streamed: method and header; then body frames.
void content_head_encode(struct buf *b, uint16_t channel, const struct method *m, struct view properties,
                         uint64_t body_size);
void body_frame_encode(struct buf *b, uint16_t channel, struct view body);
void heartbeat_encode(struct buf *b);

#endif
