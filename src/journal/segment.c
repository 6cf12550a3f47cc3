#include "journal/segment.h"

#include <stdio.h>
#include <string.h>

#define NAME_DIGITS 10

void segment_path(const char *dir, uint32_t number, char out[static SEGMENT_PATH]) {
    snprintf(out, SEGMENT_PATH, "%s/%010u.seg", dir, number);
}

uint32_t segment_number(const char *name) {
    uint64_t n = 0;
    for (int i = 0; i < NAME_DIGITS; i++) {
        if (name[i] < '0' || name[i] > '9') return 0;
        n = n * 10 + (uint64_t)(name[i] - '0');
    }
    return strcmp(name + NAME_DIGITS, ".seg") == 0 && n <= UINT32_MAX ? (uint32_t)n : 0;
}

enum err segment_error(struct error *e, enum err err, const char *what, const char *path) {
    return error_set(e, err, "cannot %s %s: %s", what, path, err_text(err));
}

static enum err write_new(struct io *io, int fd, uint32_t number, uint64_t bytes, uint64_t salt) {
    uint8_t block[DATA_AT] = {0};
    struct header h = {.number = number, .salt = salt, .size = bytes, .covers = number};
    header_encode(&h, block);
    header_encode(&h, block + HEADER_COPY_AT);
    enum err err = io->v->truncate(io, fd, 0);
    if (err == ERR_OK) err = io->v->allocate(io, fd, bytes);
    if (err == ERR_OK) err = io->v->pwrite(io, fd, block, sizeof block, 0);
    if (err == ERR_OK) err = io->v->datasync(io, fd);
    return err;
}

enum err segment_create(struct io *io, const char *dir, uint32_t number, uint64_t bytes, uint64_t salt, int *fd,
                        struct error *e) {
    char path[SEGMENT_PATH];
    segment_path(dir, number, path);
    enum err err = io->v->open(io, path, IO_READ | IO_WRITE | IO_CREATE, fd);
    if (err != ERR_OK) return segment_error(e, err, "create", path);
    err = write_new(io, *fd, number, bytes, salt);
    if (err == ERR_OK) err = io->v->sync_dir(io, dir);
    if (err == ERR_OK) return ERR_OK;
    (void)io->v->truncate(io, *fd, 0); // gives the room back even if the name cannot be removed
    (void)io->v->close(io, *fd);
    (void)io->v->remove(io, path);
    *fd = -1;
    return segment_error(e, err, "prepare", path);
}

// The newer of two valid headers: retiring only ever goes from live to retired and covers only grows.
static const struct header *newer(const struct header *a, const struct header *b) {
    if ((a->flags & HEADER_RETIRED) != (b->flags & HEADER_RETIRED)) return a->flags & HEADER_RETIRED ? a : b;
    return a->covers >= b->covers ? a : b;
}

enum err segment_inspect(struct io *io, int fd, struct segment_file *out) {
    *out = (struct segment_file){.state = HEADER_BAD};
    uint8_t block[DATA_AT] = {0};
    size_t got = 0;
    enum err err = io->v->size(io, fd, &out->size);
    if (err == ERR_OK) err = io->v->pread(io, fd, block, sizeof block, 0, &got);
    if (err != ERR_OK) return err;
    struct header a, b;
    enum header_state first = header_decode(&a, block), second = header_decode(&b, block + HEADER_COPY_AT);
    if (first == HEADER_GOOD && second == HEADER_GOOD) {
        out->header = *newer(&a, &b);
        out->state = HEADER_GOOD;
        out->copy_damaged = memcmp(block, block + HEADER_COPY_AT, HEADER_BYTES) != 0;
    } else if (first == HEADER_GOOD || second == HEADER_GOOD) {
        out->header = first == HEADER_GOOD ? a : b;
        out->state = HEADER_GOOD;
        out->copy_damaged = true;
    } else if (first == second) {
        out->state = first;
    }
    return ERR_OK;
}

static enum err write_header_at(struct io *io, int fd, const uint8_t bytes[static HEADER_BYTES], uint64_t at) {
    enum err err = io->v->pwrite(io, fd, bytes, HEADER_BYTES, at);
    return err == ERR_OK ? io->v->datasync(io, fd) : err;
}

enum err segment_rewrite_header(struct io *io, int fd, const struct header *h) {
    uint8_t bytes[HEADER_BYTES];
    header_encode(h, bytes);
    enum err err = write_header_at(io, fd, bytes, HEADER_COPY_AT);
    return err == ERR_OK ? write_header_at(io, fd, bytes, 0) : err;
}
