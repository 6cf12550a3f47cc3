// The journal in memory: opening and closing, its list of segments, statistics.
#include "journal/internal.h"

#include "base/assert.h"
#include "journal/recovery.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// --- segments ---

struct segment *journal_segment(const struct journal *j, uint32_t number) {
    uint32_t low = 0, high = j->seg_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (j->segs[mid]->number == number) return j->segs[mid];
        if (j->segs[mid]->number < number) low = mid + 1;
        else high = mid;
    }
    return NULL;
}

enum err journal_add_segment(struct journal *j, const struct segment *s, struct segment **out) {
    ASSERT(j->seg_count == 0 || j->segs[j->seg_count - 1]->number < s->number);
    struct segment *added = malloc(sizeof *added);
    if (j->seg_count == j->seg_cap) {
        uint32_t cap = j->seg_cap ? 2 * j->seg_cap : 16;
        struct segment **grown = realloc(j->segs, cap * sizeof *grown);
        if (grown != NULL) {
            j->segs = grown;
            j->seg_cap = cap;
        }
    }
    if (added == NULL || j->seg_count == j->seg_cap) {
        free(added);
        return ERR_NOMEM;
    }
    *added = *s;
    if (s->fd >= 0 && j->open_files++ >= OPEN_FILES_MAX) journal_close_file(j);
    j->segs[j->seg_count++] = added;
    *out = added;
    return ERR_OK;
}

static void segment_free(struct journal *j, struct segment *s) {
    if (s->fd >= 0) {
        (void)j->io->v->close(j->io, s->fd);
        j->open_files--;
    }
    free(s->refs);
    free(s);
}

void journal_drop_segment(struct journal *j, struct segment *s) {
    ASSERT(s->live == 0 && s->pins == 0);
    uint32_t at = 0;
    while (j->segs[at] != s) at++;
    memmove(j->segs + at, j->segs + at + 1, (j->seg_count - at - 1) * sizeof *j->segs);
    j->seg_count--;
    j->record_bytes -= s->record_bytes;
    segment_free(j, s);
}

void journal_break(struct journal *j, enum err err, const struct error *e) {
    if (j->broken) return;
    j->broken = true;
    j->broken_error = *e;
    j->broken_error.code = err;
}

// --- opening ---

static enum err set_options(struct journal *j, const struct journal_options *o, struct error *e) {
    if (strlen(o->dir) >= sizeof j->dir) return error_set(e, ERR_INVALID, "the journal's directory name is too long");
    memcpy(j->dir, o->dir, strlen(o->dir) + 1);
    j->options = *o;
    j->options.dir = j->dir;
    if (o->segment_bytes == 0) j->options.segment_bytes = SEGMENT_DEFAULT;
    if (o->batch_max_bytes == 0) j->options.batch_max_bytes = BATCH_MAX_DEFAULT;
    uint64_t size = j->options.segment_bytes;
    if (size < SEGMENT_MIN || size > SEGMENT_MAX || size % DATA_AT != 0)
        return error_set(e, ERR_INVALID, "segments must be %u to %u bytes, in steps of %u", SEGMENT_MIN, SEGMENT_MAX,
                         DATA_AT);
    return ERR_OK;
}

// The directory and the names of those above it are durable before anything is put into it.
static enum err make_dir(struct journal *j, struct error *e) {
    char part[IO_NAME_MAX];
    enum err err = j->io->v->make_dir(j->io, j->dir);
    for (size_t i = 0; err == ERR_OK && i < strlen(j->dir); i++) {
        if (i > 0 && j->dir[i] != '/') continue;
        memcpy(part, j->dir, i);
        part[i] = 0;
        err = j->io->v->sync_dir(j->io, part);
    }
    return err == ERR_OK ? ERR_OK : segment_error(e, err, "make the directory", j->dir);
}

static enum err take_lock(struct journal *j, bool create, struct error *e) {
    char path[SEGMENT_PATH];
    snprintf(path, sizeof path, "%s/lock", j->dir);
    enum err err = j->io->v->open(j->io, path, IO_READ | IO_WRITE | (create ? IO_CREATE : 0), &j->lock_fd);
    if (err != ERR_OK) {
        j->lock_fd = -1;
        return segment_error(e, err, "open", path);
    }
    err = j->io->v->lock(j->io, j->lock_fd);
    if (err == ERR_LOCKED) return error_set(e, err, "the directory %s is in use by another barid", j->dir);
    return err == ERR_OK ? ERR_OK : segment_error(e, err, "lock", path);
}

static struct journal *journal_make(struct io *io) {
    struct journal *j = calloc(1, sizeof *j);
    if (j == NULL) return NULL;
    j->io = io;
    j->lock_fd = j->spare.fd = -1;
    pthread_mutex_init(&j->spare.lock, NULL);
    return j;
}

enum err journal_open_as(struct journal **out, struct io *io, const struct journal_options *o,
                         const struct recovery_options *how, struct error *e) {
    *out = NULL;
    struct journal *j = journal_make(io);
    if (j == NULL) return error_set(e, ERR_NOMEM, "out of memory");
    bool changes = how->mode != RECOVERY_CHECK;
    enum err err = set_options(j, o, e);
    if (err == ERR_OK && changes) err = make_dir(j, e);
    if (err == ERR_OK) err = take_lock(j, changes, e);
    if (err == ERR_OK) {
        *out = j;
        err = recover(j, how, e);
    }
    if (err == ERR_OK) return ERR_OK;
    *out = NULL;
    journal_discard(j);
    return err;
}

enum err journal_open(struct journal **out, struct io *io, const struct journal_options *options,
                      journal_replay_fn *replay, void *arg, struct error *e) {
    struct recovery_options how = {
        .mode = options->repair ? RECOVERY_REPAIR : RECOVERY_REFUSE, .replay = replay, .arg = arg};
    enum err err = journal_open_as(out, io, options, &how, e);
    if (err == ERR_OK) space_check(*out);
    return err;
}

// --- closing ---

static void chunk_free(struct chunk *c) {
    if (c == NULL) return;
    buf_release(&c->bytes);
    free(c);
}

void journal_discard(struct journal *j) {
    struct io *io = j->io;
    chunk_free(j->batch.chunk);
    chunk_free(j->idle_chunk);
    for (struct chunk *c = j->pending, *next; c != NULL; c = next) {
        next = c->next;
        chunk_free(c);
    }
    for (uint32_t i = 0; i < j->seg_count; i++) segment_free(j, j->segs[i]);
    if (j->spare.fd >= 0) (void)io->v->close(io, j->spare.fd);
    if (j->lock_fd >= 0) (void)io->v->close(io, j->lock_fd);
    pthread_mutex_destroy(&j->spare.lock);
    free(j->segs);
    free(j->tombstones);
    free(j->chore.retirees);
    free(j);
}

void journal_close(struct journal *j) {
    if (j == NULL) return;
    bool clean = j->pending == NULL && j->batch.chunk == NULL && !j->chore_out && !j->broken;
    if (clean) (void)journal_seal(j, NULL);
    journal_discard(j);
}

// --- statistics ---

jpos journal_appended(const struct journal *j) { return j->appended; }

jpos journal_durable(const struct journal *j) { return j->durable; }

void journal_stats(const struct journal *j, struct journal_stats *out) {
    *out = (struct journal_stats){.segments = j->seg_count,
                                  .live_bytes = j->live,
                                  .appended_bytes = j->appended - j->opened_at,
                                  .appended_records = j->appended_records,
                                  .syncs = j->syncs,
                                  .free_bytes = j->free_bytes};
    for (uint32_t i = 0; i < j->seg_count; i++) out->bytes_on_disk += j->segs[i]->bytes;
}
