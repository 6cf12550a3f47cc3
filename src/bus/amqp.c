// The bus over any AMQP 0-9-1 broker: barid itself, RabbitMQ. See README.md for what it promises.
#include "bus/amqp_bus.h"

#include "base/assert.h"
#include "base/io.h"

#include <stdlib.h>

static struct amqp_bus *amqp_of(struct bus *b) { return (struct amqp_bus *)b; }

static enum err publish(struct bus *bus, const struct bus_event *event, bus_done_fn *done, void *arg, struct error *e) {
    struct amqp_bus *b = amqp_of(bus);
    enum err code = amqp_event_check(event, e);
    if (code) return code;
    struct amqp_event *v = amqp_event_new(event, NULL, 0);
    if (!v) return error_set(e, ERR_NOMEM, "out of memory");
    v->at_ms = io_wall_ms(b->io);
    code = amqp_publisher_put(b->publisher, v, b->settings.exchange, b->mandatory, done, arg, e);
    if (code) amqp_event_free(v);
    return code;
}

static bool reachable(struct bus *bus) {
    return amqp_publisher_up(amqp_of(bus)->publisher) && amqp_groups_up(amqp_of(bus));
}

static void on_before_block(struct loop_idle *i) { amqp_groups_pump(LIST_ITEM(i, struct amqp_bus, before_block)); }

// The groups first: what they park goes through the publisher.
static void close_bus(struct bus *bus) {
    struct amqp_bus *b = amqp_of(bus);
    loop_before_block_end(b->loop, &b->before_block);
    amqp_groups_close(b);
    amqp_publisher_close(b->publisher);
    amqp_settings_release(&b->settings);
    free(b);
}

static struct engine *no_engine(struct bus *b) { return NULL; }

static const struct bus_vtable vtable = {
    .close = close_bus,
    .publish = publish,
    .subscribe = amqp_subscribe,
    .settle = amqp_settle,
    .reachable = reachable,
    .unsubscribe = amqp_unsubscribe,
    .engine = no_engine,
};

enum err amqp_bus_open(struct bus **out, struct loop *loop, const struct bus_options *o, struct error *e) {
    ASSERT(o->io);
    struct amqp_bus *b = calloc(1, sizeof *b);
    if (!b) return error_set(e, ERR_NOMEM, "out of memory");
    b->bus.v = &vtable;
    b->loop = loop;
    b->io = o->io;
    b->mandatory = o->mandatory;
    b->memory_budget = o->memory_budget;
    b->before_block.fn = on_before_block;
    list_init(&b->groups);
    list_init(&b->leaving);
    list_init(&b->gone);
    enum err code = amqp_settings_parse(&b->settings, o->url, e);
    if (!code) code = amqp_publisher_open(&b->publisher, b, e);
    if (code) {
        amqp_settings_release(&b->settings);
        free(b);
        return code;
    }
    loop_before_block(loop, &b->before_block);
    *out = &b->bus;
    return ERR_OK;
}
