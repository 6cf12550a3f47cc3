// Changing virtual hosts and permissions.
#include "access/internal.h"

#include "base/log.h"
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

static void tell_changed(struct access *a, const char *deleted_vhost) {
    if (a->o.changed != NULL) a->o.changed(a->o.changed_arg, NULL, deleted_vhost);
}

// ---- virtual hosts --------------------------------------------------------------------------------------

struct vhost_change {
    struct change change;
    char *name, *description, *tags;
    bool tracing;
};

static void vhost_release(struct change *c) {
    struct vhost_change *v = (struct vhost_change *)c;
    free(v->name);
    free(v->description);
    free(v->tags);
}

static enum err vhost_put_run(struct db *db, struct change *c) {
    static struct db_sql put = {
        .text = "insert into broker_vhost (name, description, tags, tracing) "
                "values (?1, coalesce(?2, ''), coalesce(?3, ''), ?4) on conflict (name) do update set "
                "description = coalesce(?2, broker_vhost.description), tags = coalesce(?3, broker_vhost.tags), "
                "tracing = ?4"};
    struct vhost_change *v = (struct vhost_change *)c;
    struct db_stmt *s = db_prepare(db, &put);
    db_bind_text(s, 1, v->name);
    db_bind_text(s, 2, v->description);
    db_bind_text(s, 3, v->tags);
    db_bind_int(s, 4, v->tracing);
    return db_run(s);
}

static void vhost_put_apply(struct change *c) {
    struct vhost_change *v = (struct vhost_change *)c;
    struct vhost *vhost = table_vhost(c->access, v->name);
    bool is_new = vhost == NULL;
    if (is_new) vhost = table_vhost_add(c->access, v->name);
    table_vhost_set(vhost, v->description, v->tags, v->tracing);
    log_event(LOG_INFO, is_new ? "vhost_added" : "vhost_changed", "vhost", v->name, NULL);
}

static enum err vhost_check(struct vhost_change *v, const struct access_vhost_info *info, struct error *e) {
    struct access *a = v->change.access;
    enum err err = check_name("name", info->name, e);
    if (err == ERR_OK && info->tags != NULL && (v->tags = check_tags(info->tags, e)) == NULL) err = ERR_INVALID;
    if (err == ERR_OK && info->description != NULL) {
        size_t n = strlen(info->description);
        if (n > ACCESS_DESCRIPTION_MAX || !utf8_valid(info->description, n))
            err = error_field(e, "description", "must be UTF-8 of at most %d bytes", ACCESS_DESCRIPTION_MAX);
    }
    if (err != ERR_OK || table_vhost(a, info->name) != NULL) return err;
    v->change.counted = &a->new_vhosts;
    if (a->vhosts.len + a->new_vhosts >= a->o.max_vhosts)
        err = error_set(e, ERR_LIMIT, "there are %u virtual hosts, no more are allowed", a->o.max_vhosts);
    return err;
}

void access_vhost_put(struct access *a, const struct access_vhost_info *info, access_done_fn *done, void *arg) {
    struct vhost_change *v = change_new(a, sizeof *v, done, arg);
    v->change.run = vhost_put_run;
    v->change.apply = vhost_put_apply;
    v->change.release = vhost_release;
    v->change.err = vhost_check(v, info, &v->change.error);
    v->name = access_copy(info->name);
    v->description = access_copy(info->description);
    v->tracing = info->tracing;
    change_start(&v->change);
}

static enum err vhost_delete_run(struct db *db, struct change *c) {
    static struct db_sql delete = {.text = "delete from broker_vhost where name = ?1"}; // permissions cascade
    struct vhost_change *v = (struct vhost_change *)c;
    struct db_stmt *s = db_prepare(db, &delete);
    db_bind_text(s, 1, v->name);
    enum err err = db_run(s);
    if (err == ERR_OK && db_changes(db) == 0)
        err = error_set(db_error(db), ERR_NOT_FOUND, "there is no virtual host %.100s", v->name);
    return err;
}

static void vhost_delete_apply(struct change *c) {
    struct vhost_change *v = (struct vhost_change *)c;
    struct vhost *vhost = table_vhost(c->access, v->name);
    ASSERT(vhost != NULL);
    table_vhost_drop(c->access, vhost);
    log_event(LOG_INFO, "vhost_deleted", "vhost", v->name, NULL);
    tell_changed(c->access, v->name);
}

void access_vhost_delete(struct access *a, const char *name, access_done_fn *done, void *arg) {
    struct vhost_change *v = change_new(a, sizeof *v, done, arg);
    v->name = access_copy(name);
    v->change.run = vhost_delete_run;
    v->change.apply = vhost_delete_apply;
    v->change.release = vhost_release;
    change_start(&v->change);
}

// ---- permissions ----------------------------------------------------------------------------------------

struct permission_change {
    struct change change;
    char *user, *vhost, *patterns[3];
};

static void permission_release(struct change *c) {
    struct permission_change *p = (struct permission_change *)c;
    free(p->user);
    free(p->vhost);
    for (int kind = 0; kind < 3; kind++) free(p->patterns[kind]);
}

static enum err must_exist(struct db *db, struct db_sql *sql, const char *what, const char *name) {
    struct db_stmt *s = db_prepare(db, sql);
    db_bind_text(s, 1, name);
    int step = db_step(s);
    if (step == DB_DONE) return error_set(db_error(db), ERR_NOT_FOUND, "there is no %s %.100s", what, name);
    return step == DB_ROW ? ERR_OK : (enum err) - step;
}

static enum err permission_put_run(struct db *db, struct change *c) {
    static struct db_sql user = {.text = "select 1 from broker_user where name = ?1"};
    static struct db_sql vhost = {.text = "select 1 from broker_vhost where name = ?1"};
    static struct db_sql put = {.text = "insert into broker_permission (user_name, vhost_name, configure, write, read) "
                                        "values (?1, ?2, ?3, ?4, ?5) on conflict (user_name, vhost_name) do update set "
                                        "configure = excluded.configure, write = excluded.write, read = excluded.read"};
    struct permission_change *p = (struct permission_change *)c;
    enum err err = must_exist(db, &user, "user", p->user);
    if (err == ERR_OK) err = must_exist(db, &vhost, "virtual host", p->vhost);
    if (err != ERR_OK) return err;
    struct db_stmt *s = db_prepare(db, &put);
    db_bind_text(s, 1, p->user);
    db_bind_text(s, 2, p->vhost);
    for (int kind = 0; kind < 3; kind++) db_bind_text(s, 3 + kind, p->patterns[kind]);
    return db_run(s);
}

static void permission_put_apply(struct change *c) {
    struct permission_change *p = (struct permission_change *)c;
    struct user *user = table_user(c->access, p->user);
    ASSERT(user != NULL);
    table_permission_set(c->access, user, p->vhost, (const char *const *)p->patterns);
    log_event(LOG_INFO, "permission_set", "user", p->user, "vhost", p->vhost, "configure",
              p->patterns[ACCESS_CONFIGURE], "write", p->patterns[ACCESS_WRITE], "read", p->patterns[ACCESS_READ],
              NULL);
    tell_changed(c->access, NULL);
}

static enum err permission_check(struct permission_change *c, const struct access_permission *p, struct error *e) {
    struct access *a = c->change.access;
    struct user *user = table_user(a, p->user);
    enum err err = pattern_check(a->patterns, "configure", p->configure, e);
    if (err == ERR_OK) err = pattern_check(a->patterns, "write", p->write, e);
    if (err == ERR_OK) err = pattern_check(a->patterns, "read", p->read, e);
    if (err != ERR_OK || (user != NULL && table_permission(user, p->vhost) != NULL)) return err;
    c->change.counted = &a->new_permissions;
    if (a->permission_count + a->new_permissions >= ACCESS_PERMISSIONS_MAX)
        err = error_set(e, ERR_LIMIT, "there are %d permissions, no more are allowed", ACCESS_PERMISSIONS_MAX);
    return err;
}

void access_permission_put(struct access *a, const struct access_permission *p, access_done_fn *done, void *arg) {
    struct permission_change *c = change_new(a, sizeof *c, done, arg);
    c->change.run = permission_put_run;
    c->change.apply = permission_put_apply;
    c->change.release = permission_release;
    c->change.err = permission_check(c, p, &c->change.error);
    c->user = access_copy(p->user);
    c->vhost = access_copy(p->vhost);
    c->patterns[ACCESS_CONFIGURE] = access_copy(p->configure);
    c->patterns[ACCESS_WRITE] = access_copy(p->write);
    c->patterns[ACCESS_READ] = access_copy(p->read);
    change_start(&c->change);
}

static enum err permission_delete_run(struct db *db, struct change *c) {
    static struct db_sql delete = {.text = "delete from broker_permission where user_name = ?1 and vhost_name = ?2"};
    struct permission_change *p = (struct permission_change *)c;
    struct db_stmt *s = db_prepare(db, &delete);
    db_bind_text(s, 1, p->user);
    db_bind_text(s, 2, p->vhost);
    enum err err = db_run(s);
    if (err == ERR_OK && db_changes(db) == 0)
        err = error_set(db_error(db), ERR_NOT_FOUND, "%.100s has no permissions in %.100s", p->user, p->vhost);
    return err;
}

static void permission_delete_apply(struct change *c) {
    struct permission_change *p = (struct permission_change *)c;
    struct user *user = table_user(c->access, p->user);
    ASSERT(user != NULL && table_permission_drop(c->access, user, p->vhost));
    log_event(LOG_INFO, "permission_cleared", "user", p->user, "vhost", p->vhost, NULL);
    tell_changed(c->access, NULL);
}

void access_permission_delete(struct access *a, const char *user, const char *vhost, access_done_fn *done, void *arg) {
    struct permission_change *c = change_new(a, sizeof *c, done, arg);
    c->user = access_copy(user);
    c->vhost = access_copy(vhost);
    c->change.run = permission_delete_run;
    c->change.apply = permission_delete_apply;
    c->change.release = permission_release;
    change_start(&c->change);
}
