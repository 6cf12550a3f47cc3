// Starting and ending; the checks, which are lookups; the lists.
#include "access/internal.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

void *access_alloc(size_t n) {
    void *p = calloc(1, n);
    if (p == NULL) die("out of memory");
    return p;
}

char *access_copy(const char *text) {
    char *copy = text != NULL ? strdup(text) : NULL;
    if (text != NULL && copy == NULL) die("out of memory");
    return copy;
}

void access_enter(struct access *a) { a->under_way++; }

static void release(struct access *a) {
    tables_release(a);
    patterns_free(a->patterns);
    verified_free(a->verified);
    login_limit_free(a->limit);
    map_release(&a->attempts);
    free(a);
}

void access_leave(struct access *a) {
    ASSERT(a->under_way > 0);
    if (--a->under_way == 0 && a->closing) release(a);
}

enum err access_new(struct access **out, const struct access_options *o, access_opened_fn *opened, void *arg,
                    struct error *e) {
    uint64_t seed;
    if (sodium_init() < 0) return error_set(e, ERR_UNSUPPORTED, "libsodium cannot be used");
    randombytes_buf(&seed, sizeof seed);
    struct access *a = access_alloc(sizeof *a);
    a->o = *o;
    if (a->o.max_users == 0) a->o.max_users = 100000;
    if (a->o.max_vhosts == 0) a->o.max_vhosts = 1000;
    map_init(&a->users, seed);
    map_init(&a->vhosts, seed);
    map_init(&a->attempts, seed);
    list_init(&a->changes);
    a->patterns = patterns_new();
    a->verified = verified_new(o->io);
    a->limit = login_limit_new(o->io);
    a->hasher = hasher_new();
    access_enter(a);
    enum err err = load(a, opened, arg, e);
    if (err == ERR_OK) *out = a;
    else access_free(a);
    access_leave(a);
    return err;
}

void access_free(struct access *a) {
    if (a == NULL) return;
    access_enter(a);
    a->closing = true;
    hasher_free(a);
    changes_drop(a);
    access_leave(a);
}

// ---- users that are held --------------------------------------------------------------------------------

const struct access_user *access_user_hold(const struct access_user *u) {
    ((struct user *)u)->holds++;
    return u;
}

void access_user_release(const struct access_user *shown) {
    struct user *u = (struct user *)shown;
    if (u == NULL || --u->holds > 0) return;
    free((char *)shown->name);
    free((char *)shown->tags);
    free((char *)shown->hash);
    free((char *)shown->hash_algorithm);
    free(u);
}

// ---- checks ---------------------------------------------------------------------------------------------

const struct access_user *access_user(struct access *a, const char *name) {
    struct user *u = table_user(a, name);
    return u != NULL ? &u->shown : NULL;
}

bool access_vhost(struct access *a, const char *vhost) { return table_vhost(a, vhost) != NULL; }

bool access_may_enter(struct access *a, const struct access_user *u, const char *vhost) {
    return table_permission((const struct user *)u, vhost) != NULL;
}

bool access_may(struct access *a, const struct access_user *u, const char *vhost, enum access_kind kind,
                const char *resource) {
    struct permission *p = table_permission((const struct user *)u, vhost);
    if (p == NULL) return false;
    return pattern_matches(a->patterns, p->patterns[kind], *resource != '\0' ? resource : "amq.default");
}

// ---- lists ----------------------------------------------------------------------------------------------

static int by_user_name(const void *x, const void *y) {
    return strcmp((*(struct user *const *)x)->shown.name, (*(struct user *const *)y)->shown.name);
}

static int by_vhost_name(const void *x, const void *y) {
    return strcmp((*(struct vhost *const *)x)->name, (*(struct vhost *const *)y)->name);
}

// The values of a map in order, to be freed.
static void **sorted(const struct map *m, int (*compare)(const void *, const void *)) {
    void **all = access_alloc((m->len + 1) * sizeof *all), *v;
    size_t n = 0, at = 0;
    while ((v = map_next(m, &at)) != NULL) all[n++] = v;
    qsort(all, n, sizeof *all, compare);
    return all;
}

void access_each_user(struct access *a, void (*each)(void *arg, const struct access_user *u), void *arg) {
    struct user **all = (struct user **)sorted(&a->users, by_user_name);
    for (size_t i = 0; all[i] != NULL; i++) each(arg, &all[i]->shown);
    free(all);
}

void access_each_vhost(struct access *a, void (*each)(void *arg, const struct access_vhost_info *v), void *arg) {
    struct vhost **all = (struct vhost **)sorted(&a->vhosts, by_vhost_name);
    for (size_t i = 0; all[i] != NULL; i++) {
        const struct vhost *v = all[i];
        each(arg, &(struct access_vhost_info){v->name, v->description, v->tags, v->tracing});
    }
    free(all);
}

static void each_of_user(const struct user *u, void (*each)(void *arg, const struct access_permission *p), void *arg) {
    for (size_t i = 0; i < u->permission_count; i++) {
        const struct permission *p = u->permissions[i];
        each(arg, &(struct access_permission){u->shown.name, p->vhost, pattern_text(p->patterns[ACCESS_CONFIGURE]),
                                              pattern_text(p->patterns[ACCESS_WRITE]),
                                              pattern_text(p->patterns[ACCESS_READ])});
    }
}

void access_each_permission(struct access *a, void (*each)(void *arg, const struct access_permission *p), void *arg) {
    struct user **all = (struct user **)sorted(&a->users, by_user_name);
    for (size_t i = 0; all[i] != NULL; i++) each_of_user(all[i], each, arg);
    free(all);
}
