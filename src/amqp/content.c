// Gathering a content: the method that announces it, its header, its body in as many frames as the client likes.
//
//   method ─► header (body size, properties) ─► body … body ─► the command
//
// When all of it lies in one piece of input, with the body in one frame, nothing is copied: method, properties and body
// are views into the input. What is not complete when the input ends is copied then, so that it may stay.
#include "amqp/content.h"

#include "base/assert.h"

#include <string.h>

#define BODY_FIRST (1u << 20) // reserved at once at most, however large a body is announced

void content_init(struct content *k) {
    *k = (struct content){0};
    buf_init(&k->head, SIZE_MAX);
    buf_init(&k->body, SIZE_MAX);
}

void content_release(struct content *k) {
    content_clear(k);
    buf_release(&k->head);
}

void content_clear(struct content *k) {
    list_remove(&k->of_gathering);
    k->stage = CONTENT_NONE;
    k->got = 0;
    buf_release(&k->body);
    buf_clear(&k->head);
    if (k->head.cap > CONTENT_KEEP) buf_release(&k->head);
}

void content_begin(struct content *k, struct view method_payload, const struct method *m) {
    ASSERT(k->stage == CONTENT_NONE);
    k->stage = CONTENT_HEADER;
    k->payload = method_payload;
    k->method = *m;
}

enum content_result content_header(struct content *k, struct view payload, uint64_t max_body) {
    struct content_header h;
    unsigned class_id = payload.length < 2 ? 0 : (unsigned)payload.data[0] << 8 | payload.data[1];
    if (class_id != METHOD_CLASS(k->method.id)) return CONTENT_OTHER_CLASS;
    if (content_header_decode(payload, &h) != METHOD_DONE) return CONTENT_DAMAGED;
    k->body_size = h.body_size;
    if (h.body_size > max_body) return CONTENT_TOO_LARGE;
    k->properties = h.properties;
    k->body_view = (struct view){0};
    k->stage = CONTENT_BODY;
    return h.body_size == 0 ? CONTENT_COMPLETE : CONTENT_GOES_ON;
}

enum content_result content_body(struct content *k, struct view payload) {
    if (payload.length > k->body_size - k->got) return CONTENT_DAMAGED;
    if (k->got == 0 && payload.length == k->body_size) {
        k->body_view = payload;
        return CONTENT_COMPLETE;
    }
    if (k->got == 0) buf_reserve(&k->body, k->body_size < BODY_FIRST ? (size_t)k->body_size : BODY_FIRST);
    buf_add(&k->body, payload.data, payload.length);
    if (!buf_ok(&k->body)) return CONTENT_NO_MEMORY;
    k->got += payload.length;
    k->body_view = (struct view){.data = k->body.data, .length = (uint32_t)k->body.len};
    return k->got == k->body_size ? CONTENT_COMPLETE : CONTENT_GOES_ON;
}

bool content_keep(struct content *k) {
    if (k->stage == CONTENT_NONE || k->head.len > 0) {
        // The method is kept already; the header may have come since.
        if (k->stage != CONTENT_BODY || k->head.len > k->payload.length) return true;
    }
    struct view properties = k->stage == CONTENT_BODY ? k->properties : (struct view){0};
    if (k->head.len == 0) buf_add(&k->head, k->payload.data, k->payload.length);
    // One byte between them, so that head.len tells that properties were added, even empty ones.
    if (k->stage == CONTENT_BODY) {
        buf_add_u8(&k->head, 0);
        buf_add(&k->head, properties.data, properties.length);
    }
    if (!buf_ok(&k->head)) return false;
    k->payload.data = k->head.data;
    if (k->stage == CONTENT_BODY) k->properties.data = k->head.data + k->payload.length + 1;
    enum method_result r = method_decode(k->payload, &k->method);
    ASSERT(r == METHOD_DONE); // it was decoded before
    return true;
}
