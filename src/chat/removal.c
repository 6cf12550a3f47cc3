#include "chat/removal.h"

#include "base/crash.h"
#include "base/log.h"
#include "datastore/datastore.h"

#include <stdlib.h>
#include <string.h>

#define WAITING_MAX 65536

struct waiting {
    struct list_node node;
    uint8_t hash[CHAT_HASH];
    bool disown;
};
struct removals {
    struct chat *chat;
    struct list waiting;
    struct list uploads; // waiting to finish
    size_t waiting_count;
    uint32_t finishing; // uploads let through
    bool removing;
};

struct removal_op {
    struct op op;
    uint8_t hash[CHAT_HASH];
    bool in_database; // the content goes in the unit that finds no owner; held: later
    bool disown, wanted, held;
};

static void next(struct removals *r);

struct removals *removals_new(struct chat *c) {
    struct removals *r = chat_alloc(sizeof *r);
    r->chat = c;
    list_init(&r->waiting);
    list_init(&r->uploads);
    return r;
}

void removals_free(struct removals *r) {
    struct list_node *at;
    while ((at = list_pop_front(&r->waiting)) != NULL) free(LIST_ITEM(at, struct waiting, node));
    free(r);
}

// ---- one removal ----------------------------------------------------------------------------------------

static enum err check_run(struct db *db, struct db_unit *u) {
    static struct db_sql find = {.text = "select 1 from media where hash = ?1 and refs > 0"};
    static struct db_sql forget = {.text = "delete from media where hash = ?1"};
    struct removal_op *op = (struct removal_op *)u;
    enum err err = op->in_database && op->disown ? datastore_disown(db, op->hash) : ERR_OK;
    if (err == ERR_OK && op->in_database) err = datastore_remove_in(db, op->hash, &op->held);
    if (err != ERR_OK) return err;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_blob(s, 1, op->hash, sizeof op->hash);
    op->wanted = row(s, &err);
    if (err != ERR_OK || op->wanted) return err != ERR_OK || !op->in_database ? err : ERR_CONFLICT;
    s = db_prepare(db, &forget);
    db_bind_blob(s, 1, op->hash, sizeof op->hash);
    return db_run(s);
}

static void removed(void *arg, enum err err) {
    struct chat *c = arg;
    if (err == ERR_OK) crash_point("delete.done");
    else log_text(LOG_WARN, "content_not_removed", "%s; the sweep will try again", err_text(err));
    c->removals->removing = false;
    next(c->removals);
}

static void check_answer(struct op *base, enum err err) {
    struct removal_op *op = (struct removal_op *)base;
    struct chat *c = base->chat;
    if (err != ERR_OK || op->wanted) {
        c->removals->removing = false;
        next(c->removals);
        return;
    }
    crash_point("delete.before");
    if (op->in_database) {
        if (op->held) datastore_removal_held(c->o.datastore);
        removed(c, ERR_OK);
        return;
    }
    datastore_remove(c->o.datastore, op->hash, removed, c);
}

static void next(struct removals *r) {
    if (r->removing || r->finishing > 0) return;
    struct list_node *at = list_pop_front(&r->waiting);
    if (at != NULL) {
        struct waiting *w = LIST_ITEM(at, struct waiting, node);
        struct removal_op *op = op_new(r->chat, sizeof *op, check_run, check_answer);
        op->op.unit.frees_space = true;
        op->in_database = datastore_in_database(r->chat->o.datastore);
        memcpy(op->hash, w->hash, sizeof op->hash);
        op->disown = w->disown;
        free(w);
        r->waiting_count--;
        r->removing = true;
        op_submit(&op->op);
        return;
    }
    while ((at = list_pop_front(&r->uploads)) != NULL) {
        r->finishing++;
        struct finishing *f = LIST_ITEM(at, struct finishing, node);
        f->go(f);
    }
}

static void add(struct chat *c, const uint8_t hash[CHAT_HASH], bool disown) {
    struct removals *r = c->removals;
    if (r->waiting_count >= WAITING_MAX) return;
    struct waiting *w = chat_alloc(sizeof *w);
    memcpy(w->hash, hash, sizeof w->hash);
    w->disown = disown;
    list_push_back(&r->waiting, &w->node);
    r->waiting_count++;
    next(r);
}

void removal_add(struct chat *c, const uint8_t hash[CHAT_HASH]) { add(c, hash, false); }

void removal_add_upload(struct chat *c, const uint8_t hash[CHAT_HASH]) { add(c, hash, true); }

// ---- uploads --------------------------------------------------------------------------------------------

// Waiting removals go first, or a steady stream of uploads would keep them waiting for ever.
void finishing_enter(struct chat *c, struct finishing *f) {
    struct removals *r = c->removals;
    if (r->removing || !list_empty(&r->waiting)) {
        list_push_back(&r->uploads, &f->node);
        return;
    }
    r->finishing++;
    f->go(f);
}

void finishing_cancel(struct finishing *f) { list_remove(&f->node); }

void finishing_leave(struct chat *c) {
    ASSERT(c->removals->finishing > 0);
    c->removals->finishing--;
    next(c->removals);
}
