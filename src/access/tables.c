// The tables in memory. Only what the database has made durable gets here.
#include "access/internal.h"

#include <stdlib.h>
#include <string.h>

struct user *table_user(const struct access *a, const char *name) {
    return map_get(&a->users, name, strlen(name));
}

struct vhost *table_vhost(const struct access *a, const char *name) {
    return map_get(&a->vhosts, name, strlen(name));
}

// ---- users ----------------------------------------------------------------------------------------------

struct user *table_user_add(struct access *a, const char *name) {
    struct user *u = access_alloc(sizeof *u);
    u->shown.name = access_copy(name);
    u->shown.tags = access_copy("");
    u->holds = 1;
    u->password_number = ++a->password_numbers;
    if (!map_put(&a->users, u->shown.name, strlen(u->shown.name), u)) die("out of memory");
    return u;
}

static void replace(const char **place, const char *text) {
    char *before = (char *)*place;
    *place = access_copy(text);
    free(before);
}

void table_user_password(struct access *a, struct user *u, const char *hash, const char *algorithm) {
    replace(&u->shown.hash, hash);
    replace(&u->shown.hash_algorithm, algorithm);
    u->password_number = ++a->password_numbers;
}

static bool has_tag(const char *tags, const char *tag) {
    size_t n = strlen(tag);
    for (const char *at = tags; at != NULL; at = strchr(at, ',')) {
        if (*at == ',') at++;
        if (strncmp(at, tag, n) == 0 && (at[n] == ',' || at[n] == '\0')) return true;
    }
    return false;
}

void table_user_tags(struct user *u, const char *tags) {
    replace(&u->shown.tags, tags);
    u->shown.administrator = has_tag(tags, "administrator");
    u->shown.monitoring = u->shown.administrator || has_tag(tags, "monitoring");
    u->shown.policymaker = u->shown.administrator || has_tag(tags, "policymaker");
    u->shown.impersonator = has_tag(tags, "impersonator");
    u->shown.management = u->shown.monitoring || u->shown.policymaker || has_tag(tags, "management");
}

// ---- permissions ----------------------------------------------------------------------------------------

// Where the vhost's permission is, or would be.
static size_t place_of(const struct user *u, const char *vhost, bool *found) {
    size_t low = 0, high = u->permission_count;
    *found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(vhost, u->permissions[middle]->vhost);
        if (order == 0) *found = true;
        if (order > 0) low = middle + 1;
        else high = middle;
    }
    return low;
}

struct permission *table_permission(const struct user *u, const char *vhost) {
    bool found;
    size_t at = place_of(u, vhost, &found);
    return found ? u->permissions[at] : NULL;
}

static struct permission *insert(struct access *a, struct user *u, const char *vhost, size_t at) {
    if (u->permission_count == u->permission_room) {
        u->permission_room = u->permission_room > 0 ? u->permission_room * 2 : 1;
        u->permissions = realloc(u->permissions, u->permission_room * sizeof(struct permission *));
        if (u->permissions == NULL) die("out of memory");
    }
    struct permission **place = u->permissions + at;
    memmove(place + 1, place, (u->permission_count - at) * sizeof *place);
    u->permission_count++;
    a->permission_count++;
    *place = access_alloc(sizeof(struct permission));
    (*place)->vhost = access_copy(vhost);
    return *place;
}

void table_permission_set(struct access *a, struct user *u, const char *vhost, const char *const patterns[3]) {
    bool found;
    size_t at = place_of(u, vhost, &found);
    struct permission *p = found ? u->permissions[at] : insert(a, u, vhost, at);
    for (int kind = 0; kind < 3; kind++) {
        struct pattern *before = p->patterns[kind];
        p->patterns[kind] = pattern_hold(a->patterns, patterns[kind]);
        pattern_release(a->patterns, before);
    }
}

static void permission_free(struct access *a, struct permission *p) {
    for (int kind = 0; kind < 3; kind++) pattern_release(a->patterns, p->patterns[kind]);
    a->permission_count--;
    free(p->vhost);
    free(p);
}

bool table_permission_drop(struct access *a, struct user *u, const char *vhost) {
    bool found;
    size_t at = place_of(u, vhost, &found);
    if (!found) return false;
    struct permission **place = u->permissions + at;
    permission_free(a, *place);
    memmove(place, place + 1, (--u->permission_count - at) * sizeof *place);
    return true;
}

void table_user_drop(struct access *a, struct user *u) {
    map_remove(&a->users, u->shown.name, strlen(u->shown.name));
    for (size_t i = 0; i < u->permission_count; i++) permission_free(a, u->permissions[i]);
    free(u->permissions);
    u->permissions = NULL;
    u->permission_count = u->permission_room = 0;
    u->shown.deleted = true;
    access_user_release(&u->shown);
}

// ---- virtual hosts --------------------------------------------------------------------------------------

struct vhost *table_vhost_add(struct access *a, const char *name) {
    struct vhost *v = access_alloc(sizeof *v);
    v->name = access_copy(name);
    v->description = access_copy("");
    v->tags = access_copy("");
    if (!map_put(&a->vhosts, v->name, strlen(v->name), v)) die("out of memory");
    return v;
}

void table_vhost_set(struct vhost *v, const char *description, const char *tags, bool tracing) {
    if (description != NULL) replace((const char **)&v->description, description);
    if (tags != NULL) replace((const char **)&v->tags, tags);
    v->tracing = tracing;
}

static void vhost_free(struct vhost *v) {
    free(v->name);
    free(v->description);
    free(v->tags);
    free(v);
}

void table_vhost_drop(struct access *a, struct vhost *v) {
    struct user *u;
    for (size_t at = 0; (u = map_next(&a->users, &at)) != NULL;) table_permission_drop(a, u, v->name);
    map_remove(&a->vhosts, v->name, strlen(v->name));
    vhost_free(v);
}

void tables_release(struct access *a) {
    struct user *u;
    struct vhost *v;
    for (size_t at = 0; (u = map_next(&a->users, &at)) != NULL; at = 0) table_user_drop(a, u);
    for (size_t at = 0; (v = map_next(&a->vhosts, &at)) != NULL; at = 0) table_vhost_drop(a, v);
    map_release(&a->users);
    map_release(&a->vhosts);
}
