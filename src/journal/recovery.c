// Opening a journal: which files are there, what each of them is, and then segment by segment what is in it.
//
//   | found                                              | decision                                              |
//   |----------------------------------------------------|-------------------------------------------------------|
//   | no files                                           | a new journal                                         |
//   | names that are not segments                        | left alone                                            |
//   | a file that a tombstone covers                     | its removal was lost in a crash: remove               |
//   | tombstone, still long or one header copy bad       | finish retiring it                                    |
//   | one of the two header copies bad                   | write it again; nothing is lost                       |
//   | header of a newer version                          | refuse: ERR_VERSION                                   |
//   | no valid header, no data behind it, nothing after  | was being prepared: remove                            |
//   | no valid header, data or later data                | damage; repair sets it aside as *.damaged             |
//   | header names another segment                       | the same                                              |
//   | a number is missing                                | damage; repair writes a tombstone for it              |
//   | shorter than its header says, no data              | was being prepared: remove                            |
//   | shorter than its header says, data                 | damage; repair keeps what is there                    |
//   | valid header, no data, nothing after               | the spare: keep one, remove others from the end on    |
//   | valid header and data                              | salvage.c                                             |
//
// Whatever was replayed is synced before it counts as durable, and then sealed with an empty frame.
#include "journal/recovery.h"

#include "base/assert.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    uint32_t number;
    struct segment_file file;
    bool unused; // nothing was ever appended to it or behind it
    bool gone;
};

struct inventory {
    struct journal *j;
    struct entry *entries;
    uint32_t count, cap;
    bool no_memory;
};

static bool live_header(const struct entry *n) {
    return n->file.state == HEADER_GOOD && (n->file.header.flags & HEADER_RETIRED) == 0;
}

static bool tombstone(const struct entry *n) {
    return n->file.state == HEADER_GOOD && (n->file.header.flags & HEADER_RETIRED) != 0;
}

// --- reporting ---

static void report_to_log(const struct finding *f) {
    log_text(f->kind == FINDING_LOST ? LOG_WARN : LOG_INFO, "journal_recovery", "%s: byte %llu, %llu bytes: %s",
             f->file, (unsigned long long)f->offset, (unsigned long long)f->bytes, f->what);
}

enum err recovery_report(struct recovery *r, enum finding_kind kind, uint32_t number, uint64_t offset, uint64_t bytes,
                         const char *what) {
    struct finding f = {.kind = kind, .offset = offset, .bytes = bytes, .what = what};
    segment_path(r->j->dir, number, f.file);
    if (kind == FINDING_LOST && r->how->mode == RECOVERY_REFUSE)
        return error_set(r->e, ERR_CORRUPT,
                         "%s is damaged at byte %llu (%s): `barid check` tells what would be lost, "
                         "`barid check --repair` salvages the rest",
                         f.file, (unsigned long long)offset, what);
    if (r->how->report != NULL) r->how->report(r->how->report_arg, &f);
    else report_to_log(&f);
    return ERR_OK;
}

static bool changes(const struct recovery *r) { return r->how->mode != RECOVERY_CHECK; }

// --- taking stock ---

static void note_file(void *arg, const char *name) {
    struct inventory *v = arg;
    uint32_t number = segment_number(name);
    if (number == 0) return;
    if (v->count == v->cap) {
        uint32_t cap = v->cap ? 2 * v->cap : 32;
        struct entry *grown = realloc(v->entries, cap * sizeof *grown);
        if (grown == NULL) {
            v->no_memory = true;
            return;
        }
        v->entries = grown;
        v->cap = cap;
    }
    v->entries[v->count++] = (struct entry){.number = number};
}

static int by_number(const void *a, const void *b) {
    uint32_t x = ((const struct entry *)a)->number, y = ((const struct entry *)b)->number;
    return x < y ? -1 : x > y;
}

static enum err open_entry(struct recovery *r, const struct entry *n, int *fd) {
    char path[SEGMENT_PATH];
    segment_path(r->j->dir, n->number, path);
    int flags = changes(r) ? IO_READ | IO_WRITE : IO_READ;
    enum err err = r->j->io->v->open(r->j->io, path, flags, fd);
    return err == ERR_OK ? ERR_OK : segment_error(r->e, err, "open", path);
}

static enum err read_error(struct recovery *r, enum err err, const struct entry *n) {
    char path[SEGMENT_PATH];
    segment_path(r->j->dir, n->number, path);
    return segment_error(r->e, err, "read", path);
}

static enum err inspect_all(struct recovery *r, struct inventory *v) {
    enum err err = ERR_OK;
    for (uint32_t i = 0; i < v->count && err == ERR_OK; i++) {
        int fd;
        err = open_entry(r, &v->entries[i], &fd);
        if (err != ERR_OK) break;
        err = segment_inspect(r->j->io, fd, &v->entries[i].file);
        (void)r->j->io->v->close(r->j->io, fd);
        if (err != ERR_OK) err = read_error(r, err, &v->entries[i]);
    }
    return err;
}

static enum err take_stock(struct recovery *r, struct inventory *v) {
    struct io *io = r->j->io;
    enum err err = io->v->list(io, r->j->dir, note_file, v);
    if (err != ERR_OK) return segment_error(r->e, err, "list", r->j->dir);
    if (v->no_memory) return error_set(r->e, ERR_NOMEM, "out of memory");
    if (v->count > 0) qsort(v->entries, v->count, sizeof *v->entries, by_number);
    return inspect_all(r, v);
}

static enum err remove_entry(struct recovery *r, struct entry *n) {
    n->gone = true;
    if (!changes(r)) return ERR_OK;
    char path[SEGMENT_PATH];
    segment_path(r->j->dir, n->number, path);
    enum err err = r->j->io->v->remove(r->j->io, path);
    if (err == ERR_OK) err = r->j->io->v->sync_dir(r->j->io, r->j->dir);
    return err == ERR_OK ? ERR_OK : segment_error(r->e, err, "remove", path);
}

// Writes a header again, even one that reads well: should its sync have failed, only the page cache has it.
static enum err renew_header(struct recovery *r, const struct entry *n) {
    int fd;
    enum err err = open_entry(r, n, &fd);
    if (err != ERR_OK) return err;
    err = segment_rewrite_header(r->j->io, fd, &n->file.header);
    if (err == ERR_OK && tombstone(n)) err = r->j->io->v->truncate(r->j->io, fd, DATA_AT);
    (void)r->j->io->v->close(r->j->io, fd);
    return err == ERR_OK ? ERR_OK : error_set(r->e, err, "cannot mend segment %u: %s", n->number, err_text(err));
}

static enum err remove_covered(struct recovery *r, struct inventory *v) {
    const struct entry *over = NULL; // the last tombstone
    bool renewed = false;
    enum err err = ERR_OK;
    for (uint32_t i = 0; i < v->count && err == ERR_OK; i++) {
        struct entry *n = &v->entries[i];
        if (over != NULL && n->number <= over->file.header.covers) {
            if (changes(r) && !renewed) err = renew_header(r, over);
            renewed = true;
            if (err == ERR_OK) err = remove_entry(r, n);
        } else if (tombstone(n) && n->file.header.number == n->number) {
            over = n;
            renewed = false;
        }
    }
    return err;
}

// From the newest file down: those without a byte of data were never used, up to the first that was.
static enum err find_unused(struct recovery *r, struct inventory *v) {
    for (uint32_t i = v->count; i-- > 0;) {
        struct entry *n = &v->entries[i];
        if (n->gone) continue;
        if (tombstone(n)) return ERR_OK;
        int fd;
        enum err err = open_entry(r, n, &fd);
        if (err != ERR_OK) return err;
        struct walk w;
        walk_init(&w, r->j->io, fd, 0, n->file.size);
        n->unused = n->file.size <= DATA_AT || walk_is_zero(&w, DATA_AT);
        err = w.err;
        walk_release(&w);
        (void)r->j->io->v->close(r->j->io, fd);
        if (err != ERR_OK) return read_error(r, err, n);
        if (!n->unused) return ERR_OK;
    }
    return ERR_OK;
}

// The first one behind the data stays when it is sound.
static bool is_spare(const struct recovery *r, const struct inventory *v, uint32_t i) {
    const struct entry *n = &v->entries[i];
    bool first = i == 0 || !v->entries[i - 1].unused;
    return n->unused && first && live_header(n) && !n->file.copy_damaged && n->file.header.number == n->number &&
           n->file.size >= n->file.header.size && n->file.size >= r->j->options.segment_bytes;
}

// Those never used, the highest first, each made durable, so that no crash leaves a gap.
static enum err remove_unused(struct recovery *r, struct inventory *v) {
    enum err err = ERR_OK;
    for (uint32_t i = v->count; i-- > 0 && err == ERR_OK;) {
        struct entry *n = &v->entries[i];
        if (n->unused && !is_spare(r, v, i)) err = remove_entry(r, n);
    }
    return err;
}

// --- what is missing or unreadable as a whole ---

static enum err write_stand_in(struct recovery *r, uint32_t number, uint32_t covers) {
    struct journal *j = r->j;
    struct header h = {
        .number = number, .size = DATA_AT, .flags = HEADER_RETIRED, .covers = covers, .jpos = r->at, .batch = r->batch};
    int fd;
    enum err err = segment_create(j->io, j->dir, number, DATA_AT, 0, &fd, r->e);
    if (err != ERR_OK) return err;
    err = segment_rewrite_header(j->io, fd, &h);
    (void)j->io->v->close(j->io, fd);
    if (err != ERR_OK) return error_set(r->e, err, "cannot write a tombstone: %s", err_text(err));
    return tombstone_add(j, &h);
}

static enum err missing(struct recovery *r, uint32_t from, uint32_t to) {
    r->gap_known = true;
    for (uint32_t n = from; n <= to; n++) {
        enum err err = recovery_report(r, FINDING_LOST, n, 0, 0, "the file is missing");
        if (err != ERR_OK) return err;
    }
    return r->how->mode == RECOVERY_REPAIR ? write_stand_in(r, from, to) : ERR_OK;
}

static enum err set_aside(struct recovery *r, struct entry *n, const char *what) {
    struct journal *j = r->j;
    char path[SEGMENT_PATH], aside[SEGMENT_PATH + 16];
    r->gap_known = true;
    enum err err = recovery_report(r, FINDING_LOST, n->number, 0, n->file.size, what);
    if (err != ERR_OK || r->how->mode != RECOVERY_REPAIR) return err;
    segment_path(j->dir, n->number, path);
    snprintf(aside, sizeof aside, "%s.damaged", path);
    err = j->io->v->rename(j->io, path, aside);
    if (err != ERR_OK) return segment_error(r->e, err, "rename", path);
    return write_stand_in(r, n->number, n->number);
}

// --- one file ---

static enum err take_tombstone(struct recovery *r, struct entry *n) {
    const struct header *h = &n->file.header;
    if (h->jpos > r->at) r->at = h->jpos;
    if (h->batch > r->batch) r->batch = h->batch;
    enum err err = ERR_OK;
    if (changes(r) && (n->file.copy_damaged || n->file.size > DATA_AT)) err = renew_header(r, n);
    if (err != ERR_OK) return err;
    err = tombstone_add(r->j, h);
    return err == ERR_OK ? ERR_OK : error_set(r->e, err, "out of memory");
}

static enum err take_spare(struct recovery *r, struct entry *n) {
    enum err err = changes(r) ? renew_header(r, n) : ERR_OK;
    if (err == ERR_OK) err = open_entry(r, n, &r->j->spare.fd);
    if (err != ERR_OK) {
        r->j->spare.fd = -1;
        return err;
    }
    r->j->spare.number = n->number;
    r->j->spare.salt = n->file.header.salt;
    r->j->spare.bytes = (uint32_t)n->file.size;
    return ERR_OK;
}

// What is missing of a short file was lost; it gets its length back, so that there is room to go on.
static enum err mend_length(struct recovery *r, const struct entry *n, struct segment *s) {
    uint64_t size = n->file.header.size;
    if (n->file.size >= size) return ERR_OK;
    enum err err = recovery_report(r, FINDING_LOST, n->number, n->file.size, size - n->file.size,
                                   "the file is shorter than it was made");
    if (err != ERR_OK || !changes(r)) return err;
    err = r->j->io->v->allocate(r->j->io, s->fd, size);
    if (err == ERR_OK) err = r->j->io->v->datasync(r->j->io, s->fd);
    s->bytes = (uint32_t)size;
    return err == ERR_OK ? ERR_OK : error_set(r->e, err, "cannot mend segment %u: %s", n->number, err_text(err));
}

static enum err mend_header(struct recovery *r, const struct entry *n) {
    if (!n->file.copy_damaged) return ERR_OK;
    enum err err = recovery_report(r, FINDING_NOTE, n->number, 0, HEADER_BYTES, "a copy of the header is damaged");
    return err == ERR_OK && changes(r) ? renew_header(r, n) : err;
}

static enum err take_segment(struct recovery *r, struct entry *n, bool last) {
    struct segment fresh = {.number = n->number,
                            .bytes = (uint32_t)(n->file.size / 8 * 8),
                            .end = DATA_AT,
                            .salt = n->file.header.salt,
                            .fd = -1},
                   *s;
    enum err err = open_entry(r, n, &fresh.fd);
    if (err != ERR_OK) return err;
    if (journal_add_segment(r->j, &fresh, &s) != ERR_OK) {
        (void)r->j->io->v->close(r->j->io, fresh.fd);
        return error_set(r->e, ERR_NOMEM, "out of memory");
    }
    err = mend_header(r, n);
    if (err == ERR_OK) err = mend_length(r, n, s);
    s->pins++;
    if (err == ERR_OK) err = recover_segment(r, s, last);
    s->pins--;
    return err;
}

static bool last_with_data(const struct inventory *v, uint32_t i) {
    for (uint32_t k = i + 1; k < v->count; k++)
        if (!v->entries[k].gone && !v->entries[k].unused) return false;
    return true;
}

static enum err take_entry(struct recovery *r, const struct inventory *v, uint32_t i) {
    struct entry *n = &v->entries[i];
    char path[SEGMENT_PATH];
    segment_path(r->j->dir, n->number, path);
    if (n->file.state == HEADER_NEWER)
        return error_set(r->e, ERR_VERSION, "%s was written by a newer version of barid", path);
    if (n->unused) return is_spare(r, v, i) ? take_spare(r, n) : ERR_OK;
    r->j->last_number = n->number;
    if (n->file.state != HEADER_GOOD) return set_aside(r, n, "the file has no readable header");
    if (n->file.header.number != n->number) return set_aside(r, n, "the file belongs to another segment");
    if (!tombstone(n)) return take_segment(r, n, last_with_data(v, i));
    r->j->last_number = n->file.header.covers;
    return take_tombstone(r, n);
}

static enum err take_all(struct recovery *r, struct inventory *v) {
    uint32_t expected = 1;
    enum err err = ERR_OK;
    for (uint32_t i = 0; i < v->count && err == ERR_OK; i++) {
        struct entry *n = &v->entries[i];
        if (n->gone) continue;
        if (n->number > expected) {
            r->j->last_number = n->number - 1;
            err = missing(r, expected, n->number - 1);
        }
        if (err == ERR_OK) err = take_entry(r, v, i);
        expected = tombstone(n) ? n->file.header.covers + 1 : n->number + 1;
    }
    return err;
}

// --- all of it ---

static enum err settle(struct recovery *r) {
    struct journal *j = r->j;
    if (j->seg_count > 0 && j->segs[j->seg_count - 1]->number == j->last_number) j->current = j->segs[j->seg_count - 1];
    j->last_batch = r->batch;
    j->appended = j->durable = r->at;
    j->spare.next_number = j->last_number + 1;
    j->sealed = r->last_was_empty;
    j->retire_due = true;
    if (changes(r)) {
        enum err err = journal_seal(j, r->e);
        if (err != ERR_OK) return err;
    }
    j->opened_at = j->space_checked_at = j->appended;
    return ERR_OK;
}

enum err recover(struct journal *j, const struct recovery_options *how, struct error *e) {
    struct recovery r = {.j = j, .how = how, .e = e};
    struct inventory v = {.j = j};
    enum err err = ERR_OK;
    if (changes(&r)) err = j->io->v->sync_dir(j->io, j->dir);
    if (err != ERR_OK) return segment_error(e, err, "sync the directory", j->dir);
    err = take_stock(&r, &v);
    if (err == ERR_OK) err = remove_covered(&r, &v);
    if (err == ERR_OK) err = find_unused(&r, &v);
    if (err == ERR_OK) err = take_all(&r, &v);
    if (err == ERR_OK) err = remove_unused(&r, &v);
    if (err == ERR_OK) err = settle(&r);
    free(v.entries);
    return err;
}
