// A change on its way:
//
//   asked for ─> hashed, when it has a password (pool) ─> a unit of the database, in the order asked for ─> in force
//   (tables) ─> told
//
// What depends on earlier changes (is there such a user?) is decided inside the unit.
#include "access/internal.h"

#include "base/utf8.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define CHANGES_MAX 65536 // under way
#define LANE        UINT32_C(0x61636373)

void *change_new(struct access *a, size_t size, access_done_fn *done, void *arg) {
    struct change *c = access_alloc(size);
    c->access = a;
    c->done = done;
    c->arg = arg;
    return c;
}

static void change_free(struct change *c) {
    struct access *a = c->access;
    if (c->counted != NULL) --*c->counted;
    if (c->release != NULL) c->release(c);
    free(c);
    a->changes_count--;
    access_leave(a);
}

static void finish(struct change *c) {
    struct access *a = c->access;
    if (!a->closing) {
        if (c->err == ERR_OK) c->apply(c);
        else if (c->error.text[0] == '\0') error_set(&c->error, c->err, "%s", err_text(c->err));
        c->done(c->arg, c->err, c->err == ERR_OK ? NULL : &c->error);
    }
    change_free(c);
}

static void on_post(struct loop_post *p) { finish(LIST_ITEM(p, struct change, post)); }

static void tell_soon(struct change *c, enum err err) {
    c->err = err;
    c->post.fn = on_post;
    loop_post(c->access->o.loop, &c->post);
}

static enum err unit_run(struct db *db, struct db_unit *u) {
    struct change *c = (struct change *)u;
    return c->run(db, c);
}

static void unit_done(struct db_unit *u, enum err err) {
    struct change *c = (struct change *)u;
    c->err = err;
    c->error = u->error;
    finish(c);
}

static void advance(struct access *a) {
    struct list_node *at;
    while ((at = list_first(&a->changes)) != NULL) {
        struct change *c = LIST_ITEM(at, struct change, node);
        if (c->hashing) return;
        list_remove(at);
        c->unit = (struct db_unit){.run = unit_run, .done = unit_done, .lane = LANE};
        enum err err = c->err == ERR_OK ? database_submit(a->o.database, &c->unit) : c->err;
        if (err != ERR_OK) tell_soon(c, err);
    }
}

void change_start(struct change *c) {
    struct access *a = c->access;
    access_enter(a);
    if (c->counted != NULL) ++*c->counted;
    if (a->changes_count++ >= CHANGES_MAX && c->err == ERR_OK)
        c->err = error_set(&c->error, ERR_BUSY, "too many changes at once");
    if (c->err != ERR_OK) c->hashing = false;
    list_push_back(&a->changes, &c->node);
    advance(a);
}

void change_ready(struct change *c) {
    c->hashing = false;
    if (c->access->closing) {
        list_remove(&c->node);
        change_free(c);
    } else {
        advance(c->access);
    }
}

// Those that are being hashed are let go of when they come back from the pool.
void changes_drop(struct access *a) {
    LIST_EACH_SAFE(&a->changes, at) {
        struct change *c = LIST_ITEM(at, struct change, node);
        list_remove(at);
        if (!c->hashing) change_free(c);
    }
}

enum err check_name(const char *field, const char *name, struct error *e) {
    size_t n = strlen(name);
    if (n == 0) return error_field(e, field, "must not be empty");
    if (n > ACCESS_NAME_MAX) return error_field(e, field, "longer than %d bytes", ACCESS_NAME_MAX);
    if (!utf8_valid(name, n)) return error_field(e, field, "is not UTF-8");
    return ERR_OK;
}

char *check_tags(const char *tags, struct error *e) {
    size_t length = strlen(tags), n = 0;
    if (length > ACCESS_TAGS_MAX || !utf8_valid(tags, length)) {
        error_field(e, "tags", "must be UTF-8 of at most %d bytes", ACCESS_TAGS_MAX);
        return NULL;
    }
    char *out = access_alloc(length + 2);
    for (const char *at = tags; *at != '\0';) {
        size_t word = strcspn(at, ",");
        const char *begin = at, *end = at + word;
        while (begin < end && isspace((unsigned char)*begin)) begin++;
        while (end > begin && isspace((unsigned char)end[-1])) end--;
        if (end > begin && n > 0) out[n++] = ',';
        memcpy(out + n, begin, (size_t)(end - begin));
        n += (size_t)(end - begin);
        at += word + (at[word] == ',');
    }
    out[n] = '\0';
    return out;
}
