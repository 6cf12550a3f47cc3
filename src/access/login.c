// Logging in:
//
//   found right or wrong a short while ago ─> the same answer
//   being verified right now               ─> join the attempt
//   too many wrong ones                    ─> ERR_RATE
//   else an attempt: verify on the pool, remember, answer all who joined
//
// So a thousand connections of one user that come at once cost one verification, and the limit on wrong ones counts
// different passwords, not connections: a program left with an old password does not lock out its neighbours.
#include "access/internal.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define ATTEMPTS_MAX 1024  // names and passwords
#define LOGINS_MAX   65536 // who waits for them
#define TRIES_MAX    3     // when the password is changed meanwhile

struct login {
    struct loop_post post;
    struct list_node node;
    struct access *access;
    char *user;
    bool from_loopback;
    enum err err;
    access_login_fn *done;
    void *arg;
};
struct attempt {
    struct hash_job job;
    struct list logins;
    struct access *access;
    uint8_t key[VERIFIED_KEY];
    char *user, *address, *password, *hash, *algorithm;
    uint64_t password_number; // of the hash; 0: no such user
    int tries;
};

// ---- telling --------------------------------------------------------------------------------------------

static void login_free(struct login *l) {
    struct access *a = l->access;
    a->logins--;
    free(l->user);
    free(l);
    access_leave(a);
}

static enum err let_in(const struct access *a, const struct user *u, bool from_loopback) {
    if (u == NULL) return ERR_UNAUTHORIZED;
    bool guest = strcmp(u->shown.name, "guest") == 0;
    return guest && !from_loopback && !a->o.guest_anywhere ? ERR_FORBIDDEN : ERR_OK;
}

const struct access_user *access_user_certified(struct access *a, const char *name, bool from_loopback) {
    const struct user *u = table_user(a, name);
    return let_in(a, u, from_loopback) == ERR_OK ? &u->shown : NULL;
}

static void tell(struct login *l) {
    struct access *a = l->access;
    if (!a->closing) {
        struct user *u = l->err == ERR_OK ? table_user(a, l->user) : NULL;
        if (l->err == ERR_OK) l->err = let_in(a, u, l->from_loopback);
        l->done(l->arg, l->err, l->err == ERR_OK ? access_user_hold(&u->shown) : NULL);
    }
    login_free(l);
}

static void on_post(struct loop_post *p) { tell(LIST_ITEM(p, struct login, post)); }

static void tell_soon(struct login *l, enum err err) {
    l->err = err;
    l->post.fn = on_post;
    loop_post(l->access->o.loop, &l->post);
}

// ---- attempts -------------------------------------------------------------------------------------------

static void attempt_free(struct attempt *t) {
    sodium_memzero(t->password, strlen(t->password));
    free(t->password);
    free(t->user);
    free(t->address);
    free(t->hash);
    free(t->algorithm);
    free(t);
}

static void take_hash(struct attempt *t) {
    struct user *u = table_user(t->access, t->user);
    free(t->hash);
    free(t->algorithm);
    t->hash = access_copy(u != NULL ? u->shown.hash : NULL);
    t->algorithm = access_copy(u != NULL ? u->shown.hash_algorithm : NULL);
    t->password_number = u != NULL ? u->password_number : 0;
}

static void on_verified(struct hash_job *j);

static void attempt_verify(struct attempt *t) {
    take_hash(t);
    t->job = (struct hash_job){
        .verify = true, .password = t->password, .hash = t->hash, .algorithm = t->algorithm, .done = on_verified};
    hasher_submit(t->access, &t->job);
}

static bool is_stale(const struct attempt *t) {
    struct user *u = table_user(t->access, t->user);
    return (u != NULL ? u->password_number : 0) != t->password_number;
}

static void attempt_end(struct attempt *t, bool right) {
    struct access *a = t->access;
    struct list_node *at;
    map_remove(&a->attempts, t->key, sizeof t->key);
    if (!a->closing) {
        login_limit_leave(a->limit, t->user, t->address, right ? LOGIN_RIGHT : LOGIN_WRONG);
        verified_put(a->verified, t->key, t->user, right);
    }
    while ((at = list_pop_front(&t->logins)) != NULL) {
        struct login *l = LIST_ITEM(at, struct login, node);
        l->err = right ? ERR_OK : ERR_UNAUTHORIZED;
        tell(l);
    }
    attempt_free(t);
}

static void on_verified(struct hash_job *j) {
    struct attempt *t = LIST_ITEM(j, struct attempt, job);
    bool again = !t->access->closing && is_stale(t) && ++t->tries < TRIES_MAX;
    if (again) attempt_verify(t);
    else attempt_end(t, j->ok && !is_stale(t));
}

static enum err attempt_new(struct attempt **out, struct access *a, const uint8_t key[static VERIFIED_KEY],
                            const char *user, const char *password, const char *address) {
    if (a->attempts.len >= ATTEMPTS_MAX) return ERR_BUSY;
    if (login_limit_enter(a->limit, user, address) != 0) return ERR_RATE;
    struct attempt *t = access_alloc(sizeof *t);
    t->access = a;
    list_init(&t->logins);
    memcpy(t->key, key, sizeof t->key);
    t->user = access_copy(user);
    t->address = access_copy(address);
    t->password = access_copy(password);
    if (!map_put(&a->attempts, t->key, sizeof t->key, t)) die("out of memory");
    attempt_verify(t);
    *out = t;
    return ERR_OK;
}

// ---- logging in -----------------------------------------------------------------------------------------

static struct login *login_new(struct access *a, const char *user, bool from_loopback, access_login_fn *done,
                               void *arg) {
    struct login *l = access_alloc(sizeof *l);
    *l = (struct login){.access = a, .from_loopback = from_loopback, .done = done, .arg = arg};
    l->user = access_copy(user);
    a->logins++;
    access_enter(a);
    return l;
}

void access_login(struct access *a, const char *user, const char *password, const char *address, bool from_loopback,
                  access_login_fn *done, void *arg) {
    uint8_t key[VERIFIED_KEY];
    struct login *l = login_new(a, user, from_loopback, done, arg);
    if (a->logins > LOGINS_MAX) {
        tell_soon(l, ERR_BUSY);
        return;
    }
    // Nobody has such a name or password, which tells nothing about those who are here.
    if (strlen(user) > ACCESS_NAME_MAX || strlen(password) > PASSWORD_MAX || *password == '\0') {
        tell_soon(l, ERR_UNAUTHORIZED);
        return;
    }
    verified_key(a->verified, user, password, key);
    enum verdict_known known = verified_get(a->verified, key);
    if (known != VERIFIED_UNKNOWN) {
        tell_soon(l, known == VERIFIED_RIGHT ? ERR_OK : ERR_UNAUTHORIZED);
        return;
    }
    struct attempt *t = map_get(&a->attempts, key, sizeof key);
    enum err err = t != NULL ? ERR_OK : attempt_new(&t, a, key, user, password, address);
    if (err == ERR_OK) list_push_back(&t->logins, &l->node);
    else tell_soon(l, err);
}
