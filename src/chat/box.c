#include "chat/box.h"

#include <stdlib.h>

struct box *box_find(struct chat *c, int64_t did) {
    return map_get(&c->boxes, &did, sizeof did);
}

struct box *box_get(struct chat *c, int64_t did) {
    struct box *b = box_find(c, did);
    if (b != NULL) return b;
    b = chat_alloc(sizeof *b);
    b->did = did;
    b->chat = c;
    list_init(&b->polls);
    if (!map_put(&c->boxes, &b->did, sizeof b->did, b)) die("out of memory");
    return b;
}

void box_put(struct box *b) {
    if (b->link != NULL || b->poll_count > 0 || list_linked(&b->acking)) return;
    map_remove(&b->chat->boxes, &b->did, sizeof b->did);
    free(b);
}

// The link may be closed by what it is shown, and the box with it: the polls come first.
void box_offer(struct box *b, const struct entry *entry, uint64_t cursor) {
    poll_poke(b);
    if (b->link != NULL) link_offer(b->link, entry, cursor);
}

void box_look(struct box *b, uint64_t last_cursor) {
    poll_known(b, last_cursor);
    if (b->link != NULL) link_known(b->link, last_cursor);
}

void box_close(struct box *b, const char *reason) {
    struct chat *c = b->chat;
    int64_t did = b->did;
    polls_close(b);
    b = box_find(c, did);
    if (b != NULL && b->link != NULL) link_close(b->link, reason);
}

void boxes_release(struct chat *c) {
    size_t at = 0;
    struct box *b;
    while ((b = map_next(&c->boxes, &at)) != NULL) {
        if (b->link != NULL) link_free(b->link);
        polls_free(b);
        list_remove(&b->acking);
        free(b);
    }
    map_release(&c->boxes);
}
