// Logging in and out. A session is a device: it has a token, a mailbox and claims on the messages sent to its user.
//
//   look up the hash (reading unit) ─> verify (pool) ─> make the session (unit): token, pending messages, and when
//   the user has too many devices the one unused longest gives way
#include "base/login_limit.h"
#include "base/utf8.h"
#include "chat/homes.h"
#include "chat/locks.h"
#include "chat/passwords.h"
#include "chat/token_cache.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEVICE_NAME_MAX 100
#define ADDRESS_MAX     64
#define DISPLACED_MAX   8

struct login {
    struct op op;
    char user_id[NAME_MAX_LENGTH + 1];
    char device_name[DEVICE_NAME_MAX + 1];
    char address[ADDRESS_MAX];
    char hash[PASSWORD_HASH];
    bool known, again;
    char *password;
    int64_t uid, did, now, expires_at;
    uint32_t devices_max;
    struct id device_id, asked_device, fresh_device;
    char token[CHAT_TOKEN_TEXT];
    uint8_t token_hash[CHAT_HASH];
    int64_t displaced[DISPLACED_MAX];
    size_t displaced_count;
    struct gone gone;
    chat_session_fn *done;
    void *arg;
};

static void login_answer(struct op *base, enum err err);

static void login_release(struct op *base) {
    struct login *op = (struct login *)base;
    if (op->password != NULL) {
        sodium_memzero(op->password, strlen(op->password));
        free(op->password);
    }
    sodium_memzero(op->token, sizeof op->token);
    gone_release(&op->gone);
}

// ---- the session ----------------------------------------------------------------------------------------

// A device that comes back keeps its mailbox if it was still live; else it begins with what is pending.
static enum err device_find(struct db *db, struct login *op, bool *was_live) {
    static struct db_sql find = {
        .text = "select did, token_hash is not null from device where device_id = ?1 and uid = ?2"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_id(s, 1, &op->asked_device);
    db_bind_int(s, 2, op->uid);
    if (!row(s, &err)) return err;
    op->did = db_int(s, 0);
    *was_live = db_int(s, 1) != 0;
    return ERR_OK;
}

// did is 0 afterwards when the sweep was faster: it is a new device then.
static enum err device_again(struct db *db, struct login *op) {
    static struct db_sql update = {.text = "update device set token_hash = ?2, expires_at = ?3, seen_at = ?4, "
                                           "name = coalesce(?5, name) where did = ?1"};
    struct db_stmt *s = db_prepare(db, &update);
    db_bind_int(s, 1, op->did);
    db_bind_blob(s, 2, op->token_hash, sizeof op->token_hash);
    db_bind_int(s, 3, op->expires_at);
    db_bind_int(s, 4, op->now);
    db_bind_text(s, 5, op->device_name[0] != '\0' ? op->device_name : NULL);
    enum err err = db_run(s);
    if (err != ERR_OK) return err;
    if (db_changes(db) == 0) op->did = 0;
    else op->device_id = op->asked_device;
    return ERR_OK;
}

static enum err device_new(struct db *db, struct login *op) {
    static struct db_sql insert = {
        .text = "insert into device (uid, device_id, name, token_hash, expires_at, created_at, seen_at) "
                "values (?1, ?2, ?3, ?4, ?5, ?6, ?6) returning did"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &insert);
    db_bind_int(s, 1, op->uid);
    db_bind_id(s, 2, &op->device_id);
    db_bind_text(s, 3, op->device_name[0] != '\0' ? op->device_name : NULL);
    db_bind_blob(s, 4, op->token_hash, sizeof op->token_hash);
    db_bind_int(s, 5, op->expires_at);
    db_bind_int(s, 6, op->now);
    if (!row(s, &err)) return err != ERR_OK ? err : ERR_DATABASE;
    op->did = db_int(s, 0);
    while (row(s, &err)) {
    }
    return err;
}

static enum err displace(struct db *db, struct login *op) {
    static struct db_sql others = {.text = "select did from device where uid = ?1 and token_hash is not null "
                                           "and did <> ?2 order by seen_at desc, did desc limit ?3 offset ?4"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &others);
    db_bind_int(s, 1, op->uid);
    db_bind_int(s, 2, op->did);
    db_bind_int(s, 3, DISPLACED_MAX);
    db_bind_int(s, 4, (int64_t)op->devices_max - 1);
    while (row(s, &err)) op->displaced[op->displaced_count++] = db_int(s, 0);
    for (size_t i = 0; i < op->displaced_count && err == ERR_OK; i++)
        err = device_remove(db, op->uid, op->displaced[i], op->now, &op->gone);
    return err;
}

static enum err session_run(struct db *db, struct db_unit *u) {
    struct login *op = (struct login *)u;
    bool was_live = false;
    op->did = 0;
    op->device_id = op->fresh_device;
    op->displaced_count = 0;
    gone_clear(&op->gone);
    enum err err = lock_user(db, op->uid);
    if (err == ERR_OK && op->again) err = device_find(db, op, &was_live);
    if (err == ERR_OK && !was_live) err = lock_messages_of_user(db, op->uid);
    if (err == ERR_OK && op->did != 0) err = device_again(db, op);
    if (err == ERR_OK && op->did == 0) err = device_new(db, op);
    if (err == ERR_OK && !was_live) err = device_queue_pending(db, op->uid, op->did, op->now);
    if (err == ERR_OK && op->again) err = homes_tell_session(db, op->did); // its former token
    if (err == ERR_OK) err = displace(db, op);
    return err == ERR_OK ? gone_settle(db, &op->gone) : err;
}

static void session_answer(struct op *base, enum err err) {
    struct login *op = (struct login *)base;
    struct chat *c = base->chat;
    if (err == ERR_OK) {
        token_cache_drop(c->tokens, op->did); // its former token
        for (size_t i = 0; i < op->displaced_count; i++) device_gone(c, op->displaced[i]);
        gone_apply(c, &op->gone);
    }
    struct chat_session session = {
        .token = op->token, .user_id = op->user_id, .device_id = op->device_id, .expires_at_ms = op->expires_at};
    op->done(op->arg, op_error(base, err), err == ERR_OK ? &session : NULL);
}

// ---- the password ---------------------------------------------------------------------------------------

static void verified(void *arg, bool ok, const char *hash) {
    struct login *op = arg;
    struct chat *c = op->op.chat;
    if (c->closing) {
        op_drop(&op->op);
        return;
    }
    login_limit_leave(c->limits, op->user_id, op->address, ok ? LOGIN_RIGHT : LOGIN_WRONG);
    if (!ok) {
        op->op.answer = login_answer;
        op_finish(&op->op, error_set(&op->op.unit.error, ERR_UNAUTHORIZED, "wrong user or password"));
        return;
    }
    op->op.unit.run = session_run;
    op->op.unit.read_only = false;
    op->op.answer = session_answer;
    op->fresh_device = id_new(c->io);
    op_order(&op->op, &op->uid, sizeof op->uid);
    secret_new(op->token, op->token_hash);
    op_submit(&op->op);
}

static enum err lookup_run(struct db *db, struct db_unit *u) {
    static struct db_sql find = {.text = "select uid, password from account where user_id = ?1"};
    struct login *op = (struct login *)u;
    enum err err = ERR_OK;
    op->known = false;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_text(s, 1, op->user_id);
    if (!row(s, &err)) return err;
    op->known = true;
    op->uid = db_int(s, 0);
    snprintf(op->hash, sizeof op->hash, "%s", db_text(s, 1, NULL));
    return ERR_OK;
}

static void login_answer(struct op *base, enum err err) {
    struct login *op = (struct login *)base;
    op->done(op->arg, op_error(base, err), NULL);
}

static void lookup_answer(struct op *base, enum err err) {
    struct login *op = (struct login *)base;
    struct passwords *p = base->chat->passwords;
    if (err == ERR_OK) err = password_verify(p, op->password, op->known ? op->hash : NULL, verified, op);
    if (err == ERR_OK) {
        op_hold(base);
        return;
    }
    login_limit_leave(base->chat->limits, op->user_id, op->address, LOGIN_NOT_TRIED);
    login_answer(base, err);
}

static enum err login_check(struct chat *c, struct login *op, const char *user_id, const char *password,
                            const char *device_name) {
    struct error *e = &op->op.unit.error;
    if (user_id == NULL || user_id[0] == '\0') return error_field(e, "user_id", "must be set");
    if (password == NULL || password[0] == '\0') return error_field(e, "password", "must be set");
    if (device_name != NULL && !utf8_valid(device_name, strlen(device_name)))
        return error_field(e, "device_name", "must be UTF-8");
    if (device_name != NULL && strlen(device_name) > DEVICE_NAME_MAX)
        return error_field(e, "device_name", "must be at most %d bytes", DEVICE_NAME_MAX);
    if (strlen(password) > PASSWORD_MAX || !name_valid(user_id, strlen(user_id)))
        return error_set(e, ERR_UNAUTHORIZED, "wrong user or password"); // nobody has such
    uint32_t wait = login_limit_enter(c->limits, user_id, op->address);
    if (wait == 0) return ERR_OK;
    error_set(e, ERR_RATE, "too many attempts, try again in %u seconds", wait);
    snprintf(e->field, sizeof e->field, "%u", wait);
    return ERR_RATE;
}

void chat_login(struct chat *c, const char *user_id, const char *password, const char *device_name,
                const struct id *device_id, const char *address, chat_session_fn *done, void *arg) {
    struct login *op = op_new(c, sizeof *op, lookup_run, login_answer);
    op->op.release = login_release;
    op->done = done;
    op->arg = arg;
    snprintf(op->address, sizeof op->address, "%s", address != NULL ? address : "");
    enum err err = login_check(c, op, user_id, password, device_name);
    if (err != ERR_OK) {
        op_finish(&op->op, err);
        return;
    }
    op->op.unit.read_only = true;
    op->op.answer = lookup_answer;
    op->now = chat_now(c);
    op->expires_at = op->now + (int64_t)c->o.session_ttl_ms;
    op->devices_max = c->o.devices_max;
    op->password = chat_copy(password);
    snprintf(op->user_id, sizeof op->user_id, "%s", user_id);
    snprintf(op->device_name, sizeof op->device_name, "%s", device_name != NULL ? device_name : "");
    op->again = device_id != NULL;
    if (op->again) op->asked_device = *device_id;
    op_submit(&op->op);
}

// ---- out ------------------------------------------------------------------------------------------------

struct logout {
    struct op op;
    int64_t uid, did, now;
    struct gone gone;
    chat_done_fn *done;
    void *arg;
};

static enum err logout_run(struct db *db, struct db_unit *u) {
    struct logout *op = (struct logout *)u;
    gone_clear(&op->gone);
    enum err err = lock_user(db, op->uid);
    if (err == ERR_OK) err = device_remove(db, op->uid, op->did, op->now, &op->gone);
    return err == ERR_OK ? gone_settle(db, &op->gone) : err;
}

static void logout_answer(struct op *base, enum err err) {
    struct logout *op = (struct logout *)base;
    if (err == ERR_OK) {
        device_gone(base->chat, op->did);
        gone_apply(base->chat, &op->gone);
    }
    op->done(op->arg, op_error(base, err));
}

static void logout_release(struct op *base) { gone_release(&((struct logout *)base)->gone); }

void chat_logout(struct chat *c, const struct chat_actor *who, chat_done_fn *done, void *arg) {
    struct logout *op = op_new(c, sizeof *op, logout_run, logout_answer);
    op->op.unit.frees_space = true;
    op->op.release = logout_release;
    op->uid = who->uid;
    op->did = who->did;
    op->now = chat_now(c);
    op->done = done;
    op->arg = arg;
    op_order(&op->op, &op->uid, sizeof op->uid);
    op_submit(&op->op);
}
