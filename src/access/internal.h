// What the files of access share: the tables in memory, changes on their way through pool and database, and the pool.
#ifndef BARID_ACCESS_INTERNAL_H
#define BARID_ACCESS_INTERNAL_H

#include "access/access.h"
#include "access/hash.h"
#include "access/pattern.h"
#include "access/verified.h"
#include "base/assert.h"
#include "base/list.h"
#include "base/login_limit.h"
#include "base/loop.h"
#include "base/map.h"
#include "database/database.h"

#define ACCESS_NAME_MAX        255 // AMQP's short string
#define ACCESS_TAGS_MAX        1024
#define ACCESS_DESCRIPTION_MAX 4096
#define ACCESS_PERMISSIONS_MAX 200000

struct vhost {
    char *name, *description, *tags;
    bool tracing;
};
struct permission {
    char *vhost;
    struct pattern *patterns[3]; // by enum access_kind
};
struct user {
    struct access_user shown;        // first: what others hold
    uint32_t holds;                  // the table's is one
    uint64_t password_number;        // another for every password, whoever's
    struct permission **permissions; // by vhost, sorted
    size_t permission_count, permission_room;
};

struct access {
    struct access_options o;
    struct map users, vhosts; // by name
    size_t permission_count;
    uint64_t password_numbers;
    struct patterns *patterns;

    struct list changes; // not yet with the database, in the order asked for
    uint32_t changes_count;
    size_t new_users, new_vhosts, new_permissions; // on their way

    struct hasher *hasher;
    struct map attempts; // log-ins being verified, by verified_key
    uint32_t logins;     // waiting for them
    struct verified *verified;
    struct login_limit *limit;

    uint32_t under_way; // posts, pool work and units that will come back
    bool closing;
};
// What comes back after the end finds its struct access, and the last lets go of it.
void access_enter(struct access *a);
void access_leave(struct access *a);

void *access_alloc(size_t n);
char *access_copy(const char *text); // NULL stays NULL

// ---- tables.c: memory follows what the database has said
struct user *table_user(const struct access *a, const char *name);
struct vhost *table_vhost(const struct access *a, const char *name);
struct permission *table_permission(const struct user *u, const char *vhost);
struct user *table_user_add(struct access *a, const char *name);
void table_user_password(struct access *a, struct user *u, const char *hash, const char *algorithm);
void table_user_tags(struct user *u, const char *tags);
void table_user_drop(struct access *a, struct user *u);
struct vhost *table_vhost_add(struct access *a, const char *name);
void table_vhost_set(struct vhost *v, const char *description, const char *tags, bool tracing);
void table_vhost_drop(struct access *a, struct vhost *v);
void table_permission_set(struct access *a, struct user *u, const char *vhost, const char *const patterns[3]);
bool table_permission_drop(struct access *a, struct user *u, const char *vhost);
void tables_release(struct access *a);

// ---- hasher.c: argon2id on the pool, at most two at once. Who logs in and who changes a password take turns.
struct hash_job {
    struct loop_work work;
    struct list_node node;
    struct access *access;
    bool verify; // `password` against `hash`; else `made` is made of it. All three must outlive the job.
    const char *password, *hash, *algorithm;
    bool ok;
    char made[HASH_MAX];
    void (*done)(struct hash_job *j); // also when closing, with `ok` false: only to let go
};
struct hasher *hasher_new(void);
void hasher_submit(struct access *a, struct hash_job *j);
void hasher_free(struct access *a); // lets go of what waits

// ---- change.c: hashed when it has a password, given to the database in order, then in force
struct change {
    struct db_unit unit;
    struct loop_post post;
    struct list_node node;
    struct access *access;
    enum err (*run)(struct db *db, struct change *c); // database thread
    void (*apply)(struct change *c);                  // in memory
    void (*release)(struct change *c);                // frees what it owns, not itself; NULL: nothing
    access_done_fn *done;
    void *arg;
    size_t *counted; // new_users and such, while on its way
    bool hashing;
    enum err err;
    struct error error;
};
void *change_new(struct access *a, size_t size, access_done_fn *done, void *arg);
void change_start(struct change *c); // with c->err set: only told
void change_ready(struct change *c); // its hash is there
void changes_drop(struct access *a);
// "in use": names are UTF-8, not empty, at most 255 bytes.
enum err check_name(const char *field, const char *name, struct error *e);
// "a, b" as "a,b", to be freed; NULL with the error filled.
char *check_tags(const char *tags, struct error *e);

// ---- load.c
enum err load(struct access *a, access_opened_fn *opened, void *arg, struct error *e);

#endif
