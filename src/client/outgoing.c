#include "client/outgoing.h"

#include "base/io.h"
#include "client/store_outbox.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIR_NAME    "outgoing"
#define CHUNK       (256u * 1024)
#define SHARE_BYTES (1u << 30)            // at once, where blocks can be shared
#define ORPHAN_MS   (24 * 3600 * 1000ull) // a copy without a message: nobody is still making it

struct copying {
    struct io *io;
    int from, to;
    uint64_t at, bytes;
};

static void name_of(const char *message_id, char out[static IO_NAME_MAX]) {
    snprintf(out, IO_NAME_MAX, DIR_NAME "/%.36s", message_id);
}

void outgoing_path(const struct client *c, const char *message_id, char out[static OUTGOING_PATH_MAX]) {
    snprintf(out, OUTGOING_PATH_MAX, "%s/" DIR_NAME "/%.36s", c->profile.dir, message_id);
}

// As far as the kernel does it by itself; the rest is read and written.
static void share(struct copying *s) {
    while (s->at < s->bytes) {
        uint64_t left = s->bytes - s->at;
        loff_t in = (loff_t)s->at, out = in;
        ssize_t n = copy_file_range(s->from, &in, s->to, &out, left < SHARE_BYTES ? (size_t)left : SHARE_BYTES, 0);
        if (n <= 0) return;
        s->at += (uint64_t)n;
    }
}

static enum err read_and_write(struct copying *s) {
    if (s->at == s->bytes) return ERR_OK;
    uint8_t *chunk = malloc(CHUNK);
    if (!chunk) return ERR_NOMEM;
    enum err err = ERR_OK;
    while (!err && s->at < s->bytes) {
        uint64_t left = s->bytes - s->at;
        ssize_t n = pread(s->from, chunk, left < CHUNK ? (size_t)left : CHUNK, (off_t)s->at);
        if (n < 0) err = ERR_IO;
        if (n <= 0) break;
        err = s->io->v->pwrite(s->io, s->to, chunk, (size_t)n, s->at);
        s->at += (uint64_t)n;
    }
    free(chunk);
    return err;
}

static enum err write_copy(struct copying *s, const char *name) {
    struct io *io = s->io;
    enum err err = io->v->make_dir(io, DIR_NAME);
    if (!err) err = io->v->open(io, name, IO_READ | IO_WRITE | IO_CREATE | IO_EXCLUSIVE, &s->to);
    if (err) return err;
    share(s);
    err = read_and_write(s);
    if (!err) err = io->v->datasync(io, s->to);
    if (!err) err = io->v->sync_dir(io, DIR_NAME);
    if (!err) err = io->v->sync_dir(io, "");
    io->v->close(io, s->to);
    return err;
}

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static enum err has_room(struct client *c, uint64_t bytes, const char *source, struct error *e) {
    struct io_space space;
    if (c->io->v->space(c->io, &space) || space.free_bytes >= bytes + OUTGOING_RESERVE_BYTES) return ERR_OK;
    return error_set(e, ERR_FULL, "there is no room for a copy of %.120s (%llu bytes) in %.120s", source,
                     (unsigned long long)bytes, c->profile.dir);
}

static enum err copy(struct client *c, int from, const char *message_id, const char *source, struct error *e) {
    struct stat before, after;
    char name[IO_NAME_MAX];
    if (fstat(from, &before) || !S_ISREG(before.st_mode))
        return error_field(e, "media", "%.150s is no regular file", source);
    enum err err = has_room(c, (uint64_t)before.st_size, source, e);
    if (err) return err;
    name_of(message_id, name);
    struct copying s = {.io = c->io, .from = from, .bytes = (uint64_t)before.st_size};
    err = write_copy(&s, name);
    if (err) error_set(e, err, "cannot copy %.120s into %.120s: %s", source, c->profile.dir, err_text(err));
    else if (fstat(from, &after) || !same_file(&before, &after) || s.at != s.bytes)
        err = error_field(e, "media", "%.150s changed while it was being copied", source);
    if (err) outgoing_drop(c, message_id);
    return err;
}

enum err outgoing_keep(struct client *c, const char *message_id, const char *source, struct error *e) {
    int from = open(source, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (from < 0) return error_field(e, "media", "%.150s cannot be opened", source);
    enum err err = copy(c, from, message_id, source, e);
    close(from);
    return err;
}

void outgoing_drop(struct client *c, const char *message_id) {
    char name[IO_NAME_MAX];
    name_of(message_id, name);
    c->io->v->remove(c->io, name);
}

// The first 48 bits of an id are when it was made.
static bool is_old(struct client *c, const struct id *id) {
    uint64_t made = 0;
    for (int i = 0; i < 6; i++) made = made << 8 | id->b[i];
    return made + ORPHAN_MS < (uint64_t)io_wall_ms(c->io);
}

static void sweep_one(void *arg, const char *name) {
    struct client *c = arg;
    struct id id;
    struct out_message m;
    if (!id_parse(name, strlen(name), &id)) return;
    enum err err = store_outbox_get(c->store, name, &m, NULL);
    bool settled = !err && (m.state == OUT_ACCEPTED || m.state == OUT_REJECTED);
    if (settled || (err == ERR_NOT_FOUND && is_old(c, &id))) outgoing_drop(c, name);
    out_message_release(&m);
}

void outgoing_sweep(struct client *c) { c->io->v->list(c->io, DIR_NAME, sweep_one, c); }
