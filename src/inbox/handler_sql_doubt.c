// Whose fault is it when a transaction ends as if the database were away: its connection breaks, or there is no memory
// or no disk for it?
//
// Mostly the database's: then everything waits, and no attempt is spent. But a function may end its own session, or ask
// for so much that the server cannot give it, each time anew; then its event would hold up everybody for ever. So a
// transaction of our own is tried beside it, which takes a connection, memory and disk, too; and the batch goes on
// event by event:
//
//   alone, and failed ─> does the probe go well? ─ twice ─> the event's own failure
//                                └─ no ─> away
//
// What takes the whole server down takes the probe and the other batches with it. So for a while after an outage the
// batches run one at a time, and before an event that has failed alone the probe is asked: when the database is well
// before it and gone after it, that counts as well.
#include "inbox/handler_sql.h"

#include <stdio.h>

#define STRIKES 2

bool sql_means_away(enum err err) {
    return err == ERR_UNAVAILABLE || err == ERR_FULL || err == ERR_CLOSED || err == ERR_NOMEM;
}

// A relation of its own has to be made longer, for which a full disk has no room.
static struct db_sql probe_sql = {
    .text = "create temporary table if not exists barid_probe on commit drop as "
            "select repeat('x', 7000) as filler from generate_series(1, 32)",
};

static enum err run(struct db *db, struct db_unit *u) { return db_run(db_prepare(db, &probe_sql)); }

// ---- after a failure

static bool is_to_blame(struct slot *s, bool there) {
    int64_t id = s->batch[0]->event.item.id;
    bool same = s->suspect == id;
    if (!same) s->strikes = 0;
    if (there || (same && s->probed)) s->strikes++;
    s->suspect = id;
    if (s->strikes < STRIKES) return false;
    s->suspect = 0;
    return true;
}

static void decide(struct slot *s, bool there) {
    if (!there) s->h->careful = s->h->slots_n * SQL_BATCH;
    if (s->n == 1 && is_to_blame(s, there)) {
        sql_refuse(s, s->why);
        return;
    }
    s->alone = (uint32_t)s->n;
    s->limit = 1;
    if (there) sql_again(s);
    else sql_away(s, s->why);
}

static void done(struct db_unit *u, enum err err) {
    struct slot *s = ((struct sql_probe *)u)->slot;
    s->running = false;
    decide(s, !sql_means_away(err)); // a right that is missing is an answer, too
}

static bool submit(struct slot *s, void (*then)(struct db_unit *u, enum err err)) {
    s->probe = (struct sql_probe){.unit = {.run = run, .done = then, .frees_space = true}, .slot = s};
    s->running = database_submit(s->h->base.options.database, &s->probe.unit) == ERR_OK;
    return s->running;
}

void sql_doubt(struct slot *s) {
    if (!submit(s, done)) sql_away(s, s->why);
}

// ---- before a suspect

static void done_before(struct db_unit *u, enum err err) {
    struct slot *s = ((struct sql_probe *)u)->slot;
    s->running = false;
    s->probed = !sql_means_away(err);
    if (s->probed) sql_run(s);
    else sql_away(s, u->error.text[0] ? u->error.text : err_text(err));
}

bool sql_probe_before(struct slot *s) {
    s->probed = false;
    if (!s->h->careful || s->n != 1 || s->suspect != s->batch[0]->event.item.id) return false;
    if (!submit(s, done_before)) sql_away(s, "the database takes nothing");
    return true;
}
