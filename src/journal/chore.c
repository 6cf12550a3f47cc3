// Work beside the batches: the next segment made ahead, empty segments taken away.
//
// Every number from 1 to the newest is accounted for on disk, so that a lost file is noticed: a segment that
// goes leaves its header as a tombstone, and neighbouring tombstones become one that covers a range. A header
// says "covers n" durably before file n is removed; should the removal be lost in a crash, recovery removes it.
//
//   files  1 [tombstone, covers 1–41]   42 live   43 live   44 [tombstone, covers 44]   45 live   46 spare
#include "journal/internal.h"

#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

// --- the spare segment ---

static void new_salt(struct io *io, uint64_t *salt) { io->v->random(io, salt, sizeof *salt); }

static enum err spare_make(struct journal *j, uint32_t number, uint64_t bytes, struct error *e) {
    struct spare *s = &j->spare;
    new_salt(j->io, &s->salt);
    enum err err = segment_create(j->io, j->dir, number, bytes, s->salt, &s->fd, e);
    if (err != ERR_OK) return err;
    s->number = number;
    s->bytes = (uint32_t)bytes;
    return ERR_OK;
}

static enum err spare_enlarge(struct journal *j, uint64_t bytes, struct error *e) {
    struct spare *s = &j->spare;
    struct header h = {.number = s->number, .salt = s->salt, .size = bytes, .covers = s->number};
    enum err err = j->io->v->allocate(j->io, s->fd, bytes);
    if (err == ERR_OK) err = j->io->v->datasync(j->io, s->fd);
    if (err == ERR_OK) err = segment_rewrite_header(j->io, s->fd, &h);
    char path[SEGMENT_PATH];
    segment_path(j->dir, s->number, path);
    if (err != ERR_OK) return segment_error(e, err, "enlarge", path);
    s->bytes = (uint32_t)bytes;
    return ERR_OK;
}

enum err spare_take(struct journal *j, uint32_t number, uint64_t bytes, struct segment *out, struct error *e) {
    struct spare *s = &j->spare;
    enum err err = ERR_OK;
    pthread_mutex_lock(&s->lock);
    if (s->number == 0) err = spare_make(j, number, bytes, e);
    else if (s->bytes < bytes) err = spare_enlarge(j, bytes, e);
    if (err == ERR_OK) {
        ASSERT(s->number == number);
        *out = (struct segment){
            .number = number, .bytes = s->bytes, .end = DATA_AT, .fd = s->fd, .salt = s->salt, .pins = 0};
        s->number = 0;
        s->next_number = number + 1;
        s->fd = -1;
    }
    pthread_mutex_unlock(&s->lock);
    return err;
}

static bool wants_spare(struct journal *j) {
    const struct segment *s = j->current;
    if (s == NULL || j->full || s->end < s->bytes / 2) return false;
    if (j->free_bytes < j->options.segment_bytes + j->low_water) return false; // rolling makes do with what there is
    if (pthread_mutex_trylock(&j->spare.lock) != 0) return false;
    bool none = j->spare.number == 0;
    pthread_mutex_unlock(&j->spare.lock);
    return none;
}

// A segment that was rolled to meanwhile has taken the number: then there is nothing to do. Having no room or
// no descriptor for it now is no failure either, the next append that needs it will try again.
static enum err run_spare(struct journal_chore *c, struct error *e) {
    struct journal *j = c->journal;
    enum err err = ERR_OK;
    pthread_mutex_lock(&j->spare.lock);
    if (j->spare.number == 0 && j->spare.next_number == c->spare_number)
        err = spare_make(j, c->spare_number, j->options.segment_bytes, e);
    pthread_mutex_unlock(&j->spare.lock);
    return err == ERR_IO ? err : ERR_OK;
}

// --- tombstones ---

static uint64_t max64(uint64_t a, uint64_t b) { return a > b ? a : b; }

enum err tombstone_add(struct journal *j, const struct header *h) {
    if (j->tombstone_count == j->tombstone_cap) {
        uint32_t cap = j->tombstone_cap ? 2 * j->tombstone_cap : 8;
        struct header *grown = realloc(j->tombstones, cap * sizeof *grown);
        if (grown == NULL) return ERR_NOMEM;
        j->tombstones = grown;
        j->tombstone_cap = cap;
    }
    uint32_t at = j->tombstone_count;
    while (at > 0 && j->tombstones[at - 1].number > h->number) at--;
    memmove(j->tombstones + at + 1, j->tombstones + at, (j->tombstone_count - at) * sizeof *h);
    j->tombstones[at] = *h;
    j->tombstone_count++;
    return ERR_OK;
}

static void tombstone_drop(struct journal *j, const struct header *h) {
    size_t at = (size_t)(h - j->tombstones);
    memmove(j->tombstones + at, j->tombstones + at + 1, (j->tombstone_count - at - 1) * sizeof *h);
    j->tombstone_count--;
}

static struct header *tombstone_ending_at(struct journal *j, uint32_t number) {
    for (uint32_t i = 0; i < j->tombstone_count; i++)
        if (j->tombstones[i].covers == number) return &j->tombstones[i];
    return NULL;
}

static struct header *tombstone_of(struct journal *j, uint32_t number) {
    for (uint32_t i = 0; i < j->tombstone_count; i++)
        if (j->tombstones[i].number == number) return &j->tombstones[i];
    return NULL;
}

static enum err remove_file(struct journal *j, uint32_t number, struct error *e) {
    char path[SEGMENT_PATH];
    segment_path(j->dir, number, path);
    enum err err = j->io->v->remove(j->io, path);
    return err == ERR_OK || err == ERR_NOT_FOUND ? ERR_OK : segment_error(e, err, "remove", path);
}

// Writes h into its own file, keeping the header only.
static enum err write_tombstone(struct journal *j, const struct header *h, struct error *e) {
    char path[SEGMENT_PATH];
    int fd;
    segment_path(j->dir, h->number, path);
    enum err err = j->io->v->open(j->io, path, IO_READ | IO_WRITE, &fd);
    if (err != ERR_OK) return segment_error(e, err, "open", path);
    err = segment_rewrite_header(j->io, fd, h);
    if (err == ERR_OK) err = j->io->v->truncate(j->io, fd, DATA_AT);
    (void)j->io->v->close(j->io, fd);
    return err == ERR_OK ? ERR_OK : segment_error(e, err, "retire", path);
}

static void absorb(struct header *into, const struct header *other) {
    into->covers = other->covers;
    into->jpos = max64(into->jpos, other->jpos);
    into->batch = max64(into->batch, other->batch);
}

static enum err retire(struct journal *j, const struct retiree *r, struct error *e) {
    struct header h = r->header;
    struct header *below = tombstone_ending_at(j, h.number - 1), *above = tombstone_of(j, h.number + 1);
    uint32_t above_number = above != NULL ? above->number : 0;
    if (above != NULL) {
        absorb(&h, above);
        tombstone_drop(j, above);
        below = tombstone_ending_at(j, h.number - 1);
    }
    enum err err;
    if (below != NULL) {
        absorb(below, &h);
        err = write_tombstone(j, below, e);
        if (err == ERR_OK) err = remove_file(j, h.number, e);
    } else {
        err = write_tombstone(j, &h, e);
        if (err == ERR_OK) err = tombstone_add(j, &h);
    }
    if (err == ERR_OK && above_number != 0) err = remove_file(j, above_number, e);
    return err;
}

// --- the chore ---

void journal_background(struct journal *j, bool on) { j->background = on; }

static void gather_retirees(struct journal *j, struct journal_chore *c) {
    j->retire_due = false;
    for (uint32_t i = 0; i < j->seg_count;) {
        struct segment *s = j->segs[i];
        if (!space_deletable(j, s)) {
            i++;
            continue;
        }
        struct retiree *grown = realloc(c->retirees, (c->count + 1) * sizeof *grown);
        if (grown == NULL) {
            j->retire_due = true;
            return;
        }
        c->retirees = grown;
        struct header h = {.number = s->number,
                           .salt = s->salt,
                           .size = DATA_AT,
                           .flags = HEADER_RETIRED,
                           .covers = s->number,
                           .jpos = s->base + (s->end - DATA_AT),
                           .batch = s->last_batch};
        c->retirees[c->count++] = (struct retiree){.header = h};
        journal_drop_segment(j, s); // lets those that refer to it go in the same pass
    }
}

struct journal_chore *journal_chore_begin(struct journal *j) {
    struct journal_chore *c = &j->chore;
    if (j->chore_out || j->broken) return NULL;
    *c = (struct journal_chore){.journal = j};
    if (j->retire_due) gather_retirees(j, c);
    c->make_spare = wants_spare(j);
    c->spare_number = j->last_number + 1;
    if (c->count == 0 && !c->make_spare) return NULL;
    j->chore_out = true;
    return c;
}

enum err journal_chore_run(struct journal_chore *c, struct error *e) {
    struct error local = {0};
    for (uint32_t i = 0; i < c->count && c->err == ERR_OK; i++) c->err = retire(c->journal, &c->retirees[i], &local);
    if (c->err == ERR_OK && c->make_spare) c->err = run_spare(c, &local);
    c->error = local;
    if (e != NULL) *e = local;
    return c->err;
}

void journal_chore_end(struct journal *j, struct journal_chore *c) {
    ASSERT(j->chore_out && c == &j->chore);
    j->chore_out = false;
    if (c->err != ERR_OK && !j->broken) {
        j->broken = true;
        j->broken_error = c->error;
    }
    if (c->count > 0 || c->make_spare) space_check(j);
    free(c->retirees);
    c->retirees = NULL;
}

void chore_run_inline(struct journal *j) {
    struct journal_chore *c = journal_chore_begin(j);
    if (c == NULL) return;
    (void)journal_chore_run(c, NULL); // a failure is kept and comes with the next batch
    journal_chore_end(j, c);
}
