// What the kinds of handlers share.
#ifndef BARID_INBOX_HANDLER_INTERNAL_H
#define BARID_INBOX_HANDLER_INTERNAL_H

#include "base/loop.h"
#include "inbox/handler.h"

struct handler_vtable {
    void (*check)(struct handler *h); // answers by handler_ready
    void (*free)(struct handler *h);
};

// The first member of each.
struct handler {
    const struct handler_vtable *v;
    struct handler_options options;
    struct outbox_sink sink;
    struct loop_post post; // for a check that has nothing to wait for
    handler_ready_fn *ready;
    void *ready_arg;
};

enum err handler_sql_open(struct handler **out, const struct handler_options *o, struct error *e);
enum err handler_web_open(struct handler **out, const struct handler_options *o, struct error *e);
enum err handler_program_open(struct handler **out, const struct handler_options *o, struct error *e);

void handler_init(struct handler *h, const struct handler_vtable *v, const struct handler_options *o);
void handler_ready(struct handler *h, enum err err, const char *why);
void handler_ready_soon(struct handler *h); // a check() of those that need none

// An event that a handler has. What the item points to lives until it was answered.
struct handler_event {
    struct outbox_item item;
    outbox_taken_fn *done;
    void *arg;
};

#endif
