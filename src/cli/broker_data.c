// Working on the data of a server that is not running: users, virtual hosts and permissions in its database, in the
// objects of the management API. Exchanges, queues and bindings are in the journal, which only the server writes.
//
// A server that has them in memory must not miss a change: the lock of its data directory keeps it away, or, on
// PostgreSQL, that we are there as a server that must be the only one.
#include "access/access.h"
#include "base/assert.h"
#include "base/io.h"
#include "base/log.h"
#include "base/loop.h"
#include "chat/servers.h"
#include "cli/broker.h"
#include "cli/cli.h"
#include "cli/server_database.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct broker_files {
    struct loop *loop;
    struct io *io;
    int lock;
    struct database *database;
    struct servers *servers; // NULL: a directory
    struct access *access;
    size_t waiting;
    enum err err; // of the first that failed, and its sentence
    struct error error;
};

// ---- opening --------------------------------------------------------------------------------------------

static void answered(struct broker_files *f, enum err err, const struct error *e) {
    if (err != ERR_OK && f->err == ERR_OK) {
        f->err = err;
        if (e != NULL) f->error = *e;
        else error_set(&f->error, err, "%s", err_text(err));
    }
    if (--f->waiting == 0) loop_stop(f->loop);
}

static void on_opened(void *arg, enum err err, const struct error *e) { answered(arg, err, e); }
static void on_done(void *arg, enum err err, const struct error *e) { answered(arg, err, e); }

// Of everything that was asked for since the last time.
static enum err wait(struct broker_files *f, struct error *e) {
    if (f->waiting > 0) loop_run(f->loop);
    enum err err = f->err;
    if (err != ERR_OK) *e = f->error;
    f->err = ERR_OK;
    return err;
}

static enum err lock(struct broker_files *f, const char *data, struct error *e) {
    enum err err = f->io->v->open(f->io, "lock", IO_READ | IO_WRITE | IO_CREATE, &f->lock);
    if (err == ERR_OK) err = f->io->v->lock(f->io, f->lock);
    if (err == ERR_LOCKED) return error_set(e, err, "a server is running on %.150s: leave --data out, to ask it", data);
    return err == ERR_OK ? ERR_OK : error_set(e, err, "cannot lock %.150s", data);
}

static enum err open_access(struct broker_files *f, struct error *e) {
    struct access_options o = {.loop = f->loop, .io = f->io, .database = f->database};
    f->waiting = 1;
    enum err err = access_new(&f->access, &o, on_opened, f, e);
    return err == ERR_OK ? wait(f, e) : err;
}

static enum err open_directory(struct broker_files *f, const char *data, struct error *e) {
    char path[4096], journal[4096];
    struct stat info;
    if (stat(data, &info) != 0 || !S_ISDIR(info.st_mode)) // io_os_new would make it
        return error_set(e, ERR_NOT_FOUND, "there is no directory %.150s", data);
    if ((size_t)snprintf(path, sizeof path, "%s/" DATABASE_FILE, data) >= sizeof path ||
        (size_t)snprintf(journal, sizeof journal, "%s/journal", data) >= sizeof journal)
        return error_set(e, ERR_INVALID, "the path of the data directory is too long");
    if (access(path, F_OK) != 0 && access(journal, F_OK) == 0)
        return error_set(e, ERR_NOT_FOUND,
                         "there is a journal in %.100s, and no " DATABASE_FILE
                         ": when the server's database is PostgreSQL, name it with --database",
                         data);
    enum err err = io_os_new(&f->io, data, e);
    if (err == ERR_OK) err = lock(f, data, e);
    struct database_options d = {.url = path};
    return err == ERR_OK ? database_open(&f->database, f->loop, &d, server_migrations, e) : err;
}

static void on_joined(void *arg, enum err err, const struct error *e) { answered(arg, err, e); }

static enum err open_postgres(struct broker_files *f, const char *url, struct error *e) {
    char name[64];
    if (database_kind(url) != DATABASE_POSTGRES)
        return error_set(e, ERR_INVALID, "--database is postgresql://USER@HOST/NAME; for a directory there is --data");
    enum err err = io_os_new(&f->io, "/", e);
    struct database_options d = {.url = url, .connections = 1};
    if (err == ERR_OK) err = database_open(&f->database, f->loop, &d, NULL, e);
    if (err != ERR_OK) return err;
    snprintf(name, sizeof name, "a command (process %ld)", (long)getpid());
    struct servers_options o = {
        .loop = f->loop, .io = f->io, .database = f->database, .name = name, .alone = true, .arg = f};
    f->waiting = 1;
    f->servers = servers_join(&o, on_joined);
    return wait(f, e);
}

static void files_close(void *self) {
    struct broker_files *f = self;
    access_free(f->access);
    servers_leave(f->servers);
    if (f->database != NULL) database_close(f->database);
    loop_free(f->loop);
    if (f->lock >= 0) f->io->v->close(f->io, f->lock);
    if (f->io != NULL) io_os_free(f->io);
    free(f);
}

enum err broker_data_open(void **self, const struct broker_command *c, struct error *e) {
    log_set_level(LOG_ERROR);
    if (c->data != NULL && c->database != NULL)
        return error_set(e, ERR_INVALID, "--data and --database: the users are in one of them");
    struct broker_files *f = calloc(1, sizeof *f);
    if (f == NULL) return error_set(e, ERR_NOMEM, "out of memory");
    f->lock = -1;
    enum err err = loop_new(&f->loop, e);
    if (err == ERR_OK) err = c->data != NULL ? open_directory(f, c->data, e) : open_postgres(f, c->database, e);
    if (err == ERR_OK) err = open_access(f, e);
    if (err == ERR_OK) *self = f;
    else files_close(f);
    return err;
}

// ---- reading --------------------------------------------------------------------------------------------

static json_t *tags_json(const char *tags) {
    json_t *list = json_array();
    while (*tags != '\0') {
        size_t n = strcspn(tags, ",");
        if (n > 0) json_array_append_new(list, json_stringn(tags, n));
        tags += n + (tags[n] == ',');
    }
    return list;
}

static void each_user(void *arg, const struct access_user *u) {
    json_array_append_new(arg, json_pack("{s:s, s:s, s:s, s:o, s:{}}", "name", u->name, "password_hash",
                                         u->hash != NULL ? u->hash : "", "hashing_algorithm",
                                         u->hash_algorithm != NULL ? u->hash_algorithm : "argon2id", "tags",
                                         tags_json(u->tags), "limits"));
}

static void each_vhost(void *arg, const struct access_vhost_info *v) {
    json_array_append_new(arg, json_pack("{s:s, s:s, s:o, s:b}", "name", v->name, "description", v->description, "tags",
                                         tags_json(v->tags), "tracing", v->tracing));
}

static void each_permission(void *arg, const struct access_permission *p) {
    json_array_append_new(arg, json_pack("{s:s, s:s, s:s, s:s, s:s}", "user", p->user, "vhost", p->vhost, "configure",
                                         p->configure, "write", p->write, "read", p->read));
}

static json_t *list(struct broker_files *f, const char *what) {
    json_t *all = json_array();
    if (strcmp(what, "users") == 0) access_each_user(f->access, each_user, all);
    else if (strcmp(what, "vhosts") == 0) access_each_vhost(f->access, each_vhost, all);
    else access_each_permission(f->access, each_permission, all);
    return all;
}

// The one of that name; a permission has none.
static enum err find(struct broker_files *f, const char *what, const char *name, json_t **answer, struct error *e) {
    json_t *all = list(f, what), *one;
    size_t i;
    json_array_foreach(all, i, one) {
        if (strcmp(broker_text(one, "name"), name) == 0) *answer = json_incref(one);
    }
    json_decref(all);
    if (*answer != NULL) return ERR_OK;
    return error_set(e, ERR_NOT_FOUND, "there is no %.*s %.150s", (int)strlen(what) - 1, what, name);
}

// ---- changing -------------------------------------------------------------------------------------------

static void put_user(struct broker_files *f, const char *name, const json_t *user) {
    const char *algorithm = broker_text(user, "hashing_algorithm");
    char *tags = broker_tags(json_object_get(user, "tags"));
    struct access_user_put put = {
        .name = name,
        .password = json_string_value(json_object_get(user, "password")),
        .hash = json_string_value(json_object_get(user, "password_hash")),
        .hash_algorithm = *algorithm != '\0' ? algorithm : "rabbit_password_hashing_sha256", // RabbitMQ's own standard
        .tags = tags,
    };
    f->waiting++;
    access_user_put(f->access, &put, on_done, f);
    free(tags);
}

// RabbitMQ's files have it in "metadata" as well, or there alone.
static const json_t *either(const json_t *vhost, const char *key) {
    const json_t *own = json_object_get(vhost, key);
    return own != NULL ? own : json_object_get(json_object_get(vhost, "metadata"), key);
}

static void put_vhost(struct broker_files *f, const char *name, const json_t *vhost) {
    const json_t *tags_given = either(vhost, "tags");
    char *tags = tags_given != NULL ? broker_tags(tags_given) : NULL;
    struct access_vhost_info info = {
        .name = name,
        .description = json_string_value(either(vhost, "description")),
        .tags = tags,
        .tracing = json_is_true(json_object_get(vhost, "tracing")),
    };
    f->waiting++;
    access_vhost_put(f->access, &info, on_done, f);
    free(tags);
}

static void put_permission(struct broker_files *f, const char *vhost, const char *user, const json_t *p) {
    struct access_permission permission = {user, vhost, broker_text(p, "configure"), broker_text(p, "write"),
                                           broker_text(p, "read")};
    f->waiting++;
    access_permission_put(f->access, &permission, on_done, f);
}

static void change(struct broker_files *f, bool put, const char *const *path, const json_t *body) {
    if (strcmp(path[0], "permissions") == 0) {
        if (put) put_permission(f, path[1], path[2], body);
        else f->waiting++, access_permission_delete(f->access, path[2], path[1], on_done, f);
    } else if (strcmp(path[0], "users") == 0) {
        if (put) put_user(f, path[1], body);
        else f->waiting++, access_user_delete(f->access, path[1], on_done, f);
    } else {
        if (put) put_vhost(f, path[1], body);
        else f->waiting++, access_vhost_delete(f->access, path[1], on_done, f);
    }
}

// ---- definitions ----------------------------------------------------------------------------------------

static json_t *export_all(struct broker_files *f) {
    return json_pack("{s:s, s:s, s:o, s:o, s:o}", "product_name", "barid", "product_version", BARID_VERSION, "users",
                     list(f, "users"), "vhosts", list(f, "vhosts"), "permissions", list(f, "permissions"));
}

// Everything is asked for at once: changes take effect in order.
static void import_all(struct broker_files *f, const json_t *definitions) {
    const json_t *one;
    size_t i;
    json_array_foreach(json_object_get(definitions, "vhosts"), i, one) put_vhost(f, broker_text(one, "name"), one);
    json_array_foreach(json_object_get(definitions, "users"), i, one) put_user(f, broker_text(one, "name"), one);
    json_array_foreach(json_object_get(definitions, "permissions"), i, one)
        put_permission(f, broker_text(one, "vhost"), broker_text(one, "user"), one);
}

// ---- calls ----------------------------------------------------------------------------------------------

static enum err data_call(void *self, const char *method, const char *const *path, const json_t *body, json_t **answer,
                          struct error *e) {
    struct broker_files *f = self;
    bool definitions = strcmp(path[0], "definitions") == 0;
    if (strcmp(method, "GET") == 0) {
        if (!definitions && path[1] != NULL) return find(f, path[0], path[1], answer, e);
        *answer = definitions ? export_all(f) : list(f, path[0]);
        return ERR_OK;
    }
    if (strcmp(method, "DELETE") == 0 && strcmp(path[0], "vhosts") == 0)
        return error_set(e, ERR_UNSUPPORTED,
                         "what is in a virtual host only the server can delete: start it, and ask it");
    if (definitions) import_all(f, body);
    else change(f, strcmp(method, "PUT") == 0, path, body);
    return wait(f, e);
}

const struct broker_kind broker_data = {data_call, files_close};
