#include "sim/sim_names.h"

#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

static void *checked(void *p) {
    ASSERT(p != NULL);
    return p;
}

static char *copy_of(const char *s) { return s == NULL ? NULL : checked(strdup(s)); }

static void *grown(void *items, size_t count, size_t *cap, size_t size) {
    if (count < *cap) return items;
    *cap = *cap ? 2 * *cap : 16;
    return checked(realloc(items, *cap * size));
}

// --- one table ---

static struct sim_name *lookup(const struct sim_table *t, const char *path) {
    for (size_t i = 0; i < t->count; i++)
        if (strcmp(t->names[i].path, path) == 0) return &t->names[i];
    return NULL;
}

static void put(struct sim_table *t, const char *path, struct sim_file *file) {
    struct sim_name *there = lookup(t, path);
    if (there != NULL) {
        there->file = file;
        return;
    }
    t->names = grown(t->names, t->count, &t->cap, sizeof *t->names);
    t->names[t->count++] = (struct sim_name){.path = copy_of(path), .file = file};
}

static void drop_at(struct sim_table *t, size_t i) {
    free(t->names[i].path);
    memmove(t->names + i, t->names + i + 1, (t->count - i - 1) * sizeof *t->names);
    t->count--;
}

static void drop(struct sim_table *t, const char *path) {
    struct sim_name *there = lookup(t, path);
    if (there != NULL) drop_at(t, (size_t)(there - t->names));
}

static void clear(struct sim_table *t) {
    for (size_t i = 0; i < t->count; i++) free(t->names[i].path);
    t->count = 0;
}

// --- paths ---

static size_t parent_length(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash == NULL ? 0 : (size_t)(slash - path);
}

const char *sim_path_in(const char *path, const char *dir) {
    if (strcmp(dir, ".") == 0) dir = "";
    size_t n = strlen(dir), parent = parent_length(path);
    if (parent != n || strncmp(path, dir, n) != 0) return NULL;
    return n == 0 ? path : path + n + 1;
}

static bool parent_in(const struct sim_table *t, const char *path) {
    size_t n = parent_length(path);
    if (n == 0) return true;
    for (size_t i = 0; i < t->count; i++)
        if (strlen(t->names[i].path) == n && strncmp(t->names[i].path, path, n) == 0) return t->names[i].file->is_dir;
    return false;
}

bool sim_names_parent_exists(const struct sim_names *n, const char *path) { return parent_in(&n->now, path); }

bool sim_names_has_children(const struct sim_names *n, const char *path) {
    for (size_t i = 0; i < n->now.count; i++)
        if (sim_path_in(n->now.names[i].path, path) != NULL) return true;
    return false;
}

// --- changes ---

static void record(struct sim_names *n, const char *from, const char *to, struct sim_file *file) {
    n->changes = grown(n->changes, n->change_count, &n->change_cap, sizeof *n->changes);
    n->changes[n->change_count++] = (struct sim_change){.from = copy_of(from), .to = copy_of(to), .file = file};
}

static void apply(struct sim_table *t, const struct sim_change *c) {
    if (c->from != NULL) drop(t, c->from);
    if (c->to != NULL) put(t, c->to, c->file);
}

static void change_release(struct sim_change *c) {
    free(c->from);
    free(c->to);
}

void sim_names_init(struct sim_names *n) { *n = (struct sim_names){0}; }

void sim_names_release(struct sim_names *n) {
    clear(&n->now);
    clear(&n->disk);
    free(n->now.names);
    free(n->disk.names);
    for (size_t i = 0; i < n->change_count; i++) change_release(&n->changes[i]);
    free(n->changes);
    for (size_t i = 0; i < n->file_count; i++) sim_file_free(n->files[i]);
    free(n->files);
}

struct sim_file *sim_names_find(const struct sim_names *n, const char *path) {
    struct sim_name *there = lookup(&n->now, path);
    return there == NULL ? NULL : there->file;
}

struct sim_file *sim_names_create(struct sim_names *n, const char *path, bool is_dir) {
    struct sim_file *f = sim_file_new();
    f->is_dir = is_dir;
    n->files = grown(n->files, n->file_count, &n->file_cap, sizeof *n->files);
    n->files[n->file_count++] = f;
    put(&n->now, path, f);
    record(n, NULL, path, f);
    return f;
}

void sim_names_remove(struct sim_names *n, const char *path) {
    record(n, path, NULL, sim_names_find(n, path));
    drop(&n->now, path);
    sim_names_collect(n);
}

void sim_names_rename(struct sim_names *n, const char *from, const char *to) {
    struct sim_file *f = sim_names_find(n, from);
    record(n, from, to, f);
    drop(&n->now, from);
    put(&n->now, to, f);
    sim_names_collect(n);
}

void sim_names_sync(struct sim_names *n, const char *dir) {
    size_t kept = 0;
    for (size_t i = 0; i < n->change_count; i++) {
        struct sim_change *c = &n->changes[i];
        bool here = (c->from != NULL && sim_path_in(c->from, dir) != NULL) ||
                    (c->to != NULL && sim_path_in(c->to, dir) != NULL);
        if (here) {
            apply(&n->disk, c);
            change_release(c);
        } else n->changes[kept++] = *c;
    }
    n->change_count = kept;
    sim_names_collect(n);
}

static void drop_orphans(struct sim_table *t) {
    for (size_t i = 0; i < t->count;) {
        if (parent_in(t, t->names[i].path)) {
            i++;
            continue;
        }
        drop_at(t, i);
        i = 0;
    }
}

void sim_names_crash(struct sim_names *n, struct sim_rng *r) {
    for (size_t i = 0; i < n->change_count; i++) {
        if (sim_rng_below(r, 2) == 0) apply(&n->disk, &n->changes[i]);
        change_release(&n->changes[i]);
    }
    n->change_count = 0;
    drop_orphans(&n->disk);
    clear(&n->now);
    for (size_t i = 0; i < n->disk.count; i++) put(&n->now, n->disk.names[i].path, n->disk.names[i].file);
    for (size_t i = 0; i < n->file_count; i++) sim_file_crash(n->files[i], r);
    sim_names_collect(n);
}

static bool table_needs(const struct sim_table *t, const struct sim_file *f) {
    for (size_t i = 0; i < t->count; i++)
        if (t->names[i].file == f) return true;
    return false;
}

static bool needed(const struct sim_names *n, const struct sim_file *f) {
    if (f->opened > 0 || table_needs(&n->now, f) || table_needs(&n->disk, f)) return true;
    for (size_t i = 0; i < n->change_count; i++)
        if (n->changes[i].file == f && n->changes[i].to != NULL) return true;
    return false;
}

void sim_names_collect(struct sim_names *n) {
    size_t kept = 0;
    for (size_t i = 0; i < n->file_count; i++) {
        if (needed(n, n->files[i])) n->files[kept++] = n->files[i];
        else sim_file_free(n->files[i]);
    }
    n->file_count = kept;
}
