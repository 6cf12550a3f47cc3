#include "amqp/claims.h"

#include "base/hex.h"
#include "base/io.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/map.h"
#include "datastore/datastore.h"
#include "engine/engine.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MISSING_NAMED 10 // in the log

struct claim {
    uint8_t ticket[CLAIM_TICKET]; // first: the map's key
    uint64_t messages, holds;
    bool seen;             // by the sweep at the start
    struct list_node gone; // nobody needs it
};

// Between its asking and the store's answer the asker may go.
struct claims_call {
    struct claims *claims;
    struct list_node of_claims;
    claims_finished_fn *finished; // one of both, or none: forgotten
    claims_opened_fn *opened;
    void *arg;
};

struct claims {
    struct datastore *store;
    struct loop *loop;
    struct engine *engine; // NULL: it is replaying
    struct map by_ticket;
    struct list gone;      // until it is asked what is durable
    struct list waiting;   // for that
    struct list calls;     // not answered yet
    struct loop_post post; // once a pass
    bool asked, closed;
    uint64_t missing;
};

static struct claim *find(const struct claims *c, const uint8_t *ticket) {
    return map_get(&c->by_ticket, ticket, CLAIM_TICKET);
}

static struct claim *find_or_make(struct claims *c, const uint8_t *ticket) {
    struct claim *x = find(c, ticket);
    if (x) return x;
    x = calloc(1, sizeof *x);
    if (!x) die("out of memory for a large body");
    memcpy(x->ticket, ticket, CLAIM_TICKET);
    x->seen = c->engine != NULL; // it came later than the start
    if (!map_put(&c->by_ticket, x->ticket, CLAIM_TICKET, x)) die("out of memory for a large body");
    return x;
}

static void forget(struct claims *c, struct claim *x) {
    map_remove(&c->by_ticket, x->ticket, CLAIM_TICKET);
    list_remove(&x->gone);
    free(x);
}

// ---- removing

static void remove_waiting(void *arg, enum publish_result result) {
    (void)result;
    struct claims *c = arg;
    struct list_node *n;
    c->asked = false;
    while ((n = list_pop_front(&c->waiting)) != NULL) {
        struct claim *x = LIST_ITEM(n, struct claim, gone);
        datastore_remove(c->store, x->ticket, NULL, NULL);
        forget(c, x);
    }
    if (!list_empty(&c->gone) && !c->post.posted && !c->closed) loop_post(c->loop, &c->post);
}

static void on_post(struct loop_post *p) {
    struct claims *c = LIST_ITEM(p, struct claims, post);
    struct list_node *n;
    if (c->closed || c->asked) return;
    while ((n = list_pop_front(&c->gone)) != NULL) list_push_back(&c->waiting, n);
    c->asked = true;
    if (!engine_when_durable(c->engine, remove_waiting, c)) remove_waiting(c, PUBLISH_OK);
}

static void changed(struct claims *c, struct claim *x) {
    if (x->messages + x->holds > 0) {
        list_remove(&x->gone);
        return;
    }
    if (!c->engine) {
        forget(c, x); // the sweep will find it
        return;
    }
    list_push_back(&c->gone, &x->gone);
    if (!c->post.posted && !c->asked && !c->closed) loop_post(c->loop, &c->post);
}

void claims_count(void *claims, const uint8_t *ticket, int change) {
    struct claims *c = claims;
    struct claim *x = find_or_make(c, ticket);
    ASSERT(change == 1 || (change == -1 && x->messages > 0));
    x->messages += (uint64_t)(int64_t)change;
    changed(c, x);
}

void claims_hold(struct claims *c, const uint8_t *ticket) {
    struct claim *x = find_or_make(c, ticket);
    x->holds++;
    changed(c, x);
}

void claims_release(struct claims *c, const uint8_t *ticket) {
    struct claim *x = find(c, ticket);
    ASSERT(x && x->holds > 0);
    x->holds--;
    changed(c, x);
}

// ---- calls of the store

static struct claims_call *call_new(struct claims *c, void *arg) {
    struct claims_call *call = calloc(1, sizeof *call);
    if (!call) die("out of memory for a large body");
    call->claims = c;
    call->arg = arg;
    list_push_back(&c->calls, &call->of_claims);
    return call;
}

static void call_free(struct claims_call *call) {
    list_remove(&call->of_claims);
    free(call);
}

static void on_finished(void *arg, enum err err, const uint8_t *hash, uint64_t bytes) {
    (void)bytes;
    struct claims_call *call = arg;
    struct claims *c = call->claims;
    if (err == ERR_OK) claims_hold(c, hash);
    if (call->finished) call->finished(call->arg, err, hash);
    if (err == ERR_OK) claims_release(c, hash);
    call_free(call);
}

struct claims_call *claims_finish(struct claims *c, struct ds_writer *w, claims_finished_fn *done, void *arg) {
    struct claims_call *call = call_new(c, arg);
    call->finished = done;
    ds_writer_finish(w, on_finished, call);
    return call;
}

static void on_opened(void *arg, enum err err, struct ds_reader *r, uint64_t bytes) {
    struct claims_call *call = arg;
    if (call->opened) call->opened(call->arg, err, r, bytes);
    else if (r) ds_reader_free(r);
    call_free(call);
}

struct claims_call *claims_read(struct claims *c, const uint8_t *ticket, claims_opened_fn *done, void *arg) {
    struct claims_call *call = call_new(c, arg);
    call->opened = done;
    datastore_read(c->store, ticket, on_opened, call);
    return call;
}

void claims_call_forget(struct claims_call *call) {
    call->finished = NULL;
    call->opened = NULL;
}

// ---- the start

static void ask(void *arg, const uint8_t (*hashes)[DATASTORE_HASH], size_t n, ds_verdict_fn *verdict, void *batch) {
    struct claims *c = arg;
    uint8_t *wanted = calloc(1, n);
    if (!wanted) die("out of memory for a sweep");
    for (size_t i = 0; i < n; i++) {
        struct claim *x = find(c, hashes[i]);
        wanted[i] = x != NULL;
        if (x) x->seen = true;
    }
    verdict(batch, wanted);
    free(wanted);
}

static void tell_missing(struct claims *c) {
    struct claim *x;
    size_t at = 0;
    while ((x = map_next(&c->by_ticket, &at)) != NULL) {
        char name[2 * CLAIM_TICKET + 1];
        if (x->seen || x->holds > 0 || x->messages == 0 || ++c->missing > MISSING_NAMED) continue;
        hex_encode(x->ticket, CLAIM_TICKET, name);
        log_event(LOG_ERROR, "body_missing", "body", name, "reason", "messages name it and there is no such file",
                  NULL);
    }
    if (c->missing > MISSING_NAMED)
        log_text(LOG_ERROR, "body_missing", "%" PRIu64 " large bodies are not there", c->missing);
}

static void on_swept(void *arg, enum err err, uint64_t kept, uint64_t removed) {
    struct claims *c = arg;
    if (err != ERR_OK) {
        log_text(LOG_WARN, "bodies_swept", "what is left over could not be removed: %s", err_text(err));
        return;
    }
    if (kept + removed > 0)
        log_text(LOG_INFO, "bodies_swept", "%" PRIu64 " large bodies, %" PRIu64 " that nobody needed removed", kept,
                 removed);
    tell_missing(c);
}

void claims_start(struct claims *c, struct engine *engine) {
    c->engine = engine;
    datastore_sweep(c->store, 0, ask, on_swept, c);
}

// ---- opening and closing

enum err claims_open(struct claims **out, struct loop *loop, struct io *io, const char *dir, uint64_t low_water_bytes,
                     struct error *e) {
    struct claims *c = calloc(1, sizeof *c);
    if (!c) return error_set(e, ERR_NOMEM, "out of memory");
    enum err err = datastore_open(&c->store, loop, &(struct datastore_options){.directory = dir}, e);
    if (err != ERR_OK) {
        free(c);
        return err;
    }
    datastore_low_water(c->store, low_water_bytes);
    c->loop = loop;
    c->post.fn = on_post;
    map_init(&c->by_ticket, io_random_u64(io));
    list_init(&c->gone);
    list_init(&c->waiting);
    list_init(&c->calls);
    *out = c;
    return ERR_OK;
}

static void free_itself(struct claims *c) {
    struct claim *x;
    size_t at = 0;
    while ((x = map_next(&c->by_ticket, &at)) != NULL) free(x);
    map_release(&c->by_ticket);
    free(c);
}

static void on_last_post(struct loop_post *p) { free_itself(LIST_ITEM(p, struct claims, post)); }

void claims_close(struct claims *c) {
    if (!c) return;
    c->closed = true;
    datastore_close(c->store); // answers nothing any more
    LIST_EACH_SAFE(&c->calls, at) call_free(LIST_ITEM(at, struct claims_call, of_claims));
    if (c->post.posted) c->post.fn = on_last_post;
    else free_itself(c);
}

struct datastore *claims_store(const struct claims *c) {
    return c->store;
}

void claims_stats(const struct claims *c, struct claims_stats *out) {
    *out = (struct claims_stats){.bodies = c->by_ticket.len, .missing = c->missing};
}
