// Accounts: adding one, and seeing somebody else's.
#include "base/utf8.h"
#include "chat/box.h"
#include "chat/passwords.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DISPLAY_NAME_MAX 200

struct user_add {
    struct op op;
    char user_id[NAME_MAX_LENGTH + 1];
    char display_name[DISPLAY_NAME_MAX + 1];
    char hash[PASSWORD_HASH];
    int64_t now;
    chat_user_fn *done;
    void *arg;
};

static enum err add_run(struct db *db, struct db_unit *u) {
    static struct db_sql insert = {.text = "insert into account (user_id, display_name, password, created_at) "
                                           "values (?1, ?2, ?3, ?4) on conflict (user_id) do nothing"};
    struct user_add *op = (struct user_add *)u;
    struct db_stmt *s = db_prepare(db, &insert);
    db_bind_text(s, 1, op->user_id);
    db_bind_text(s, 2, op->display_name[0] != '\0' ? op->display_name : NULL);
    db_bind_text(s, 3, op->hash);
    db_bind_int(s, 4, op->now);
    enum err err = db_run(s);
    if (err == ERR_OK && db_changes(db) == 0)
        err = error_set(db_error(db), ERR_CONFLICT, "the name %s is taken", op->user_id);
    return err;
}

static void add_answer(struct op *base, enum err err) {
    struct user_add *op = (struct user_add *)base;
    struct chat_user user = {.user_id = op->user_id,
                             .display_name = op->display_name[0] != '\0' ? op->display_name : NULL};
    op->done(op->arg, op_error(base, err), err == ERR_OK ? &user : NULL);
}

static void add_hashed(void *arg, bool ok, const char *hash) {
    struct user_add *op = arg;
    if (op->op.chat->closing) {
        op_drop(&op->op);
    } else if (!ok) {
        op_finish(&op->op, ERR_NOMEM);
    } else {
        snprintf(op->hash, sizeof op->hash, "%s", hash);
        op_submit(&op->op);
    }
}

static enum err add_check(struct chat *c, const char *user_id, const char *password, const char *display_name,
                          struct error *e) {
    if (c->o.registration_closed) return error_set(e, ERR_FORBIDDEN, "registration is closed");
    if (user_id == NULL || user_id[0] == '\0') return error_field(e, "user_id", "must be set");
    if (!name_valid(user_id, strlen(user_id)))
        return error_field(e, "user_id", "must be 1 to 64 of a-z, 0-9, '.', '_', '-', not beginning with a sign");
    if (password == NULL || password[0] == '\0') return error_field(e, "password", "must be set");
    size_t n = strlen(password);
    if (n < PASSWORD_MIN || n > PASSWORD_MAX)
        return error_field(e, "password", "must be %d to %d bytes", PASSWORD_MIN, PASSWORD_MAX);
    if (display_name == NULL) return ERR_OK;
    n = strlen(display_name);
    if (n > DISPLAY_NAME_MAX) return error_field(e, "display_name", "must be at most %d bytes", DISPLAY_NAME_MAX);
    if (!utf8_valid(display_name, n)) return error_field(e, "display_name", "must be UTF-8");
    return ERR_OK;
}

void chat_user_add(struct chat *c, const char *user_id, const char *password, const char *display_name,
                   chat_user_fn *done, void *arg) {
    struct user_add *op = op_new(c, sizeof *op, add_run, add_answer);
    op->done = done;
    op->arg = arg;
    op->now = chat_now(c);
    enum err err = add_check(c, user_id, password, display_name, &op->op.unit.error);
    if (err == ERR_OK) {
        snprintf(op->user_id, sizeof op->user_id, "%s", user_id);
        snprintf(op->display_name, sizeof op->display_name, "%s", display_name != NULL ? display_name : "");
        err = password_make(c->passwords, password, add_hashed, op);
    }
    if (err != ERR_OK) op_finish(&op->op, err);
}

// ---- seeing somebody ------------------------------------------------------------------------------------

struct user_get {
    struct op op;
    int64_t caller;
    char user_id[NAME_MAX_LENGTH + 1];
    char display_name[DISPLAY_NAME_MAX + 1];
    int64_t *dids;
    size_t n;
    bool elsewhere; // a device of his is connected to another server
    chat_user_fn *done;
    void *arg;
};

static enum err get_devices(struct db *db, struct user_get *op, int64_t uid) {
    static struct db_sql devices = {.text = "select did, 0 from device where uid = ?1 and token_hash is not null",
                                    .postgres =
                                        "select d.did, exists (select 1 from server s where s.server_id = d.home "
                                        "and s.server_id <> ?2 and s.lease_until > clock_timestamp()) "
                                        "from device d where d.uid = ?1 and d.token_hash is not null"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &devices);
    db_bind_int(s, 1, uid);
    if (db_kind(db) == DATABASE_POSTGRES) db_bind_int(s, 2, op->op.server);
    while (row(s, &err)) {
        if (db_int(s, 1) != 0) op->elsewhere = true;
        int64_t *more = realloc(op->dids, (op->n + 1) * sizeof *more);
        if (more == NULL) die("out of memory");
        op->dids = more;
        op->dids[op->n++] = db_int(s, 0);
    }
    return err;
}

static enum err get_run(struct db *db, struct db_unit *u) {
    static struct db_sql find = {
        .text = "select a.uid, a.display_name from account a where a.user_id = ?1 and (a.uid = ?2 or exists "
                "(select 1 from member x join member y on y.cid = x.cid where x.uid = ?2 and y.uid = a.uid))"};
    struct user_get *op = (struct user_get *)u;
    enum err err = ERR_OK;
    op->n = 0;
    op->elsewhere = false;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_text(s, 1, op->user_id);
    db_bind_int(s, 2, op->caller);
    if (!row(s, &err)) return err != ERR_OK ? err : error_set(db_error(db), ERR_NOT_FOUND, "no such user");
    const char *name = db_text(s, 1, NULL);
    snprintf(op->display_name, sizeof op->display_name, "%s", name != NULL ? name : "");
    return get_devices(db, op, db_int(s, 0));
}

static void get_answer(struct op *base, enum err err) {
    struct user_get *op = (struct user_get *)base;
    struct chat_user user = {.user_id = op->user_id,
                             .display_name = op->display_name[0] != '\0' ? op->display_name : NULL,
                             .online = op->elsewhere};
    for (size_t i = 0; i < op->n && !user.online; i++) {
        struct box *box = box_find(base->chat, op->dids[i]);
        user.online = box != NULL && box->link != NULL;
    }
    op->done(op->arg, op_error(base, err), err == ERR_OK ? &user : NULL);
}

static void get_release(struct op *base) { free(((struct user_get *)base)->dids); }

void chat_user_get(struct chat *c, const struct chat_actor *who, const char *user_id, chat_user_fn *done, void *arg) {
    struct user_get *op = op_new(c, sizeof *op, get_run, get_answer);
    op->op.unit.read_only = true;
    op->op.release = get_release;
    op->caller = who->uid;
    op->done = done;
    op->arg = arg;
    if (user_id == NULL || !name_valid(user_id, strlen(user_id))) {
        op_finish(&op->op, error_set(&op->op.unit.error, ERR_NOT_FOUND, "no such user"));
        return;
    }
    snprintf(op->user_id, sizeof op->user_id, "%s", user_id);
    op_submit(&op->op);
}
