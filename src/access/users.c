// Changing users.
#include "access/internal.h"

#include "base/log.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

struct user_change {
    struct change change;
    struct hash_job job;
    char *name, *password, *hash, *algorithm, *tags;
    bool keep_password;
};

static void user_release(struct change *c) {
    struct user_change *u = (struct user_change *)c;
    if (u->password != NULL) sodium_memzero(u->password, strlen(u->password));
    free(u->name);
    free(u->password);
    free(u->hash);
    free(u->algorithm);
    free(u->tags);
}

static void tell_changed(struct access *a, const char *deleted_user) {
    if (a->o.changed != NULL) a->o.changed(a->o.changed_arg, deleted_user, NULL);
}

// ---- put ------------------------------------------------------------------------------------------------

static enum err put_run(struct db *db, struct change *c) {
    static struct db_sql put = {
        .text = "insert into broker_user (name, hash, hash_algorithm, tags) values (?1, ?2, ?3, coalesce(?4, '')) "
                "on conflict (name) do update set "
                "hash = case when ?5 = 1 then broker_user.hash else excluded.hash end, "
                "hash_algorithm = case when ?5 = 1 then broker_user.hash_algorithm else excluded.hash_algorithm end, "
                "tags = coalesce(?4, broker_user.tags)"};
    struct user_change *u = (struct user_change *)c;
    struct db_stmt *s = db_prepare(db, &put);
    db_bind_text(s, 1, u->name);
    db_bind_text(s, 2, u->hash);
    db_bind_text(s, 3, u->algorithm);
    db_bind_text(s, 4, u->tags);
    db_bind_int(s, 5, u->keep_password);
    return db_run(s);
}

static void put_apply(struct change *c) {
    struct user_change *u = (struct user_change *)c;
    struct access *a = c->access;
    struct user *user = table_user(a, u->name);
    bool is_new = user == NULL;
    if (is_new) user = table_user_add(a, u->name);
    if (!u->keep_password) table_user_password(a, user, u->hash, u->algorithm);
    if (u->tags != NULL) table_user_tags(user, u->tags);
    verified_forget(a->verified, u->name);
    log_event(LOG_INFO, is_new ? "user_added" : "user_changed", "user", u->name, "tags", user->shown.tags, NULL);
}

static void on_hash(struct hash_job *j) {
    struct user_change *u = LIST_ITEM(j, struct user_change, job);
    struct change *c = &u->change;
    if (j->ok) {
        u->hash = access_copy(j->made);
        u->algorithm = access_copy(HASH_ARGON2ID);
    } else {
        c->err = error_set(&c->error, ERR_NOMEM, "no memory to hash the password of %.100s", u->name);
    }
    change_ready(c);
}

// In a definitions file there are many users.
static enum err name_user(const char *name, struct error *e) {
    struct error inner = *e;
    if (*name == '\0') return inner.code;
    return error_field(e, inner.field, "of user %.60s: %s", name, inner.text);
}

static enum err put_check(struct user_change *u, const struct access_user_put *p, struct error *e) {
    struct access *a = u->change.access;
    enum err err = check_name("name", p->name, e);
    if (err == ERR_OK && p->tags != NULL && (u->tags = check_tags(p->tags, e)) == NULL) err = ERR_INVALID;
    if (err == ERR_OK && p->hash != NULL)
        err = hash_check(p->hash_algorithm != NULL ? p->hash_algorithm : HASH_ARGON2ID, p->hash, e);
    if (err == ERR_OK && p->password != NULL && strlen(p->password) > PASSWORD_MAX)
        err = error_field(e, "password", "longer than %d bytes", PASSWORD_MAX);
    if (err != ERR_OK) return name_user(p->name, e);
    if (table_user(a, p->name) != NULL) return ERR_OK;
    u->change.counted = &a->new_users;
    if (a->users.len + a->new_users >= a->o.max_users)
        err = error_set(e, ERR_LIMIT, "there are %u users, no more are allowed", a->o.max_users);
    return err;
}

// An empty password or hash is none: nobody may log in with nothing.
void access_user_put(struct access *a, const struct access_user_put *p, access_done_fn *done, void *arg) {
    struct user_change *u = change_new(a, sizeof *u, done, arg);
    struct change *c = &u->change;
    struct access_user_put put = *p;
    if (put.hash != NULL && *put.hash == '\0') put.hash = NULL;
    if (put.password != NULL && *put.password == '\0') put.password = NULL;
    c->run = put_run;
    c->apply = put_apply;
    c->release = user_release;
    c->err = put_check(u, &put, &c->error);
    u->name = access_copy(put.name);
    u->keep_password = put.keep_password;
    c->hashing = c->err == ERR_OK && !put.keep_password && put.password != NULL;
    if (c->hashing) {
        u->password = access_copy(put.password);
        u->job = (struct hash_job){.password = u->password, .done = on_hash};
    } else if (put.hash != NULL && !put.keep_password) {
        u->hash = access_copy(put.hash);
        u->algorithm = access_copy(put.hash_algorithm != NULL ? put.hash_algorithm : HASH_ARGON2ID);
    }
    change_start(c);
    if (c->hashing) hasher_submit(a, &u->job);
}

// ---- delete ---------------------------------------------------------------------------------------------

static enum err delete_run(struct db *db, struct change *c) {
    static struct db_sql delete = {.text = "delete from broker_user where name = ?1"}; // permissions cascade
    struct user_change *u = (struct user_change *)c;
    struct db_stmt *s = db_prepare(db, &delete);
    db_bind_text(s, 1, u->name);
    enum err err = db_run(s);
    if (err == ERR_OK && db_changes(db) == 0)
        err = error_set(db_error(db), ERR_NOT_FOUND, "there is no user %.100s", u->name);
    return err;
}

static void delete_apply(struct change *c) {
    struct user_change *u = (struct user_change *)c;
    struct access *a = c->access;
    struct user *user = table_user(a, u->name);
    ASSERT(user != NULL);
    table_user_drop(a, user);
    verified_forget(a->verified, u->name);
    log_event(LOG_INFO, "user_deleted", "user", u->name, NULL);
    tell_changed(a, u->name);
}

void access_user_delete(struct access *a, const char *name, access_done_fn *done, void *arg) {
    struct user_change *u = change_new(a, sizeof *u, done, arg);
    u->name = access_copy(name);
    u->change.run = delete_run;
    u->change.apply = delete_apply;
    u->change.release = user_release;
    change_start(&u->change);
}
