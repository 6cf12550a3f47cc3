// A content being gathered, one a channel. Embedded: content_init, content_release.
#ifndef BARID_AMQP_CONTENT_H
#define BARID_AMQP_CONTENT_H

#include "amqp/codec.h"
#include "base/list.h"

#define CONTENT_KEEP 1024 // bytes of method and properties whose memory is kept

enum content_stage { CONTENT_NONE, CONTENT_HEADER, CONTENT_BODY };

struct content {
    enum content_stage stage;
    struct method method;
    struct view payload; // the method's, from which it was decoded
    struct view properties;
    struct view body_view;
    uint64_t body_size, got;
    struct buf head; // method and properties, once they were copied
    struct buf body;
    struct list_node of_gathering; // connection_core.gathering
};

enum content_result {
    CONTENT_GOES_ON,
    CONTENT_COMPLETE,
    CONTENT_DAMAGED,
    CONTENT_OTHER_CLASS, // a header of another class than the method's
    CONTENT_TOO_LARGE,   // body_size tells
    CONTENT_NO_MEMORY,
};

void content_init(struct content *k);
void content_release(struct content *k);
void content_clear(struct content *k);
void content_begin(struct content *k, struct view method_payload, const struct method *m);
enum content_result content_header(struct content *k, struct view payload, uint64_t max_body);
enum content_result content_body(struct content *k, struct view payload);
bool content_keep(struct content *k); // the input goes away: copies what leads into it. False: no memory

#endif
