// The journey of a message, read from the columns in which its safe points are kept.
#include "chat/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POINTS_MAX 65536 // a group of 1,000 with 16 devices each; what is beyond is left out

// The order of points that happened in the same millisecond.
enum rank { CREATED, ACCEPTED, PUBLISHED, RETRIED, QUEUED, NOTIFIED, RECEIVED, DELETED, READ, EXPIRED };
static const char *const rank_names[] = {"created",  "accepted", "published", "retried", "queued",
                                         "notified", "received", "deleted",   "read",    "expired"};

struct point {
    enum rank rank;
    struct chat_point view;
    char user_id[NAME_MAX_LENGTH + 1];
    char *name, *detail; // of a note
};

struct journey {
    struct op op;
    int64_t uid;
    struct id message_id;
    int64_t mid;
    struct point *points;
    size_t n, cap;
    chat_journey_fn *done;
    void *arg;
};

static struct point *add(struct journey *op, enum rank rank, int64_t at, const char *user_id) {
    if (op->n >= POINTS_MAX) op->n--; // the last one gives way
    op->points = chat_room(op->points, op->n, &op->cap, sizeof *op->points);
    struct point *p = &op->points[op->n++];
    *p = (struct point){.rank = rank};
    p->view.at_ms = at;
    if (user_id != NULL) snprintf(p->user_id, sizeof p->user_id, "%s", user_id);
    return p;
}

static void add_column(struct journey *op, struct db_stmt *s, int column, enum rank rank, const char *user_id) {
    if (!db_is_null(s, column)) add(op, rank, db_int(s, column), user_id);
}

static enum err message_points(struct db *db, struct journey *op) {
    static struct db_sql find = {
        .text = "select m.mid, a.user_id, d.device_id, m.created_at, m.accepted_at, m.published_at, m.deleted_at "
                "from message m join account a on a.uid = m.sender_uid "
                "left join device d on d.did = m.sender_did where m.message_id = ?1 and (m.sender_uid = ?2 or exists "
                "(select 1 from delivery x where x.mid = m.mid and x.uid = ?2))"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_id(s, 1, &op->message_id);
    db_bind_int(s, 2, op->uid);
    if (!row(s, &err)) return err != ERR_OK ? err : error_set(db_error(db), ERR_NOT_FOUND, "no such message");
    op->mid = db_int(s, 0);
    const char *sender = db_text(s, 1, NULL);
    struct id device;
    bool has_device = db_id(s, 2, &device);
    for (int i = 0; i < 2; i++) {
        if (db_is_null(s, 3 + i)) continue;
        struct point *p = add(op, i == 0 ? CREATED : ACCEPTED, db_int(s, 3 + i), sender);
        p->view.has_device = has_device;
        if (has_device) p->view.device_id = device;
    }
    add_column(op, s, 5, PUBLISHED, NULL);
    add_column(op, s, 6, DELETED, NULL);
    return ERR_OK;
}

static enum err device_points(struct db *db, struct journey *op) {
    static struct db_sql find = {
        .text = "select a.user_id, d.device_id, q.queued_at, q.notified_at, q.received_at from device_delivery q "
                "join device d on d.did = q.did join account a on a.uid = d.uid where q.mid = ?1"};
    static const enum rank ranks[] = {QUEUED, NOTIFIED, RECEIVED};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_int(s, 1, op->mid);
    while (row(s, &err)) {
        for (int i = 0; i < 3; i++) {
            if (db_is_null(s, 2 + i)) continue;
            struct point *p = add(op, ranks[i], db_int(s, 2 + i), db_text(s, 0, NULL));
            p->view.has_device = db_id(s, 1, &p->view.device_id);
        }
    }
    return err;
}

static enum err recipient_points(struct db *db, struct journey *op) {
    static struct db_sql find = {.text = "select a.user_id, x.read_at, x.expired_at from delivery x "
                                         "join account a on a.uid = x.uid where x.mid = ?1"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_int(s, 1, op->mid);
    while (row(s, &err)) {
        add_column(op, s, 1, READ, db_text(s, 0, NULL));
        add_column(op, s, 2, EXPIRED, db_text(s, 0, NULL));
    }
    return err;
}

static enum err note_points(struct db *db, struct journey *op) {
    static struct db_sql find = {.text = "select point, at, detail from journey_note where mid = ?1 order by note_id"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_int(s, 1, op->mid);
    while (row(s, &err)) {
        struct point *p = add(op, RETRIED, db_int(s, 1), NULL);
        p->name = chat_copy(db_text(s, 0, NULL));
        p->detail = chat_copy(db_text(s, 2, NULL));
    }
    return err;
}

static void points_clear(struct journey *op) {
    for (size_t i = 0; i < op->n; i++) {
        free(op->points[i].name);
        free(op->points[i].detail);
    }
    op->n = 0;
}

static enum err journey_run(struct db *db, struct db_unit *u) {
    struct journey *op = (struct journey *)u;
    points_clear(op);
    enum err err = message_points(db, op);
    if (err == ERR_OK) err = note_points(db, op);
    if (err == ERR_OK) err = device_points(db, op);
    if (err == ERR_OK) err = recipient_points(db, op);
    return err;
}

// `created` is by the sender's clock, and first whatever that says.
static int compare(const void *a, const void *b) {
    const struct point *x = a, *y = b;
    if ((x->rank == CREATED) != (y->rank == CREATED)) return x->rank == CREATED ? -1 : 1;
    if (x->view.at_ms != y->view.at_ms) return x->view.at_ms < y->view.at_ms ? -1 : 1;
    return (int)x->rank - (int)y->rank;
}

static void journey_answer(struct op *base, enum err err) {
    struct journey *op = (struct journey *)base;
    if (err != ERR_OK) {
        op->done(op->arg, op_error(base, err), NULL, NULL, 0);
        return;
    }
    struct chat_point *views = chat_alloc((op->n + 1) * sizeof *views);
    qsort(op->points, op->n, sizeof op->points[0], compare);
    for (size_t i = 0; i < op->n; i++) {
        struct point *p = &op->points[i];
        views[i] = p->view;
        views[i].point = p->name != NULL ? p->name : rank_names[p->rank];
        views[i].detail = p->detail;
        views[i].user_id = p->user_id[0] != '\0' ? p->user_id : NULL;
    }
    op->done(op->arg, NULL, &op->message_id, views, op->n);
    free(views);
}

static void journey_release(struct op *base) {
    struct journey *op = (struct journey *)base;
    points_clear(op);
    free(op->points);
}

void chat_journey(struct chat *c, const struct chat_actor *who, const struct id *message_id, chat_journey_fn *done,
                  void *arg) {
    struct journey *op = op_new(c, sizeof *op, journey_run, journey_answer);
    op->op.unit.read_only = true;
    op->op.release = journey_release;
    op->uid = who->uid;
    op->message_id = *message_id;
    op->done = done;
    op->arg = arg;
    op_submit(&op->op);
}
