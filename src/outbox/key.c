// Ordering keys: whose turn it is, and who has to wait.
//
// While a key is held its followers are not kept in memory: they would fill it and stop everybody else. They stay in
// the database, and when the key goes on the producer reads from there again (`behind`).
#include "outbox/internal.h"

#include "base/assert.h"
#include "base/io.h"

#include <stdlib.h>
#include <string.h>

static void hold_ended(struct loop_timer *t);

struct key *key_of(struct outbox *o, const char *text) {
    if (!text) text = "";
    size_t n = strlen(text);
    struct key *k = n ? map_get(&o->keys, text, n) : NULL;
    if (k) return k;
    k = calloc(1, sizeof *k + n + 1);
    if (!k) die("no memory for the outbox");
    list_init(&k->rows);
    k->o = o;
    k->timer.fn = hold_ended;
    k->length = n;
    memcpy(k->text, text, n + 1);
    k->loose = n == 0;
    if (!k->loose && !map_put(&o->keys, k->text, n, k)) die("no memory for the outbox");
    return k;
}

void key_add(struct key *k, struct row *r) {
    struct list_node *where = &k->rows.head;
    while (where->prev != &k->rows.head && LIST_ITEM(where->prev, struct row, in_key)->id > r->id) where = where->prev;
    list_insert_before(&r->in_key, where);
    r->key = k;
}

struct row *key_next(struct key *k) {
    if (k->held || k->in_flight >= k->o->sink.key_window) return NULL;
    if (k->stalled && k->in_flight > 0) return NULL;
    k->stalled = false;
    LIST_EACH(&k->rows, at) {
        struct row *r = LIST_ITEM(at, struct row, in_key);
        if (r->state == ROW_READY) return r;
        if (r->state == ROW_FAILED) return NULL;
    }
    return NULL;
}

void key_turn(struct key *k, bool first) {
    if (list_linked(&k->in_ready) || !key_next(k)) return;
    if (first) list_push_front(&k->o->ready, &k->in_ready);
    else list_push_back(&k->o->ready, &k->in_ready);
}

// A claim that is reading now leaves out what was in memory when it began, and what its snapshot says is blocked.
static void doubt(struct key *k) {
    struct outbox *o = k->o;
    if (!o->claiming || k->loose || map_get(&o->doubted, k->text, k->length)) return;
    char *text = malloc(k->length);
    if (!text || !map_put(&o->doubted, memcpy(text, k->text, k->length), k->length, text))
        die("no memory for the outbox");
}

bool key_doubted(const struct outbox *o, const struct row *r) {
    if (r->bucket >= 0 && (o->doubted_buckets >> r->bucket) & 1) return true;
    if (!r->key_text || !map_get(&o->doubted, r->key_text, strlen(r->key_text))) return false;
    const struct key *k = map_get(&o->keys, r->key_text, strlen(r->key_text));
    return !k || !k->held; // a key that is held is read again anyway, when it goes on
}

void key_doubts_end(struct outbox *o) {
    size_t at = 0;
    char *text;
    while ((text = map_next(&o->doubted, &at)) != NULL) free(text);
    map_release(&o->doubted);
    map_init(&o->doubted, io_random_u64(o->options.io));
    o->doubted_buckets = 0;
}

void key_skip(struct key *k, int64_t id) {
    doubt(k);
    if (!k->behind || id - 1 < k->behind_from) k->behind_from = id - 1;
    k->behind = true;
}

// Followers go back to where they came from: they are only forgotten here.
static void drop_followers(struct key *k, struct row *keep) {
    LIST_EACH_SAFE(&k->rows, at) {
        struct row *r = LIST_ITEM(at, struct row, in_key);
        if (r->state != ROW_READY || r == keep) continue;
        key_skip(k, r->id);
        list_remove(&r->in_key);
        r->key = NULL;
        outbox_forget(k->o, r);
    }
}

void key_hold(struct key *k, uint64_t delay_ms) {
    struct row *first = NULL; // one that waits itself stays: its delay is counted here
    LIST_EACH(&k->rows, at) {
        struct row *r = LIST_ITEM(at, struct row, in_key);
        if (r->state == ROW_READY && r->attempts > 0) first = r;
        if (first) break;
    }
    uint64_t due_ms = loop_now_ms(k->o->options.loop) + delay_ms;
    bool later = k->held && k->timer.due_ms > due_ms;
    k->held = true;
    list_remove(&k->in_ready);
    if (!k->loose) drop_followers(k, first);
    if (!later) loop_timer_start(k->o->options.loop, &k->timer, delay_ms);
}

static void catch_up(struct key *k) {
    if (!k->behind) return;
    k->behind = false;
    outbox_rewind(k->o, k->behind_from);
}

void key_block(struct key *k) {
    k->held = k->blocked = true;
    list_remove(&k->in_ready);
    drop_followers(k, NULL);
}

static void hold_ended(struct loop_timer *t) {
    struct key *k = LIST_ITEM(t, struct key, timer);
    struct outbox *o = k->o;
    if (k->blocked) return;
    k->held = false;
    catch_up(k);
    key_turn(k, false);
    outbox_pump(o);
    outbox_claim(o);
}

void key_leave(struct row *r) {
    struct key *k = r->key;
    struct outbox *o = k->o;
    list_remove(&r->in_key);
    r->key = NULL;
    if (k->blocked && (r->outcome == ROW_BLOCK || r->outcome == ROW_WAIT)) { // from now on claims leave the key aside
        doubt(k);
        k->held = k->blocked = false;
        loop_timer_stop(o->options.loop, &k->timer);
        if (!list_empty(&k->rows)) catch_up(k);
    }
    if (!list_empty(&k->rows)) {
        key_turn(k, false);
        return;
    }
    loop_timer_stop(o->options.loop, &k->timer);
    catch_up(k);
    list_remove(&k->in_ready);
    if (!k->loose) map_remove(&o->keys, k->text, k->length);
    free(k);
}
