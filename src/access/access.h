// Who may use the broker: users, their tags, virtual hosts, permissions. Kept in the database, held whole in memory
// (they are few), so that a check is a lookup; a change is told only when it is durable and in force.
//
// At the first start there are the virtual host "/" and the user guest, password guest, tag administrator, with all
// permissions, who is let in from loopback only.
//
// All on the loop thread. Passwords are argon2id, computed on the pool; a password_hash of RabbitMQ's
// (rabbit_password_hashing_sha256, _sha512) that came with a definitions file is honoured as it is.
#ifndef BARID_ACCESS_ACCESS_H
#define BARID_ACCESS_ACCESS_H

#include "base/embedded.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct access;
struct database;
struct io;
struct loop;

// sql/sqlite/0003_access.sql: {.number = 3, .name = "access", .file = &access_files[0]}; for PostgreSQL
// sql/postgres/0102_access.sql: {.number = 102, .name = "access", .file = &access_files[1]}. The database is
// opened with it.
extern const struct embedded_file access_files[];

struct access_options {
    struct loop *loop;
    struct io *io;
    struct database *database;
    uint32_t max_users, max_vhosts; // 0: 100,000 and 1,000
    bool guest_anywhere;            // let guest in from everywhere (forced)
    // A user or vhost was deleted, or a permission was changed: connections may have to be closed. NULLs: not of that
    // kind.
    void (*changed)(void *arg, const char *deleted_user, const char *deleted_vhost);
    void *changed_arg;
};
typedef void access_opened_fn(void *arg, enum err err, const struct error *e);
// `opened` once everything is read. Nothing is asked of it before.
enum err access_new(struct access **out, const struct access_options *o, access_opened_fn *opened, void *arg,
                    struct error *e);
// Nobody is called back any more. Users that are held stay until they are released.
void access_free(struct access *a);

// A user lives while somebody holds it (access_user_hold), also after it was deleted; then `deleted` is set.
struct access_user {
    const char *name;
    const char *tags;           // "administrator,monitoring"
    const char *hash;           // as stored
    const char *hash_algorithm; // "argon2id", "rabbit_password_hashing_sha256", …
    bool deleted;
    // What the tags allow: administrator implies all, monitoring and policymaker imply management.
    bool administrator, monitoring, management, policymaker;
    bool impersonator; // may publish in another's name
};
const struct access_user *access_user_hold(const struct access_user *u);
void access_user_release(const struct access_user *u);

// ---- checks
// ERR_OK with the user held for the callee (release it), ERR_UNAUTHORIZED (unknown or wrong: after the same time),
// ERR_FORBIDDEN: guest, and not from loopback. ERR_RATE: too many wrong ones. ERR_BUSY: too many at once. Always called
// from a later turn.
typedef void access_login_fn(void *arg, enum err err, const struct access_user *u);
// `address` is the peer's, without its port ("127.0.0.1"): wrong attempts are counted by user and address, so that
// nobody locks out others.
void access_login(struct access *a, const char *user, const char *password, const char *address, bool from_loopback,
                  access_login_fn *done, void *arg);
// NULL: there is none. Not held.
const struct access_user *access_user(struct access *a, const char *name);
// For EXTERNAL: whom a client certificate names. NULL: nobody, or guest, and not from loopback. Not held.
const struct access_user *access_user_certified(struct access *a, const char *name, bool from_loopback);

enum access_kind { ACCESS_CONFIGURE, ACCESS_WRITE, ACCESS_READ };
bool access_vhost(struct access *a, const char *vhost); // is there such a one?
bool access_may_enter(struct access *a, const struct access_user *u, const char *vhost);
// By the user's pattern for that vhost (a regular expression that must match somewhere, as RabbitMQ's; empty: nothing).
// Results are cached; amq.gen-… and such are names like others. The default exchange, "", is asked for as amq.default.
bool access_may(struct access *a, const struct access_user *u, const char *vhost, enum access_kind kind,
                const char *resource);

// ---- changes. done(arg, ERR_OK, NULL) when durable and in force, from a later turn. They take effect in the order in
// which they were asked for, so the next need not wait for the one before (a definitions file).
typedef void access_done_fn(void *arg, enum err err, const struct error *e);
struct access_user_put {
    const char *name;
    const char *password; // or …
    const char *hash,
        *hash_algorithm; // … this; neither: no password (cannot log in with one); as it was when `keep_password`
    bool keep_password;
    const char *tags; // comma separated; NULL: as they were
};
void access_user_put(struct access *a, const struct access_user_put *u, access_done_fn *done, void *arg);
void access_user_delete(struct access *a, const char *name, access_done_fn *done, void *arg);
struct access_vhost_info {
    const char *name, *description, *tags; // description, tags NULL: as they were
    bool tracing;
};
void access_vhost_put(struct access *a, const struct access_vhost_info *v, access_done_fn *done, void *arg);
void access_vhost_delete(struct access *a, const char *name, access_done_fn *done, void *arg);
struct access_permission {
    const char *user, *vhost, *configure, *write, *read;
};
// ERR_NOT_FOUND: no such user or vhost. ERR_INVALID: not a regular expression.
void access_permission_put(struct access *a, const struct access_permission *p, access_done_fn *done, void *arg);
void access_permission_delete(struct access *a, const char *user, const char *vhost, access_done_fn *done, void *arg);

// ---- lists, in order of names
void access_each_user(struct access *a, void (*each)(void *arg, const struct access_user *u), void *arg);
void access_each_vhost(struct access *a, void (*each)(void *arg, const struct access_vhost_info *v), void *arg);
void access_each_permission(struct access *a, void (*each)(void *arg, const struct access_permission *p), void *arg);

#endif
