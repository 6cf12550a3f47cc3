// The bus as a sink.
#include "outbox/sink.h"

#include "base/assert.h"

#include <stdlib.h>

#define EMBEDDED_KEY_WINDOW 64

// One event with the bus.
struct passage {
    struct bus_sink *sink;
    struct passage *next; // while spare
    outbox_taken_fn *done;
    void *arg;
};

struct bus_sink {
    struct bus *bus;
    struct passage *spare;
};

static enum outbox_taken meaning(enum err err) {
    switch (err) {
    case ERR_OK: return TAKEN;
    case ERR_UNAVAILABLE:
    case ERR_FULL:
    case ERR_BUSY:
    case ERR_CLOSED: return TAKEN_AWAY;
    default: return TAKEN_REFUSED;
    }
}

static void give_back(struct passage *p) {
    p->next = p->sink->spare;
    p->sink->spare = p;
}

static void answered(void *arg, enum err err, const char *why) {
    struct passage *p = arg;
    outbox_taken_fn *done = p->done;
    void *done_arg = p->arg;
    give_back(p);
    done(done_arg, meaning(err), why);
}

static void take(void *arg, const struct outbox_item *item, outbox_taken_fn *done, void *done_arg) {
    struct bus_sink *s = arg;
    struct passage *p = s->spare;
    if (p) s->spare = p->next;
    else p = malloc(sizeof *p);
    if (!p) die("no memory for the outbox");
    *p = (struct passage){.sink = s, .done = done, .arg = done_arg};
    struct error e = {0};
    enum err err = bus_publish(s->bus, &item->event, answered, p, &e);
    if (!err) return; // and may have been answered already
    give_back(p);
    done(done_arg, meaning(err), e.text[0] ? e.text : err_text(err));
}

static bool there(void *arg) { return bus_reachable(((struct bus_sink *)arg)->bus); }

struct bus_sink *bus_sink_new(struct bus *bus, struct outbox_sink *out) {
    struct bus_sink *s = calloc(1, sizeof *s);
    if (!s) die("no memory for the outbox");
    s->bus = bus;
    *out = (struct outbox_sink){.take = take, .sink = s, .name = "bus", .there = there};
    // The embedded bus refuses in the call; any other may refuse an event after its followers were taken.
    if (bus_engine(bus)) out->key_window = EMBEDDED_KEY_WINDOW;
    return s;
}

void bus_sink_free(struct bus_sink *s) {
    if (!s) return;
    for (struct passage *p; (p = s->spare);) {
        s->spare = p->next;
        free(p);
    }
    free(s);
}
