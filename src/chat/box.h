// A box is what the loop knows of a device that is here: its link, its polls, its acks under way. It exists as long
// as it has any of them; nothing in it is the truth, which is in the database.
#ifndef BARID_CHAT_BOX_H
#define BARID_CHAT_BOX_H

#include "chat/entry.h"

#define POLLS_MAX 8 // a device; the oldest is answered when there are more

struct box {
    int64_t did; // the key
    struct chat *chat;
    struct chat_link *link;
    struct list polls;
    size_t poll_count;
    struct list_node acking; // in the ack batch
    uint64_t ack_cursor;
};

struct box *box_find(struct chat *c, int64_t did);
struct box *box_get(struct chat *c, int64_t did); // makes it when it is not there
void box_put(struct box *b);                      // frees it when nothing is left in it
void box_offer(struct box *b, const struct entry *entry, uint64_t cursor);
void box_look(struct box *b, uint64_t last_cursor); // there are entries up to here
void box_close(struct box *b, const char *reason);  // the device is gone: its link and polls end
void boxes_release(struct chat *c);

// links.c
void link_offer(struct chat_link *l, const struct entry *entry, uint64_t cursor);
void link_known(struct chat_link *l, uint64_t cursor);   // there are entries up to here
void link_replaced(struct chat_link *l, uint64_t epoch); // the device has a link of this epoch: it goes if it is older
void link_close(struct chat_link *l, const char *reason);
void link_free(struct chat_link *l);
bool link_wants_touch(struct chat_link *l); // now and then, while it is connected
// polls.c
void poll_poke(struct box *b);
void poll_known(struct box *b, uint64_t cursor);
void polls_give_way(struct box *b); // all that wait are answered soon
void polls_close(struct box *b);
void polls_free(struct box *b);
// ack_batch.c
struct ack_batch *ack_batch_new(struct chat *c);
void ack_batch_free(struct ack_batch *a);
void ack_batch_add(struct chat *c, struct box *b, uint64_t cursor);

#endif
