#include "cli/check_media.h"

#include "base/hex.h"
#include "base/io.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HASH      32
#define AT_ONCE   (256u << 10)
#define PATH_ROOM (2 * IO_NAME_MAX + 8)

struct media_check {
    struct io *io;
    const char *dir;
    char at[IO_NAME_MAX]; // the directory being read, below `dir`
    media_finding_fn *damaged;
    void *arg;
    struct media_result *out;
    uint8_t *buffer;
    EVP_MD_CTX *md;
    enum err err;
    struct error *e;
};

static enum err hash_file(struct media_check *m, int fd, uint8_t hash[static HASH], uint64_t *bytes) {
    size_t got = AT_ONCE;
    if (EVP_DigestInit_ex(m->md, EVP_sha256(), NULL) != 1) return ERR_NOMEM;
    for (*bytes = 0; got == AT_ONCE; *bytes += got) {
        enum err err = m->io->v->pread(m->io, fd, m->buffer, AT_ONCE, *bytes, &got);
        if (err != ERR_OK) return err;
        if (EVP_DigestUpdate(m->md, m->buffer, got) != 1) return ERR_NOMEM;
    }
    return EVP_DigestFinal_ex(m->md, hash, NULL) == 1 ? ERR_OK : ERR_NOMEM;
}

static void check_file(void *arg, const char *name) {
    struct media_check *m = arg;
    uint8_t wanted[HASH], hash[HASH];
    char path[PATH_ROOM];
    int fd;
    if (m->err != ERR_OK || !hex_decode(name, strlen(name), wanted, HASH)) return;
    snprintf(path, sizeof path, "%s/%s", m->at, name);
    enum err err = m->io->v->open(m->io, path, IO_READ, &fd);
    if (err != ERR_OK) {
        m->err = error_set(m->e, err, "cannot open %s: %s", path, err_text(err));
        return;
    }
    uint64_t bytes = 0;
    err = hash_file(m, fd, hash, &bytes);
    (void)m->io->v->close(m->io, fd);
    m->out->files++;
    m->out->bytes += bytes;
    if (err == ERR_NOMEM) {
        m->err = error_set(m->e, err, "out of memory");
    } else if (err != ERR_OK || memcmp(wanted, hash, HASH) != 0) {
        m->out->damaged++;
        m->damaged(m->arg, path, bytes, err != ERR_OK ? "cannot be read" : "the content is not what its name says");
    }
}

// Only the 256 directories named by two digits hold finished files.
static void check_shard(void *arg, const char *name) {
    struct media_check *m = arg;
    uint8_t first;
    if (m->err != ERR_OK || !hex_decode(name, strlen(name), &first, 1)) return;
    snprintf(m->at, sizeof m->at, "%s/%s", m->dir, name);
    enum err err = m->io->v->list(m->io, m->at, check_file, m);
    if (err != ERR_OK && m->err == ERR_OK) m->err = error_set(m->e, err, "cannot list %s: %s", m->at, err_text(err));
}

bool media_is_there(struct io *io, const char *dir, const uint8_t hash[static HASH]) {
    char hex[2 * HASH + 1], path[PATH_ROOM];
    int fd;
    hex_encode(hash, HASH, hex);
    snprintf(path, sizeof path, "%s/%.2s/%s", dir, hex, hex);
    if (io->v->open(io, path, IO_READ, &fd) != ERR_OK) return false;
    (void)io->v->close(io, fd);
    return true;
}

enum err check_media(struct io *io, const char *dir, media_finding_fn *damaged, void *arg, struct media_result *out,
                     struct error *e) {
    struct media_check m = {.io = io, .dir = dir, .damaged = damaged, .arg = arg, .out = out, .e = e};
    *out = (struct media_result){0};
    m.buffer = malloc(AT_ONCE);
    m.md = EVP_MD_CTX_new();
    enum err err = ERR_NOMEM;
    if (m.buffer != NULL && m.md != NULL) err = io->v->list(io, dir, check_shard, &m);
    EVP_MD_CTX_free(m.md);
    free(m.buffer);
    if (m.err != ERR_OK) return m.err;
    if (err == ERR_NOT_FOUND) return ERR_OK;
    return err == ERR_OK ? ERR_OK : error_set(e, err, "cannot list %s: %s", dir, err_text(err));
}
