#include "chat/homes_gone.h"

#include "base/log.h"
#include "chat/homes.h"
#include "chat/locks.h"

#define BATCH     256
#define EVERY_MS  3600000
#define GONE_MS   CHAT_DAY_MS // without a lease for so long: it had time to wake up from anything
#define POLLS_MAX 64          // being forgotten at once

// ---- servers that are gone ------------------------------------------------------------------------------

struct gone_op {
    struct op op;
    int64_t after, last;
    size_t n;
    void (*done)(struct chat *c, bool more);
};

static enum err gone_run(struct db *db, struct db_unit *u) {
    static struct db_sql forget = {
        .text =
            "with alive as materialized (select server_id from server "
            "where lease_until > clock_timestamp() - ?3 * interval '1 millisecond'), "
            "g as materialized (select did from device where did > ?1 and (home not in (select server_id from alive) "
            "or poll_home not in (select server_id from alive)) order by did limit ?2 for no key update skip locked) "
            "update device d set home = (select server_id from alive where server_id = d.home), "
            "poll_home = (select server_id from alive where server_id = d.poll_home) from g where d.did = g.did "
            "returning d.did"};
    struct gone_op *op = (struct gone_op *)u;
    bool ours;
    op->n = 0;
    op->last = op->after;
    enum err err = lock_sweep(db, &ours);
    if (err != ERR_OK || !ours) return err;
    struct db_stmt *s = db_prepare(db, &forget);
    db_bind_int(s, 1, op->after);
    db_bind_int(s, 2, BATCH);
    db_bind_int(s, 3, GONE_MS);
    for (; row(s, &err); op->n++)
        if (db_int(s, 0) > op->last) op->last = db_int(s, 0);
    return err;
}

static void gone_answer(struct op *base, enum err err) {
    struct gone_op *op = (struct gone_op *)base;
    struct chat *c = base->chat;
    bool more = err == ERR_OK && op->n == BATCH;
    if (err != ERR_OK) log_text(LOG_WARN, "homes_not_forgotten", "%s", op_error(base, err)->text);
    c->homes_gone.after = more ? op->last : 0;
    if (err == ERR_OK && !more) c->homes_gone.due = loop_now_ms(c->loop) + EVERY_MS;
    op->done(c, more);
}

void homes_gone_batch(struct chat *c, void (*done)(struct chat *c, bool more)) {
    if (c->homes == NULL || loop_now_ms(c->loop) < c->homes_gone.due) {
        done(c, false);
        return;
    }
    struct gone_op *op = op_new(c, sizeof *op, gone_run, gone_answer);
    op->op.unit.frees_space = true;
    op->after = c->homes_gone.after;
    op->done = done;
    op_submit(&op->op);
}

// ---- a poll that is gone --------------------------------------------------------------------------------

struct poll_op {
    struct op op;
    int64_t did;
};

static enum err poll_run(struct db *db, struct db_unit *u) {
    static struct db_sql forget = {.text = "update device set poll_home = null where did = ?1 and poll_home = ?2"};
    struct poll_op *op = (struct poll_op *)u;
    return RUN(db, &forget, op->did, op->op.server);
}

// When it failed, the next notice comes, too.
static void poll_answer(struct op *op, enum err err) { op->chat->homes_gone.polls--; }

// In the order of what else is said of the device: a poll that begins now says so after it.
void home_poll_gone(struct chat *c, int64_t did) {
    if (c->closing || c->homes_gone.polls >= POLLS_MAX) return;
    c->homes_gone.polls++;
    struct poll_op *op = op_new(c, sizeof *op, poll_run, poll_answer);
    op->op.unit.frees_space = true;
    op->did = did;
    op_order(&op->op, &did, sizeof did);
    op_submit(&op->op);
}
