#include "chat/notified.h"

#include <stdlib.h>
#include <string.h>

#define NOTES_MAX 8192 // then they are written at once
#define FLUSH_MS  1000

struct note_key {
    int64_t did;
    struct id message_id;
};
struct note {
    struct note_key key;
    int64_t mid, at;
};
struct notified {
    struct chat *chat;
    struct map notes;
    struct loop_timer timer;
};

struct flush_op {
    struct op op;
    size_t n;
    struct note notes[];
};

// One statement; what is to be changed is locked in one order first, whichever server noted it.
static enum err flush_at_once(struct db *db, const struct flush_op *op) {
    static struct db_sql update = {
        .text =
            "with t as materialized (select q.mid, q.did, n.at from unnest(?1::bigint[], ?2::bigint[], ?3::bigint[]) "
            "n (mid, did, at) join device_delivery q on q.mid = n.mid and q.did = n.did "
            "where q.notified_at is null order by q.mid, q.did for no key update of q) "
            "update device_delivery q set notified_at = t.at from t "
            "where q.mid = t.mid and q.did = t.did and q.notified_at is null"};
    int64_t *values = chat_alloc((3 * op->n + 1) * sizeof *values);
    for (size_t i = 0; i < op->n; i++) {
        values[i] = op->notes[i].mid;
        values[op->n + i] = op->notes[i].key.did;
        values[2 * op->n + i] = op->notes[i].at;
    }
    struct db_stmt *s = db_prepare(db, &update);
    for (int i = 0; i < 3; i++) db_bind_ints(s, i + 1, values + (size_t)i * op->n, op->n);
    enum err err = db_run(s);
    free(values);
    return err;
}

static enum err flush_run(struct db *db, struct db_unit *u) {
    static struct db_sql update = {.text = "update device_delivery set notified_at = ?3 "
                                           "where mid = ?1 and did = ?2 and notified_at is null"};
    struct flush_op *op = (struct flush_op *)u;
    enum err err = ERR_OK;
    if (db_kind(db) == DATABASE_POSTGRES) return flush_at_once(db, op);
    for (size_t i = 0; i < op->n && err == ERR_OK; i++) {
        struct db_stmt *s = db_prepare(db, &update);
        db_bind_int(s, 1, op->notes[i].mid);
        db_bind_int(s, 2, op->notes[i].key.did);
        db_bind_int(s, 3, op->notes[i].at);
        err = db_run(s);
    }
    return err;
}

static void flush_answer(struct op *op, enum err err) {}

static void notes_clear(struct notified *n) {
    size_t at = 0;
    struct note *note;
    while ((note = map_next(&n->notes, &at)) != NULL) free(note);
    map_release(&n->notes);
    map_init(&n->notes, n->chat->map_seed);
}

static void flush(struct notified *n) {
    loop_timer_stop(n->chat->loop, &n->timer);
    if (n->notes.len == 0) return;
    struct flush_op *op = op_new(n->chat, sizeof *op + n->notes.len * sizeof op->notes[0], flush_run, flush_answer);
    size_t at = 0;
    struct note *note;
    while ((note = map_next(&n->notes, &at)) != NULL) op->notes[op->n++] = *note;
    notes_clear(n);
    op_submit(&op->op);
}

static void flush_timer(struct loop_timer *t) { flush(LIST_ITEM(t, struct notified, timer)); }

struct notified *notified_new(struct chat *c) {
    struct notified *n = chat_alloc(sizeof *n);
    n->chat = c;
    map_init(&n->notes, c->map_seed);
    n->timer.fn = flush_timer;
    return n;
}

void notified_free(struct notified *n) {
    loop_timer_stop(n->chat->loop, &n->timer);
    notes_clear(n);
    map_release(&n->notes);
    free(n);
}

static struct note_key key_of(int64_t did, const struct id *message_id) {
    struct note_key key;
    memset(&key, 0, sizeof key);
    key.did = did;
    key.message_id = *message_id;
    return key;
}

void notified_add(struct chat *c, int64_t did, const struct id *message_id, int64_t mid) {
    struct notified *n = c->notified;
    struct note_key key = key_of(did, message_id);
    if (map_get(&n->notes, &key, sizeof key) != NULL) return;
    if (n->notes.len >= NOTES_MAX) flush(n);
    struct note *note = chat_alloc(sizeof *note);
    *note = (struct note){.key = key, .mid = mid, .at = chat_now(c)};
    if (!map_put(&n->notes, &note->key, sizeof note->key, note)) die("out of memory");
    if (!loop_timer_active(&n->timer)) loop_timer_start(c->loop, &n->timer, FLUSH_MS);
}

int64_t notified_take(struct chat *c, int64_t did, const struct id *message_id) {
    struct note_key key = key_of(did, message_id);
    struct note *note = map_remove(&c->notified->notes, &key, sizeof key);
    if (note == NULL) return 0;
    int64_t at = note->at;
    free(note);
    return at;
}
