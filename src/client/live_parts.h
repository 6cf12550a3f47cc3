// What the parts of live share: live.c (the whole), live_receive.c, live_outbox.c, live_read.c.
#ifndef BARID_CLIENT_LIVE_PARTS_H
#define BARID_CLIENT_LIVE_PARTS_H

#include "base/list.h"
#include "base/loop.h"
#include "client/live.h"
#include "client/uplink.h"

#include <stdatomic.h>

struct live {
    struct live_options o;
    struct client *c;
    struct uplink *uplink;
    bool open, drained, told_drained, ended;
    atomic_bool cancel;   // work on the pool ends soon
    struct list incoming; // struct incoming, in the order of their cursors
    size_t incoming_count, fetching, saving;
    struct list lanes;      // struct lane, one a conversation that is being sent
    size_t preparing;       // lanes that work on the pool
    size_t reading;         // read frames without an answer
    uint64_t read_after_ms; // no read frames before this time of the loop
    struct loop_timer poll;
    int64_t version; // of the store, as last seen
};

void live_trouble(struct live *l, const struct error *e);
void live_end(struct live *l, const struct error *e);
void live_check_done(struct live *l);

void live_receive_entry(struct live *l, const json_t *frame);
void live_receive_closed(struct live *l);

void live_outbox_scan(struct live *l);
void live_outbox_closed(struct live *l);

void live_read_message(struct live *l, const char *message_id);
void live_read_untold(struct live *l);

#endif
