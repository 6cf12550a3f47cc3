#include "chat/homes.h"

#include "chat/box.h"
#include "chat/homes_gone.h"
#include "chat/servers.h"
#include "chat/token_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_EVERY_MS 1000 // while notices do not come through

struct homes {
    struct chat *chat;
    int64_t server;
    char channel[40];
    bool looking, look_again;
    uint64_t looked_at;
    struct loop_timer timer;
};

int64_t homes_server(const struct chat *c) { return c->homes != NULL ? c->homes->server : 0; }

// ---- looking --------------------------------------------------------------------------------------------

struct look {
    struct op op;
    bool all; // of this server, not one device only
    size_t asked, n;
    int64_t *dids;
    struct looked {
        int64_t did;
        bool live;
        uint64_t last_cursor, epoch;
        uint8_t token_hash[CHAT_HASH]; // zeros: not live
    } * found;
};

static void look_row(struct look *op, struct db_stmt *s) {
    struct looked *f = &op->found[op->n++];
    size_t n;
    const void *hash = db_blob(s, 2, &n);
    *f = (struct looked){.did = db_int(s, 0),
                         .last_cursor = (uint64_t)db_int(s, 1),
                         .live = hash != NULL,
                         .epoch = (uint64_t)db_int(s, 3)};
    if (hash != NULL && n == sizeof f->token_hash) memcpy(f->token_hash, hash, n);
}

static enum err look_run(struct db *db, struct db_unit *u) {
    static struct db_sql one = {.text = "select did, last_cursor, token_hash, 0 from device where did = ?1"};
    static struct db_sql all = {.text =
                                    "select did, last_cursor, token_hash, home_epoch from device where did = any(?1)"};
    struct look *op = (struct look *)u;
    enum err err = ERR_OK;
    op->n = 0;
    if (db_kind(db) == DATABASE_POSTGRES) {
        struct db_stmt *s = db_prepare(db, &all);
        db_bind_ints(s, 1, op->dids, op->asked);
        while (op->n < op->asked && row(s, &err)) look_row(op, s);
        return err;
    }
    for (size_t i = 0; i < op->asked && err == ERR_OK; i++) {
        struct db_stmt *s = db_prepare(db, &one);
        db_bind_int(s, 1, op->dids[i]);
        if (row(s, &err)) look_row(op, s);
    }
    return err;
}

static int by_did(const void *a, const void *b) {
    const struct looked *x = a, *y = b;
    return (x->did > y->did) - (x->did < y->did);
}

static void show(struct chat *c, const struct look *op, int64_t did) {
    struct looked key = {.did = did};
    const struct looked *f = op->n > 0 ? bsearch(&key, op->found, op->n, sizeof key, by_did) : NULL;
    struct box *b = box_find(c, did);
    if (f == NULL || !f->live) token_cache_drop(c->tokens, did);
    else token_cache_check(c->tokens, did, f->token_hash);
    if (b == NULL) return;
    if (f == NULL || !f->live) {
        box_close(b, "logged_out");
        return;
    }
    box_look(b, f->last_cursor);
    b = box_find(c, did);
    if (b != NULL && b->link != NULL) link_replaced(b->link, f->epoch);
}

static void look_again(struct homes *h) {
    h->looking = false;
    if (h->look_again) homes_look(h->chat);
}

static void look_answer(struct op *base, enum err err) {
    struct look *op = (struct look *)base;
    struct chat *c = base->chat;
    if (err == ERR_OK) {
        if (op->n > 0) qsort(op->found, op->n, sizeof op->found[0], by_did);
        for (size_t i = 0; i < op->asked; i++) show(c, op, op->dids[i]);
    }
    if (op->all && c->homes != NULL) {
        if (chat_transient(err)) c->homes->look_again = true; // the timer comes back to it
        if (err == ERR_OK) look_again(c->homes);
        else c->homes->looking = false;
    }
}

static void look_release(struct op *base) {
    struct look *op = (struct look *)base;
    free(op->dids);
    free(op->found);
}

static struct look *look_new(struct chat *c, size_t n) {
    struct look *op = op_new(c, sizeof *op, look_run, look_answer);
    op->op.unit.read_only = true;
    op->op.release = look_release;
    op->dids = chat_alloc((n + 1) * sizeof *op->dids);
    op->found = chat_alloc((n + 1) * sizeof *op->found);
    return op;
}

void homes_look(struct chat *c) {
    struct homes *h = c->homes;
    if (h == NULL || c->closing) return;
    h->look_again = h->looking;
    if (h->looking) return;
    h->looked_at = loop_now_ms(c->loop);
    size_t at = 0, tokens = token_cache_count(c->tokens), most = c->boxes.len + tokens;
    if (most == 0) return;
    struct look *op = look_new(c, most);
    struct box *b;
    token_cache_dids(c->tokens, op->dids);
    op->asked = tokens;
    while (op->asked < most && (b = map_next(&c->boxes, &at)) != NULL)
        if (!token_cache_knows(c->tokens, b->did)) op->dids[op->asked++] = b->did;
    op->all = h->looking = true;
    op_submit(&op->op);
}

void homes_session_changed(struct chat *c, int64_t did) {
    token_cache_drop(c->tokens, did);
    if (box_find(c, did) == NULL) return;
    struct look *op = look_new(c, 1);
    op->dids[op->asked++] = did;
    op_submit(&op->op);
}

// ---- where a device is ----------------------------------------------------------------------------------

struct home_op {
    struct op op;
    int64_t did;
    uint64_t epoch;
    bool poll;
    home_fn *done;
    void *owner; // NULL: gave up meanwhile
};

static enum err tell_former(struct db *db, const struct home_op *op, int64_t former) {
    char text[64];
    if (former == 0 || former == op->op.server) return ERR_OK;
    if (op->poll) snprintf(text, sizeof text, "p %lld", (long long)op->did);
    else snprintf(text, sizeof text, "r %lld %llu", (long long)op->did, (unsigned long long)op->epoch);
    return homes_tell(db, former, text);
}

static enum err link_run(struct db *db, struct db_unit *u) {
    static struct db_sql update = {
        .text = "with o as materialized (select did, home from device where did = ?1 and token_hash is not null "
                "for no key update) update device d set home = ?2, home_epoch = d.home_epoch + 1 from o "
                "where d.did = o.did returning d.home_epoch, o.home"};
    struct home_op *op = (struct home_op *)u;
    enum err err = ERR_OK;
    op->epoch = 0;
    struct db_stmt *s = db_prepare(db, &update);
    db_bind_int(s, 1, op->did);
    db_bind_int(s, 2, op->op.server);
    if (!row(s, &err)) return err;
    op->epoch = (uint64_t)db_int(s, 0);
    return tell_former(db, op, db_int(s, 1));
}

static enum err poll_run(struct db *db, struct db_unit *u) {
    static struct db_sql update = {
        .text = "with o as materialized (select did, poll_home from device where did = ?1 and token_hash is not null "
                "and poll_home is distinct from ?2 for no key update) update device d set poll_home = ?2 from o "
                "where d.did = o.did returning o.poll_home"};
    struct home_op *op = (struct home_op *)u;
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &update);
    db_bind_int(s, 1, op->did);
    db_bind_int(s, 2, op->op.server);
    return row(s, &err) ? tell_former(db, op, db_int(s, 0)) : err;
}

static void home_answer(struct op *base, enum err err) {
    struct home_op *op = (struct home_op *)base;
    if (op->owner != NULL) {
        op->done(op->owner, err, op->epoch);
        return;
    }
    if (err == ERR_OK && op->epoch != 0) home_leave(base->chat, op->did, op->epoch);
}

static struct home_op *home_new(struct chat *c, int64_t did, bool poll, home_fn *done, void *owner) {
    struct home_op *op = op_new(c, sizeof *op, poll ? poll_run : link_run, home_answer);
    op->op.unit.frees_space = true; // whoever is connected fetches, and lets go
    op->did = did;
    op->poll = poll;
    op->done = done;
    op->owner = owner;
    op_order(&op->op, &did, sizeof did);
    op_submit(&op->op);
    return op;
}

struct home_op *home_link(struct chat *c, int64_t did, home_fn *done, void *owner) {
    return home_new(c, did, false, done, owner);
}

struct home_op *home_poll(struct chat *c, int64_t did, home_fn *done, void *owner) {
    return home_new(c, did, true, done, owner);
}

void home_cancel(struct home_op *op) { op->owner = NULL; }

static enum err leave_run(struct db *db, struct db_unit *u) {
    static struct db_sql update = {
        .text = "update device set home = null where did = ?1 and home = ?2 and home_epoch = ?3"};
    struct home_op *op = (struct home_op *)u;
    return RUN(db, &update, op->did, op->op.server, (int64_t)op->epoch);
}

// When it fails the device seems to be here for as long as this server is.
static void leave_answer(struct op *op, enum err err) {}

void home_leave(struct chat *c, int64_t did, uint64_t epoch) {
    if (c->homes == NULL || c->closing || epoch == 0) return;
    struct home_op *op = op_new(c, sizeof *op, leave_run, leave_answer);
    op->op.unit.frees_space = true;
    op->did = did;
    op->epoch = epoch;
    op_order(&op->op, &did, sizeof did);
    op_submit(&op->op);
}

// ---- notices --------------------------------------------------------------------------------------------

static void missed(struct homes *h) {
    token_cache_clear(h->chat->tokens);
    homes_look(h->chat);
}

static void on_entries(struct chat *c, const char *at) {
    long long did;
    unsigned long long cursor;
    int n;
    for (; sscanf(at, " %lld:%llu%n", &did, &cursor, &n) == 2; at += n) {
        struct box *b = box_find(c, did);
        c->stats.notices++;
        if (b != NULL) box_look(b, cursor);
        else home_poll_gone(c, did);
    }
}

static void on_server_notice(void *arg, const char *payload) {
    struct homes *h = arg;
    struct chat *c = h->chat;
    long long did;
    unsigned long long epoch;
    if (payload == NULL) {
        missed(h);
    } else if (payload[0] == 'e') {
        on_entries(c, payload + 1);
    } else if (sscanf(payload, "r %lld %llu", &did, &epoch) == 2) {
        struct box *b = box_find(c, did);
        if (b != NULL && b->link != NULL) link_replaced(b->link, epoch);
    } else if (sscanf(payload, "p %lld", &did) == 1) {
        struct box *b = box_find(c, did);
        if (b != NULL) polls_give_way(b);
    }
}

static void on_session_notice(void *arg, const char *payload) {
    struct homes *h = arg;
    if (payload == NULL) missed(h);
    else homes_session_changed(h->chat, strtoll(payload, NULL, 10));
}

static void tick(struct loop_timer *t) {
    struct homes *h = LIST_ITEM(t, struct homes, timer);
    if (database_notices(h->chat->database) != NOTICES_ARRIVE) missed(h);
    else if (h->look_again || loop_now_ms(h->chat->loop) - h->looked_at >= h->chat->o.look_every_ms)
        homes_look(h->chat);
    loop_timer_start(h->chat->loop, &h->timer, LOOK_EVERY_MS);
}

// ---- starting and stopping ------------------------------------------------------------------------------

enum err homes_start(struct chat *c, struct error *e) {
    if (database_kind_of(c->database) == DATABASE_SQLITE) return ERR_OK;
    ASSERT(c->o.servers != NULL);
    struct homes *h = chat_alloc(sizeof *h);
    h->chat = c;
    h->server = servers_id(c->o.servers);
    h->timer.fn = tick;
    snprintf(h->channel, sizeof h->channel, "barid_server_%lld", (long long)h->server);
    c->homes = h;
    enum err err = database_listen(c->database, h->channel, on_server_notice, h, e);
    if (err == ERR_OK) err = database_listen(c->database, "barid_sessions", on_session_notice, h, e);
    loop_timer_start(c->loop, &h->timer, LOOK_EVERY_MS);
    return err;
}

void homes_stop(struct chat *c) {
    struct homes *h = c->homes;
    if (h == NULL) return;
    c->homes = NULL;
    database_unlisten(c->database, h->channel, on_server_notice, h);
    database_unlisten(c->database, "barid_sessions", on_session_notice, h);
    loop_timer_stop(c->loop, &h->timer);
    free(h);
}
