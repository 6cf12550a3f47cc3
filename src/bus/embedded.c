// The embedded bus: the engine, its journal and the commit thread, driven by the loop.
//
// An event is a persistent message to the topic exchange "barid.events":
//   routing key = topic, body = payload, and the properties of an AMQP message: content_type application/json,
//   delivery_mode 2, message_id = event id, type = topic, timestamp, and the header "key" = ordering key, if any.
//
// All that one pass of the loop appends goes to the disk together: the hook before the loop blocks hands the
// batch to the commit thread, and while that is syncing the next pass fills the next batch.
#include "bus/embedded.h"

#include "base/assert.h"
#include "base/io.h"
#include "journal/commit.h"
#include "journal/journal.h"
#include "wire/properties.h"

#include <stdlib.h>
#include <string.h>

#define JOURNAL_DIR "journal"
#define ROUNDS      8 // of handing out before the loop looks at its sockets again

struct pending {
    struct embedded *bus;
    struct pending *next; // while spare
    bus_done_fn *done;
    void *arg;
};

static struct embedded *embedded_of(struct bus *b) { return (struct embedded *)b; }

// ---- publishing

static struct pending *pending_new(struct embedded *b, bus_done_fn *done, void *arg) {
    struct pending *p = b->spare;
    if (p) b->spare = p->next;
    else p = malloc(sizeof *p);
    if (p) *p = (struct pending){.bus = b, .done = done, .arg = arg};
    return p;
}

static void pending_free(struct embedded *b, struct pending *p) {
    p->next = b->spare;
    b->spare = p;
}

static enum err answer(enum publish_result result) {
    switch (result) {
    case PUBLISH_OK:
    case PUBLISH_DUPLICATE:
    case PUBLISH_UNROUTABLE: return ERR_OK; // nobody subscribes: nobody misses it
    case PUBLISH_REJECTED: return ERR_FULL;
    }
    return ERR_INVALID;
}

static void on_done(void *arg, enum publish_result result) {
    struct pending *p = arg;
    bus_done_fn *done = p->done;
    void *done_arg = p->arg;
    pending_free(p->bus, p);
    enum err err = answer(result);
    if (done) done(done_arg, err, err_text(err));
}

static struct buf *encode(struct embedded *b, const struct bus_event *event, const char *id) {
    struct buf headers, *out = &b->properties;
    buf_init(&headers, 1024);
    if (event->key) table_put_text(&headers, "key", event->key);
    struct properties p = {.flags = PROPERTY_CONTENT_TYPE | PROPERTY_DELIVERY_MODE | PROPERTY_MESSAGE_ID |
                                    PROPERTY_TYPE | PROPERTY_TIMESTAMP | (event->key ? PROPERTY_HEADERS : 0),
                           .delivery_mode = 2,
                           .timestamp = (uint64_t)(io_wall_ms(b->io) / 1000),
                           .content_type = view_of("application/json"),
                           .message_id = view_of(id),
                           .type = view_of(event->topic),
                           .headers = {.data = headers.data, .length = (uint32_t)headers.len}};
    buf_clear(out);
    properties_encode(out, &p);
    if (!buf_ok(&headers) || !buf_ok(out)) die("out of memory");
    buf_release(&headers);
    return out;
}

static enum err embedded_publish(struct bus *bus, const struct bus_event *event, bus_done_fn *done, void *arg,
                                 struct error *e) {
    struct embedded *b = embedded_of(bus);
    if (b->closing) return error_set(e, ERR_CLOSED, "the bus is closing");
    char id[ID_TEXT];
    id_format(&event->event_id, id);
    const struct buf *properties = encode(b, event, id);
    struct message m = {.exchange = EVENTS_EXCHANGE,
                        .routing_key = event->topic,
                        .properties = properties->data,
                        .properties_length = (uint32_t)properties->len,
                        .body = event->payload,
                        .body_length = (uint32_t)event->payload_length,
                        .message_id = id,
                        .persistent = true};
    struct pending *p = pending_new(b, done, arg);
    if (!p) return error_set(e, ERR_NOMEM, "out of memory");
    enum err code = engine_publish(b->vhost, &m, on_done, p, NULL, e);
    if (code) pending_free(b, p);
    return code;
}

// ---- driving

static void arm(struct embedded *b, bool more) {
    uint64_t deadline = more ? 0 : engine_next_deadline(b->engine);
    if (deadline == UINT64_MAX) {
        loop_timer_stop(b->loop, &b->timer);
        return;
    }
    uint64_t now = io_monotonic_ns(b->io);
    loop_timer_start(b->loop, &b->timer, deadline > now ? (deadline - now + 999999) / 1000000 : 0);
}

static void kick(struct embedded *b) {
    engine_flush(b->engine);
    struct journal *j = engine_journal(b->engine);
    if (journal_appended(j) > journal_durable(j)) commit_kick(b->commit);
}

static void on_before_block(struct loop_idle *i) {
    struct embedded *b = LIST_ITEM(i, struct embedded, before_block);
    bool more = true;
    for (int round = 0; more && round < ROUNDS; round++) {
        groups_pump(b);
        more = engine_dispatch(b->engine) || groups_ready(b);
    }
    kick(b);
    arm(b, more);
}

// on_before_block follows and arms it again.
static void on_timer(struct loop_timer *t) { engine_tick(LIST_ITEM(t, struct embedded, timer)->engine); }

static void on_durable(void *arg) { engine_durable(((struct embedded *)arg)->engine); }

// ---- opening and closing

static void spares_free(struct embedded *b) {
    for (struct pending *p; (p = b->spare);) {
        b->spare = p->next;
        free(p);
    }
}

// Everything published is durable and answered when this returns.
static void embedded_close(struct bus *bus) {
    struct embedded *b = embedded_of(bus);
    b->closing = true;
    loop_before_block_end(b->loop, &b->before_block);
    loop_timer_stop(b->loop, &b->timer);
    groups_free(b);
    engine_flush(b->engine);
    commit_free(b->commit);
    engine_durable(b->engine);
    engine_close(b->engine);
    spares_free(b);
    buf_release(&b->properties);
    free(b);
}

static struct engine *embedded_engine(struct bus *b) { return embedded_of(b)->engine; }

static const struct bus_vtable vtable = {
    .close = embedded_close,
    .publish = embedded_publish,
    .subscribe = group_subscribe,
    .settle = group_settle,
    .unsubscribe = group_unsubscribe,
    .engine = embedded_engine,
};

static enum err start(struct embedded *b, const struct bus_options *o, struct error *e) {
    struct journal_options journal = {.dir = JOURNAL_DIR, .low_water_bytes = o->low_water_bytes};
    struct engine_options options = {
        .journal = &journal, .memory_budget = o->memory_budget, .claim = o->claim, .claim_arg = o->claim_arg};
    enum err code = engine_open(&b->engine, o->io, &options, e);
    if (code) return code;
    b->vhost = engine_vhost(b->engine, "/");
    struct exchange_options events = {.type = EXCHANGE_TOPIC, .durable = true, .glob = true};
    code = engine_exchange_declare(b->vhost, EVENTS_EXCHANGE, &events, e);
    // Our hook runs before the commit thread's, which then takes along what we flushed.
    loop_before_block(b->loop, &b->before_block);
    if (!code) code = commit_new(&b->commit, b->loop, engine_journal(b->engine), on_durable, b, e);
    if (!code) return ERR_OK;
    loop_before_block_end(b->loop, &b->before_block);
    engine_close(b->engine);
    return code;
}

enum err embedded_open(struct bus **out, struct loop *loop, const struct bus_options *o, struct error *e) {
    struct embedded *b = calloc(1, sizeof *b);
    if (!b) return error_set(e, ERR_NOMEM, "out of memory");
    b->bus.v = &vtable;
    b->loop = loop;
    b->io = o->io;
    b->timer.fn = on_timer;
    b->before_block.fn = on_before_block;
    buf_init(&b->properties, 4096);
    list_init(&b->groups);
    list_init(&b->gone);
    enum err code = start(b, o, e);
    if (code) {
        free(b);
        return code;
    }
    *out = &b->bus;
    return ERR_OK;
}
