// The sweep of the files: finds contents that nobody owns (a crash between an upload and its message) and parts that
// nobody writes any more.
//
//   for each of 256 directories:  list (pool) ─> ask about up to BATCH (loop) ─> remove the unwanted (pool) ─> …
//   then tmp/:                    list (pool) ─> leave out what is being written (loop) ─> remove (pool)
//
// A content that gets its name again between the question and the removal stays.
#include "datastore/files.h"

#include "base/assert.h"
#include "base/hex.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH    128
#define LIST_MAX (1u << 20) // entries of one directory looked at in one sweep
#define SHARDS   256

struct entry_list {
    uint8_t *items;
    size_t n, room, size; // size of an item
};

struct ds_sweep {
    struct ds_op op;
    struct files *d;
    uint64_t min_age_ms;
    ds_ask_fn *ask;
    ds_swept_fn *done;
    void *arg;
    unsigned shard;
    struct entry_list list;
    size_t at, asked; // in the list: where the batch begins, how many it holds
    uint8_t wanted[BATCH];
    bool asking, in_op;
    uint64_t kept, removed;
    enum err err;
};

static void next_batch(struct ds_sweep *s);

static void *list_add(struct entry_list *l) {
    if (l->n == LIST_MAX) return NULL;
    if (l->n == l->room) {
        size_t room = l->room ? l->room * 2 : 64;
        uint8_t *grown = realloc(l->items, room * l->size);
        if (!grown) return NULL;
        l->items = grown;
        l->room = room;
    }
    return l->items + l->size * l->n++;
}

static void sweep_free(struct ds_sweep *s) {
    free(s->list.items);
    free(s);
}

void ds_sweep_drop(struct files *d) {
    if (d->sweep && d->sweep->asking && !d->sweep->in_op) sweep_free(d->sweep);
    d->sweep = NULL;
}

static void step(struct ds_sweep *s, void (*run)(struct ds_op *), void (*done)(struct ds_op *)) {
    s->op.run = run;
    s->op.done = done;
    s->in_op = true;
    ds_op_start(&s->d->port, &s->op);
}

static bool step_ended(struct ds_sweep *s) {
    s->in_op = false;
    if (!s->d->port.closed) return false;
    sweep_free(s);
    return true;
}

static void finish(struct ds_sweep *s) {
    s->d->sweep = NULL;
    s->done(s->arg, s->err, s->kept, s->removed);
    sweep_free(s);
}

// ---- parts

static void add_part(void *arg, const char *name) {
    struct ds_sweep *s = arg;
    char part[DS_PART];
    size_t n = strlen(name);
    if (n != 37 || strcmp(name + 32, ".part") != 0) return;
    snprintf(part, sizeof part, "tmp/%s", name);
    int64_t age = ds_age_ms(s->d, part);
    if (age < 0 || (uint64_t)age < s->min_age_ms) return;
    char *item = list_add(&s->list);
    if (item) memcpy(item, part, DS_PART);
}

static void list_parts_run(struct ds_op *op) {
    struct ds_sweep *s = (struct ds_sweep *)op;
    s->err = s->d->io->v->list(s->d->io, "tmp", add_part, s);
}

static void remove_parts_run(struct ds_op *op) {
    struct ds_sweep *s = (struct ds_sweep *)op;
    for (size_t i = 0; i < s->list.n; i++) {
        const char *part = (const char *)s->list.items + i * DS_PART;
        if (*part && s->d->io->v->remove(s->d->io, part) == ERR_OK) s->removed++;
    }
}

static void remove_parts_done(struct ds_op *op) {
    struct ds_sweep *s = (struct ds_sweep *)op;
    if (!step_ended(s)) finish(s);
}

static void list_parts_done(struct ds_op *op) {
    struct ds_sweep *s = (struct ds_sweep *)op;
    if (step_ended(s)) return;
    for (size_t i = 0; i < s->list.n; i++) {
        char *part = (char *)s->list.items + i * DS_PART;
        if (ds_part_in_use(s->d, part)) *part = 0;
    }
    step(s, remove_parts_run, remove_parts_done);
}

// ---- contents

static void add_content(void *arg, const char *name) {
    struct ds_sweep *s = arg;
    uint8_t hash[DATASTORE_HASH];
    char path[DS_NAME];
    if (!hex_decode(name, strlen(name), hash, sizeof hash)) return;
    ds_name(hash, path);
    int64_t age = ds_age_ms(s->d, path);
    if (age < 0) return;
    if ((uint64_t)age < s->min_age_ms) {
        s->kept++;
        return;
    }
    uint8_t *item = list_add(&s->list);
    if (item) memcpy(item, hash, sizeof hash);
}

static void list_contents_run(struct ds_op *op) {
    struct ds_sweep *s = (struct ds_sweep *)op;
    uint8_t byte = (uint8_t)s->shard;
    char shard[3];
    hex_encode(&byte, 1, shard);
    s->err = s->d->io->v->list(s->d->io, shard, add_content, s);
}

static void list_contents_done(struct ds_op *op) {
    struct ds_sweep *s = (struct ds_sweep *)op;
    if (!step_ended(s)) next_batch(s);
}

static void remove_contents_run(struct ds_op *op) {
    struct ds_sweep *s = (struct ds_sweep *)op;
    for (size_t i = 0; i < s->asked; i++) {
        bool removed = false;
        const uint8_t *hash = s->list.items + (s->at + i) * DATASTORE_HASH;
        s->err = ds_take_name(s->d, hash, s->min_age_ms, &s->wanted[i], &removed);
        if (removed) s->removed++;
        else s->kept++;
        if (s->err) return;
    }
}

static void remove_contents_done(struct ds_op *op) {
    struct ds_sweep *s = (struct ds_sweep *)op;
    if (step_ended(s)) return;
    s->at += s->asked;
    next_batch(s);
}

static void verdict(void *arg, const uint8_t *wanted) {
    struct ds_sweep *s = arg;
    ASSERT(s->asking);
    s->asking = false;
    for (size_t i = 0; i < s->asked; i++) s->wanted[i] |= wanted[i];
    step(s, remove_contents_run, remove_contents_done);
}

void ds_sweep_spare(struct ds_sweep *s, const uint8_t hash[DATASTORE_HASH]) {
    for (size_t i = 0; i < s->asked; i++)
        if (memcmp(s->list.items + (s->at + i) * DATASTORE_HASH, hash, DATASTORE_HASH) == 0) s->wanted[i] = 1;
}

static void next_directory(struct ds_sweep *s) {
    s->list.n = s->at = s->asked = 0;
    if (s->shard < SHARDS) {
        step(s, list_contents_run, list_contents_done);
        return;
    }
    free(s->list.items);
    s->list = (struct entry_list){.size = DS_PART};
    step(s, list_parts_run, list_parts_done);
}

static void next_batch(struct ds_sweep *s) {
    if (s->err) {
        finish(s);
    } else if (s->at == s->list.n) {
        s->shard++;
        next_directory(s);
    } else {
        s->asked = s->list.n - s->at < BATCH ? s->list.n - s->at : BATCH;
        s->asking = true;
        memset(s->wanted, 0, sizeof s->wanted);
        s->ask(s->arg, (const uint8_t(*)[DATASTORE_HASH])(s->list.items + s->at * DATASTORE_HASH), s->asked, verdict,
               s);
    }
}

// ---- refusing a second one, asynchronously as every answer

static void refuse_run(struct ds_op *op) { (void)op; }

static void refuse_done(struct ds_op *op) {
    struct ds_sweep *s = (struct ds_sweep *)op;
    if (step_ended(s)) return;
    s->done(s->arg, ERR_BUSY, 0, 0);
    sweep_free(s);
}

void ds_file_sweep(struct datastore *port, uint64_t min_age_ms, ds_ask_fn *ask, ds_swept_fn *done, void *arg) {
    struct files *d = files_of(port);
    struct ds_sweep *s = calloc(1, sizeof *s);
    if (!s) die("no memory for the data store");
    *s = (struct ds_sweep){
        .d = d, .min_age_ms = min_age_ms, .ask = ask, .done = done, .arg = arg, .list = {.size = DATASTORE_HASH}};
    if (d->sweep) {
        step(s, refuse_run, refuse_done);
        return;
    }
    d->sweep = s;
    next_directory(s);
}
