// /api/parked/vhost/queue: messages of a queue with x-park that were rejected or whose attempts are spent. Not
// RabbitMQ's.
#include "management/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT_STANDARD 100
#define LIMIT_MAX      1000

static void write_parked(void *arg, const struct parked *p) {
    struct out *o = arg;
    out_open(o, NULL, '{');
    out_uint(o, "id", p->id);
    out_text(o, "message_id", p->message_id);
    out_text(o, "reason", p->reason);
    out_uint(o, "attempts", p->attempts);
    out_uint(o, "message_bytes", p->body_length);
    out_int(o, "published_at", p->published_at_ms);
    out_int(o, "parked_at", p->parked_at_ms);
    out_close(o, '}');
}

static bool read_number(const char *text, uint64_t max, uint64_t *out) {
    char *end;
    errno = 0;
    if (*text < '0' || *text > '9') return false;
    *out = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0' && *out <= max;
}

static bool number_query(struct call *c, const char *name, uint64_t max, uint64_t *out) {
    char *text = call_query(c, name);
    bool good = text == NULL || read_number(text, max, out);
    if (!good) call_fail(c, 400, "bad_request", "%s is a number up to %llu", name, (unsigned long long)max);
    free(text);
    return good;
}

// The queue of the path, for its readers alone; NULL: answered.
static const char *queue_of(struct call *c) {
    struct queue_info q;
    const char *name = call_param(c, "queue");
    if (!engine_queue(c->vhost, name, &q)) {
        call_not_found(c, "queue");
        return NULL;
    }
    return call_may(c, ACCESS_READ, name) && !queue_is_locked(c, name) ? name : NULL;
}

void manage_parked(struct call *c) {
    struct out o;
    uint64_t skip = 0, limit = LIMIT_STANDARD;
    const char *queue = queue_of(c);
    if (queue == NULL || !number_query(c, "skip", UINT64_MAX, &skip) || !number_query(c, "limit", LIMIT_MAX, &limit))
        return;
    out_init(&o, &c->out, NULL);
    out_open(&o, NULL, '[');
    engine_parked_page(c->vhost, queue, skip, (uint32_t)limit, write_parked, &o);
    out_close(&o, ']');
    call_answer(c, 200);
}

// One by its id, or "all".
static void settle(struct call *c, enum err (*one)(struct engine *e, uint64_t id),
                   enum err (*all)(struct vhost *v, const char *queue, uint64_t *count)) {
    uint64_t id, count;
    struct engine *e = c->management->o.engine;
    const char *queue = queue_of(c), *which = call_param(c, "id");
    if (queue == NULL) return;
    bool every = strcmp(which, "all") == 0;
    if (!every && (!read_number(which, UINT64_MAX, &id) || !engine_parked_in(c->vhost, queue, id))) {
        call_not_found(c, "parked message");
        return;
    }
    enum err err = every ? all(c->vhost, queue, &count) : one(e, id);
    engine_flush(e);
    if (err == ERR_OK) {
        call_durable(c, 204);
        return;
    }
    struct error why;
    error_set(&why, err, "%s", err_text(err));
    call_error(c, &why);
}

void manage_parked_retry(struct call *c) { settle(c, engine_parked_retry, engine_parked_retry_all); }

void manage_parked_drop(struct call *c) { settle(c, engine_parked_drop, engine_parked_drop_all); }
