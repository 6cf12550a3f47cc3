// Whose token is this? From the cache when it can, else from the database. Use renews the session, at most once an
// hour (or a quarter of its life), so that reading requests do not become writing ones.
#include "chat/token_cache.h"

#include <stdio.h>

#define TOUCH_MS INT64_C(3600000)

struct touch {
    struct op op;
    int64_t did, now, expires_at;
};

static enum err touch_run(struct db *db, struct db_unit *u) {
    static struct db_sql update = {
        .text = "update device set seen_at = ?2, expires_at = ?3 where did = ?1 and token_hash is not null"};
    struct touch *op = (struct touch *)u;
    struct db_stmt *s = db_prepare(db, &update);
    db_bind_int(s, 1, op->did);
    db_bind_int(s, 2, op->now);
    db_bind_int(s, 3, op->expires_at);
    return db_run(s);
}

// When it fails the next use renews: nobody waits for it.
static void touch_answer(struct op *op, enum err err) {}

void device_touch(struct chat *c, int64_t did) {
    struct touch *op = op_new(c, sizeof *op, touch_run, touch_answer);
    op->did = did;
    op->now = chat_now(c);
    op->expires_at = op->now + (int64_t)c->o.session_ttl_ms;
    op_submit(&op->op);
}

static int64_t touch_after(struct chat *c) {
    int64_t quarter = (int64_t)(c->o.session_ttl_ms / 4);
    return quarter < TOUCH_MS ? quarter : TOUCH_MS;
}

static void use(struct chat *c, struct session *s, int64_t now) {
    if (now < s->touch_at) return;
    s->touch_at = now + touch_after(c);
    s->expires_at = now + (int64_t)c->o.session_ttl_ms;
    device_touch(c, s->actor.did);
}

static bool cached(struct chat *c, const uint8_t hash[CHAT_HASH], struct chat_actor *out) {
    int64_t now = chat_now(c);
    struct session *s = token_cache_get(c->tokens, hash, now);
    if (s == NULL) return false;
    use(c, s, now);
    *out = s->actor;
    return true;
}

bool chat_auth_cached(struct chat *c, const char *token, size_t n, struct chat_actor *out) {
    uint8_t hash[CHAT_HASH];
    return secret_hash(token, n, hash) && cached(c, hash, out);
}

struct auth {
    struct op op;
    uint8_t hash[CHAT_HASH];
    uint64_t epoch;
    int64_t now, touch_after;
    struct session session;
    chat_auth_fn *done;
    void *arg;
};

static enum err auth_run(struct db *db, struct db_unit *u) {
    static struct db_sql find = {
        .text = "select d.did, d.uid, d.device_id, a.user_id, d.expires_at, d.seen_at from device d "
                "join account a on a.uid = d.uid where d.token_hash = ?1"};
    struct auth *op = (struct auth *)u;
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_blob(s, 1, op->hash, sizeof op->hash);
    if (!row(s, &err)) return err != ERR_OK ? err : ERR_UNAUTHORIZED;
    struct session *found = &op->session;
    found->actor.did = db_int(s, 0);
    found->actor.uid = db_int(s, 1);
    (void)db_id(s, 2, &found->actor.device_id);
    snprintf(found->actor.user_id, sizeof found->actor.user_id, "%s", db_text(s, 3, NULL));
    found->expires_at = db_int(s, 4);
    found->touch_at = db_int(s, 5) + op->touch_after;
    return found->expires_at <= op->now ? ERR_UNAUTHORIZED : ERR_OK;
}

static void auth_answer(struct op *base, enum err err) {
    struct auth *op = (struct auth *)base;
    struct chat *c = base->chat;
    if (err == ERR_OK && op->session.actor.did != 0) {
        token_cache_put(c->tokens, op->hash, &op->session, op->epoch);
        struct session *s = token_cache_get(c->tokens, op->hash, op->now);
        if (s != NULL) use(c, s, op->now);
    }
    op->done(op->arg, op_error(base, err), err == ERR_OK ? &op->session.actor : NULL);
}

static void auth_cached_answer(struct op *base, enum err err) {
    struct auth *op = (struct auth *)base;
    op->done(op->arg, NULL, &op->session.actor);
}

void chat_auth(struct chat *c, const char *token, size_t n, chat_auth_fn *done, void *arg) {
    struct auth *op = op_new(c, sizeof *op, auth_run, auth_answer);
    op->op.unit.read_only = true;
    op->done = done;
    op->arg = arg;
    op->now = chat_now(c);
    op->touch_after = touch_after(c);
    op->epoch = token_cache_epoch(c->tokens);
    if (!secret_hash(token, n, op->hash)) {
        op_finish(&op->op, ERR_UNAUTHORIZED);
    } else if (cached(c, op->hash, &op->session.actor)) {
        op->op.answer = auth_cached_answer;
        op_finish(&op->op, ERR_OK);
    } else {
        op_submit(&op->op);
    }
}
