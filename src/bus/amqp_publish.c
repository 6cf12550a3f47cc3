// The publisher: events to the broker, with confirms.
//
//   put ─> todo ─> sent[tag] ─> basic.ack / basic.nack ─> finished ─> done
//
// A mandatory message that no queue takes comes back (basic.return) before it is confirmed; it is found by its message
// id among those sent, the confirmation then says no.
//
// When the broker closes the channel over a message (larger than it takes, say), nothing tells which one it was. So
// everything unconfirmed is given up as "not now", and as many are sent one by one afterwards: the one that is alone on
// its way when it happens again is to blame, and is refused.
#include "bus/amqp_bus.h"

#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SENT_MAX     4096 // unconfirmed at the broker; a power of two
#define WAITING_MAX  16384
#define BYTES_MAX    (64u << 20)
#define SENT_AT_ONCE 64
#define FRAME_SPARE  1024 // of a frame, for the properties beside the headers

struct sending {
    struct sending *next;
    struct amqp_event *event;
    const char *exchange; // NULL: the default one
    bool mandatory, returned;
    bus_done_fn *done;
    void *arg;
    enum err err;
    char *why; // NULL: err's own text
};

struct sendings {
    struct sending *first, **end;
};

struct amqp_publisher {
    struct amqp_bus *bus;
    struct amqp_link *link;

    // The loop's.
    uint32_t waiting; // put and not answered
    uint64_t bytes;

    // Under the link's lock.
    struct sendings todo, finished;

    // The thread's.
    struct sendings next; // taken from todo
    struct sending *sent[SENT_MAX];
    uint64_t first, last; // tags of what is sent: [first, last)
    uint32_t unconfirmed; // of them
    uint32_t careful;     // so many are sent one by one
    bool returning;       // a returned message's header is to come
    char return_why[256];
};

// ---- lists

static void list_clear(struct sendings *l) {
    l->first = NULL;
    l->end = &l->first;
}

static void list_add(struct sendings *l, struct sending *s) {
    s->next = NULL;
    *l->end = s;
    l->end = &s->next;
}

static void list_join(struct sendings *to, struct sendings *from) {
    if (!from->first) return;
    *to->end = from->first;
    to->end = from->end;
    list_clear(from);
}

static struct sending *list_take(struct sendings *l) {
    struct sending *s = l->first;
    if (!s) return NULL;
    l->first = s->next;
    if (!l->first) l->end = &l->first;
    return s;
}

// ---- the thread: answers

static void finish(struct amqp_publisher *p, struct sending *s, enum err err, const char *why) {
    char *copy = err && why ? strdup(why) : NULL;
    free(s->why);
    s->why = copy;
    s->err = err;
    amqp_link_lock(p->link);
    list_add(&p->finished, s);
    amqp_link_post(p->link);
    amqp_link_unlock(p->link);
}

static void confirm(struct amqp_publisher *p, uint64_t tag, bool ok) {
    struct sending *s = p->sent[tag % SENT_MAX];
    if (!s) return;
    p->sent[tag % SENT_MAX] = NULL;
    p->unconfirmed--;
    if (p->careful > 0) p->careful--;
    if (!ok) finish(p, s, ERR_LIMIT, "the broker refused the event (basic.nack)");
    else if (s->returned) finish(p, s, ERR_NOT_FOUND, s->why);
    else finish(p, s, ERR_OK, NULL);
}

static void confirmed(struct amqp_publisher *p, uint64_t tag, bool multiple, bool ok) {
    if (tag == 0 && multiple) tag = p->last - 1; // all
    if (tag < p->first || tag >= p->last) return;
    for (uint64_t at = multiple ? p->first : tag; at <= tag; at++) confirm(p, at, ok);
    while (p->first < p->last && !p->sent[p->first % SENT_MAX]) p->first++;
    amqp_link_proved(p->link);
}

static void returned(struct amqp_publisher *p, amqp_bytes_t id) {
    for (uint64_t at = p->first; at < p->last; at++) {
        struct sending *s = p->sent[at % SENT_MAX];
        if (!s || s->returned || id.len != strlen(s->event->id) || memcmp(id.bytes, s->event->id, id.len) != 0)
            continue;
        s->returned = true;
        s->why = strdup(p->return_why);
        return;
    }
}

static void give_up(struct amqp_publisher *p, const char *why) {
    for (uint64_t at = p->first; at < p->last; at++) {
        struct sending *s = p->sent[at % SENT_MAX];
        p->sent[at % SENT_MAX] = NULL;
        if (s) finish(p, s, ERR_UNAVAILABLE, why);
    }
    p->unconfirmed = 0;
    p->first = p->last;
    amqp_link_lock(p->link);
    list_join(&p->next, &p->todo);
    amqp_link_unlock(p->link);
    for (struct sending *s; (s = list_take(&p->next));) finish(p, s, ERR_UNAVAILABLE, why);
}

// ---- the thread: the link's role

static bool on_ready(void *role) {
    struct amqp_publisher *p = role;
    p->first = p->last = 1;
    p->returning = false;
    if (!amqp_link_exchange(p->link, &p->bus->settings)) return false;
    amqp_confirm_select(amqp_link_connection(p->link), AMQP_CHANNEL);
    return amqp_link_replied(p->link, "asking for confirms");
}

static size_t headers_size(const amqp_table_t *t) {
    size_t size = 0;
    for (int i = 0; i < t->num_entries; i++) size += t->entries[i].key.len + t->entries[i].value.value.bytes.len + 6;
    return size;
}

static bool send_one(struct amqp_publisher *p, struct sending *s) {
    struct amqp_event_properties properties;
    amqp_connection_state_t c = amqp_link_connection(p->link);
    const struct bus_event *e = &s->event->event;
    const char *route = s->event->route ? s->event->route : e->topic;
    amqp_event_encode(s->event, &properties);
    if (headers_size(&properties.p.headers) + FRAME_SPARE > (size_t)amqp_get_frame_max(c)) {
        finish(p, s, ERR_TOO_LARGE, "the headers are larger than a frame of the broker");
        return true;
    }
    p->sent[p->last++ % SENT_MAX] = s;
    p->unconfirmed++;
    amqp_bytes_t body = {.bytes = (void *)e->payload, .len = e->payload_length};
    amqp_bytes_t exchange = s->exchange ? amqp_cstring_bytes(s->exchange) : amqp_empty_bytes;
    return amqp_link_sent(p->link, amqp_basic_publish(c, AMQP_CHANNEL, exchange, amqp_cstring_bytes(route),
                                                      s->mandatory, 0, &properties.p, body));
}

static bool may_send(const struct amqp_publisher *p) {
    return p->careful > 0 ? p->unconfirmed == 0 : p->last - p->first < SENT_MAX;
}

static enum amqp_work on_work(void *role) {
    struct amqp_publisher *p = role;
    amqp_link_lock(p->link);
    bool up = amqp_link_state(p->link) == AMQP_UP;
    if (up) list_join(&p->next, &p->todo);
    amqp_link_unlock(p->link);
    if (!up) return AMQP_WORK_DONE;
    for (int i = 0; i < SENT_AT_ONCE; i++) {
        if (!p->next.first || !may_send(p)) return AMQP_WORK_DONE; // a confirmation comes back to this
        if (!send_one(p, list_take(&p->next))) return AMQP_WORK_LOST;
    }
    return AMQP_WORK_MORE;
}

static void note_return(struct amqp_publisher *p, const amqp_basic_return_t *m) {
    p->returning = true;
    snprintf(p->return_why, sizeof p->return_why, "no queue takes the topic '%.*s' (%u %.*s)", (int)m->routing_key.len,
             (const char *)m->routing_key.bytes, m->reply_code, (int)m->reply_text.len,
             (const char *)m->reply_text.bytes);
}

static bool on_frame(void *role, const amqp_frame_t *f) {
    struct amqp_publisher *p = role;
    if (f->frame_type == AMQP_FRAME_HEADER && p->returning) {
        const amqp_basic_properties_t *properties = f->payload.properties.decoded;
        p->returning = false;
        if (properties->_flags & AMQP_BASIC_MESSAGE_ID_FLAG) returned(p, properties->message_id);
    }
    if (f->frame_type != AMQP_FRAME_METHOD) return true; // its body
    const void *m = f->payload.method.decoded;
    switch (f->payload.method.id) {
    case AMQP_BASIC_ACK_METHOD:
        confirmed(p, ((const amqp_basic_ack_t *)m)->delivery_tag, ((const amqp_basic_ack_t *)m)->multiple, true);
        break;
    case AMQP_BASIC_NACK_METHOD:
        confirmed(p, ((const amqp_basic_nack_t *)m)->delivery_tag, ((const amqp_basic_nack_t *)m)->multiple, false);
        break;
    case AMQP_BASIC_RETURN_METHOD: note_return(p, m); break;
    default: break;
    }
    return true;
}

// Missing exchanges and missing rights are the configuration's fault, anything else the message's.
static void on_closed(void *role, uint16_t code, const char *text) {
    struct amqp_publisher *p = role;
    if (code == AMQP_NOT_FOUND || code == AMQP_ACCESS_REFUSED) return;
    if (p->unconfirmed > 1) {
        p->careful = p->unconfirmed;
        return;
    }
    struct sending *s = p->unconfirmed == 1 ? p->sent[p->first % SENT_MAX] : NULL;
    if (!s) return;
    p->sent[p->first % SENT_MAX] = NULL;
    p->unconfirmed = 0;
    finish(p, s, ERR_TOO_LARGE, text);
}

static void on_lost(void *role, const char *why) { give_up(role, why); }

static bool on_idle(void *role) {
    struct amqp_publisher *p = role;
    amqp_link_lock(p->link);
    bool idle = !p->next.first && !p->todo.first && p->unconfirmed == 0;
    amqp_link_unlock(p->link);
    return idle;
}

// ---- the loop

static void answer(struct amqp_publisher *p, struct sending *s) {
    bus_done_fn *done = s->done;
    p->waiting--;
    p->bytes -= s->event->event.payload_length;
    if (done) done(s->arg, s->err, s->why ? s->why : err_text(s->err));
    amqp_event_free(s->event);
    free(s->why);
    free(s);
}

static void on_post(void *role) {
    struct amqp_publisher *p = role;
    struct sendings finished;
    list_clear(&finished);
    amqp_link_lock(p->link);
    list_join(&finished, &p->finished);
    amqp_link_unlock(p->link);
    for (struct sending *s; (s = list_take(&finished));) answer(p, s);
}

static void on_ended(void *role) { free(role); }

static const struct amqp_role publisher = {.ready = on_ready,
                                           .work = on_work,
                                           .frame = on_frame,
                                           .closed = on_closed,
                                           .blocked = on_lost,
                                           .lost = on_lost,
                                           .idle = on_idle,
                                           .post = on_post,
                                           .ended = on_ended};

bool amqp_publisher_up(struct amqp_publisher *p) {
    amqp_link_lock(p->link);
    bool up = amqp_link_state(p->link) == AMQP_UP;
    amqp_link_unlock(p->link);
    return up;
}

static enum err check_room(struct amqp_publisher *p, const struct amqp_event *v, struct error *e) {
    uint64_t most = p->bus->memory_budget ? p->bus->memory_budget : BYTES_MAX;
    if (p->waiting >= WAITING_MAX || (p->waiting > 0 && p->bytes + v->event.payload_length > most))
        return error_set(e, ERR_BUSY, "%u events wait for the broker", p->waiting);
    return ERR_OK;
}

enum err amqp_publisher_put(struct amqp_publisher *p, struct amqp_event *v, const char *exchange, bool mandatory,
                            bus_done_fn *done, void *arg, struct error *e) {
    enum err code = check_room(p, v, e);
    if (code) return code;
    struct sending *s = malloc(sizeof *s);
    if (!s) return error_set(e, ERR_NOMEM, "out of memory");
    *s = (struct sending){.event = v, .exchange = exchange, .mandatory = mandatory, .done = done, .arg = arg};
    amqp_link_lock(p->link);
    enum amqp_link_state state = amqp_link_state(p->link);
    bool first = !p->todo.first;
    if (state == AMQP_UP || state == AMQP_OPENING) list_add(&p->todo, s);
    else code = error_set(e, ERR_UNAVAILABLE, "%s", amqp_link_why(p->link));
    amqp_link_unlock(p->link);
    if (code) {
        free(s);
        return code;
    }
    p->waiting++;
    p->bytes += v->event.payload_length;
    if (first) amqp_link_wake(p->link);
    return ERR_OK;
}

enum err amqp_publisher_open(struct amqp_publisher **out, struct amqp_bus *b, struct error *e) {
    struct amqp_publisher *p = calloc(1, sizeof *p);
    if (!p) return error_set(e, ERR_NOMEM, "out of memory");
    p->bus = b;
    list_clear(&p->todo);
    list_clear(&p->finished);
    list_clear(&p->next);
    enum err code = amqp_link_open(&p->link, b->loop, b->io, &b->settings, &publisher, p, e);
    if (code) {
        free(p);
        return code;
    }
    *out = p;
    return ERR_OK;
}

void amqp_publisher_close(struct amqp_publisher *p) { amqp_link_end(p->link); }
