// Acknowledged entries leave the mailbox. Acks are cumulative, so a device has at most one under way and one waiting,
// and all that come while a batch is being committed go together into the next: one DELETE a device and commit.
// A link's ack has no answer: one that is lost is repeated by the next. An ack by request is answered.
#include "base/log.h"
#include "chat/box.h"

#include <stdlib.h>

#define BATCH_MAX 1024

struct ack_batch {
    struct chat *chat;
    struct list waiting; // boxes
    bool under_way;
};

struct ack {
    int64_t did;
    uint64_t cursor;
};
struct ack_op {
    struct op op;
    size_t n;
    struct ack acks[BATCH_MAX];
};

static enum err let_go(struct db *db, int64_t did, uint64_t cursor) {
    static struct db_sql remove = {.text = "delete from mailbox where did = ?1 and cursor <= ?2"};
    struct db_stmt *s = db_prepare(db, &remove);
    db_bind_int(s, 1, did);
    db_bind_int(s, 2, (int64_t)cursor);
    return db_run(s);
}

// One statement, devices in their order.
static enum err batch_at_once(struct db *db, struct ack_op *op) {
    static struct db_sql remove = {.text =
                                       "delete from mailbox b using unnest(?1::bigint[], ?2::bigint[]) a (did, cursor) "
                                       "where b.did = a.did and b.cursor <= a.cursor"};
    int64_t dids[BATCH_MAX], cursors[BATCH_MAX];
    for (size_t i = 0; i < op->n; i++) {
        dids[i] = op->acks[i].did;
        cursors[i] = (int64_t)op->acks[i].cursor;
    }
    struct db_stmt *s = db_prepare(db, &remove);
    db_bind_ints(s, 1, dids, op->n);
    db_bind_ints(s, 2, cursors, op->n);
    return db_run(s);
}

static int by_device(const void *a, const void *b) {
    const struct ack *x = a, *y = b;
    return (x->did > y->did) - (x->did < y->did);
}

static enum err batch_run(struct db *db, struct db_unit *u) {
    struct ack_op *op = (struct ack_op *)u;
    enum err err = ERR_OK;
    if (db_kind(db) == DATABASE_POSTGRES) {
        qsort(op->acks, op->n, sizeof op->acks[0], by_device);
        return batch_at_once(db, op);
    }
    for (size_t i = 0; i < op->n && err == ERR_OK; i++) err = let_go(db, op->acks[i].did, op->acks[i].cursor);
    return err;
}

static void flush(struct ack_batch *a);

static void batch_answer(struct op *op, enum err err) {
    struct ack_batch *a = op->chat->acks;
    a->under_way = false;
    if (err != ERR_OK) log_text(LOG_WARN, "acks_lost", "%s", op_error(op, err)->text);
    flush(a);
}

static void flush(struct ack_batch *a) {
    if (a->under_way || list_empty(&a->waiting)) return;
    struct ack_op *op = op_new(a->chat, sizeof *op, batch_run, batch_answer);
    op->op.unit.frees_space = true;
    struct list_node *at;
    while (op->n < BATCH_MAX && (at = list_pop_front(&a->waiting)) != NULL) {
        struct box *b = LIST_ITEM(at, struct box, acking);
        op->acks[op->n++] = (struct ack){.did = b->did, .cursor = b->ack_cursor};
        box_put(b);
    }
    a->under_way = true;
    op_submit(&op->op);
}

struct ack_batch *ack_batch_new(struct chat *c) {
    struct ack_batch *a = chat_alloc(sizeof *a);
    a->chat = c;
    list_init(&a->waiting);
    return a;
}

void ack_batch_free(struct ack_batch *a) { free(a); }

void ack_batch_add(struct chat *c, struct box *b, uint64_t cursor) {
    bool waiting = list_linked(&b->acking);
    if (!waiting || cursor > b->ack_cursor) b->ack_cursor = cursor;
    if (!waiting) list_push_back(&c->acks->waiting, &b->acking);
    flush(c->acks);
}

// ---- by request -----------------------------------------------------------------------------------------

struct ack_request {
    struct op op;
    int64_t did;
    uint64_t cursor;
    chat_done_fn *done;
    void *arg;
};

static enum err request_run(struct db *db, struct db_unit *u) {
    static struct db_sql last = {.text = "select last_cursor from device where did = ?1"};
    struct ack_request *r = (struct ack_request *)u;
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &last);
    db_bind_int(s, 1, r->did);
    if (!row(s, &err)) return err != ERR_OK ? err : ERR_UNAUTHORIZED;
    if (r->cursor > (uint64_t)db_int(s, 0)) return error_field(db_error(db), "cursor", "is beyond the last entry");
    return let_go(db, r->did, r->cursor);
}

static void request_answer(struct op *op, enum err err) {
    struct ack_request *r = (struct ack_request *)op;
    r->done(r->arg, op_error(op, err));
}

void chat_mailbox_ack(struct chat *c, const struct chat_actor *who, uint64_t cursor, chat_done_fn *done, void *arg) {
    struct ack_request *r = op_new(c, sizeof *r, request_run, request_answer);
    r->op.unit.frees_space = true;
    r->did = who->did;
    r->cursor = cursor;
    r->done = done;
    r->arg = arg;
    op_order(&r->op, &r->did, sizeof r->did);
    op_submit(&r->op);
}
