// Reading everything once, at the start: on the database thread into lists, from there into the tables.
#include "access/internal.h"

#include <stdlib.h>

struct row {
    struct row *next;
    char *text[5];
    bool flag;
};
struct load {
    struct db_unit unit;
    struct access *access;
    access_opened_fn *opened;
    void *arg;
    struct row *users, *vhosts, *permissions;
};

static enum err read_rows(struct db *db, struct db_sql *sql, int texts, int flag, struct row **end) {
    struct db_stmt *s = db_prepare(db, sql);
    int step;
    while ((step = db_step(s)) == DB_ROW) {
        struct row *r = access_alloc(sizeof *r);
        for (int i = 0; i < texts; i++) r->text[i] = db_is_null(s, i) ? NULL : access_copy(db_text(s, i, NULL));
        if (flag >= 0) r->flag = db_int(s, flag) != 0;
        *end = r;
        end = &r->next;
    }
    return (enum err) - step;
}

static void rows_free(struct row **rows) {
    for (struct row *r = *rows, *next; r != NULL; r = next) {
        next = r->next;
        for (int i = 0; i < 5; i++) free(r->text[i]);
        free(r);
    }
    *rows = NULL;
}

static void load_release(struct load *l) {
    rows_free(&l->users);
    rows_free(&l->vhosts);
    rows_free(&l->permissions);
}

static enum err load_run(struct db *db, struct db_unit *unit) {
    static struct db_sql users = {.text = "select name, hash, hash_algorithm, tags from broker_user order by name"};
    static struct db_sql vhosts = {.text = "select name, description, tags, tracing from broker_vhost order by name"};
    static struct db_sql permissions = {.text = "select user_name, vhost_name, configure, write, read "
                                                "from broker_permission order by user_name, vhost_name"};
    struct load *l = (struct load *)unit;
    load_release(l); // of an earlier run
    enum err err = read_rows(db, &users, 4, -1, &l->users);
    if (err == ERR_OK) err = read_rows(db, &vhosts, 3, 3, &l->vhosts);
    if (err == ERR_OK) err = read_rows(db, &permissions, 5, -1, &l->permissions);
    return err;
}

static void fill(struct access *a, const struct load *l) {
    for (const struct row *r = l->users; r != NULL; r = r->next) {
        struct user *u = table_user_add(a, r->text[0]);
        table_user_password(a, u, r->text[1], r->text[2]);
        table_user_tags(u, r->text[3]);
    }
    for (const struct row *r = l->vhosts; r != NULL; r = r->next)
        table_vhost_set(table_vhost_add(a, r->text[0]), r->text[1], r->text[2], r->flag);
    for (const struct row *r = l->permissions; r != NULL; r = r->next)
        table_permission_set(a, table_user(a, r->text[0]), r->text[1], (const char *const *)&r->text[2]);
}

static void load_done(struct db_unit *unit, enum err err) {
    struct load *l = (struct load *)unit;
    struct access *a = l->access;
    if (!a->closing) {
        if (err == ERR_OK) fill(a, l);
        l->opened(l->arg, err, err == ERR_OK ? NULL : &unit->error);
    }
    load_release(l);
    free(l);
    access_leave(a);
}

enum err load(struct access *a, access_opened_fn *opened, void *arg, struct error *e) {
    struct load *l = access_alloc(sizeof *l);
    *l = (struct load){
        .unit = {.run = load_run, .done = load_done, .read_only = true}, .access = a, .opened = opened, .arg = arg};
    access_enter(a);
    enum err err = database_submit(a->o.database, &l->unit);
    if (err == ERR_OK) return ERR_OK;
    free(l);
    access_leave(a);
    return error_set(e, err, "users and permissions cannot be read: %s", err_text(err));
}
