#include "client/media.h"

#include "base/hex.h"
#include "base/id.h"
#include "base/utf8.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const struct {
    const char *extension, *type;
} types[] = {
    {"jpg", "image/jpeg"},      {"jpeg", "image/jpeg"},     {"png", "image/png"},         {"gif", "image/gif"},
    {"webp", "image/webp"},     {"avif", "image/avif"},     {"heic", "image/heic"},       {"bmp", "image/bmp"},
    {"svg", "image/svg+xml"},   {"tif", "image/tiff"},      {"tiff", "image/tiff"},       {"mp4", "video/mp4"},
    {"webm", "video/webm"},     {"mov", "video/quicktime"}, {"mkv", "video/x-matroska"},  {"mp3", "audio/mpeg"},
    {"m4a", "audio/mp4"},       {"ogg", "audio/ogg"},       {"opus", "audio/ogg"},        {"wav", "audio/wav"},
    {"flac", "audio/flac"},     {"pdf", "application/pdf"}, {"txt", "text/plain"},        {"md", "text/markdown"},
    {"csv", "text/csv"},        {"html", "text/html"},      {"json", "application/json"}, {"zip", "application/zip"},
    {"gz", "application/gzip"}, {"xz", "application/x-xz"},
};

const char *media_type_of(const char *filename) {
    const char *dot = strrchr(filename, '.');
    for (size_t i = 0; dot && i < sizeof types / sizeof *types; i++)
        if (!strcasecmp(dot + 1, types[i].extension)) return types[i].type;
    return "application/octet-stream";
}

const char *media_base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool unsafe(unsigned char c) { return c < 0x20 || c == 0x7f || strchr("/\\:*?\"<>|", c) != NULL; }

void media_safe_name(const char *message_id, const char *filename, char out[static MEDIA_NAME_MAX]) {
    int at = snprintf(out, MEDIA_NAME_MAX, "%.36s-", message_id);
    if (!filename || !utf8_valid(filename, strlen(filename))) filename = "";
    while (*filename == '.' || *filename == ' ') filename++;
    int end = at;
    for (; *filename && end < MEDIA_NAME_MAX - 1; filename++) {
        unsigned char c = (unsigned char)*filename;
        bool c1_control = c == 0xc2 && (unsigned char)filename[1] < 0xa0;
        if (c1_control) filename++;
        out[end++] = c1_control || unsafe(c) ? '_' : (char)c;
    }
    out[end] = 0;
    while (end > at && !utf8_valid(out + at, (size_t)(end - at))) out[--end] = 0; // cut in a character
    if (end == at) snprintf(out + at, MEDIA_NAME_MAX - (size_t)at, "file");
}

struct saving {
    struct io *io;
    int fd;
    uint64_t at;
    crypto_hash_sha256_state hash;
    enum err err;
};

static bool save(void *arg, const void *data, size_t n) {
    struct saving *s = arg;
    s->err = s->io->v->pwrite(s->io, s->fd, data, n, s->at);
    s->at += n;
    crypto_hash_sha256_update(&s->hash, data, n);
    return s->err == ERR_OK;
}

static enum err check_digest(struct saving *s, const char *expected, struct error *e) {
    unsigned char digest[32];
    char text[65];
    crypto_hash_sha256_final(&s->hash, digest);
    hex_encode(digest, sizeof digest, text);
    if (!*expected || !strcasecmp(expected, text)) return ERR_OK;
    return error_set(e, ERR_CORRUPT, "what came is not what was sent (SHA-256 %.16s…, wanted %.16s…)", text, expected);
}

// Ended by the library, which knows the length the service gave; or by us, when a proxy had given none.
static void check_length(const struct saving *s, uint64_t announced, const char *name, struct answer *a) {
    char text[ERROR_TEXT_MAX];
    bool ended = answer_verdict(a) == VERDICT_DONE
                     ? s->at < announced
                     : s->at > 0 && (a->error.code == ERR_UNAVAILABLE || a->error.code == ERR_TIMEOUT);
    if (!ended || s->err) return;
    int n = snprintf(text, sizeof text, "the download of %.120s was broken off after %llu", name,
                     (unsigned long long)s->at);
    if (announced) n += snprintf(text + n, sizeof text - (size_t)n, " of %llu", (unsigned long long)announced);
    snprintf(text + n, sizeof text - (size_t)n, " bytes");
    answer_release(a);
    answer_none(a, ERR_UNAVAILABLE, text);
}

static enum err keep(struct saving *s, const char *part, const char *name, struct error *e) {
    enum err err = s->io->v->datasync(s->io, s->fd);
    if (!err) err = s->io->v->rename(s->io, part, name);
    if (!err) err = s->io->v->sync_dir(s->io, "");
    return err ? error_set(e, err, "cannot save %.160s: %s", name, err_text(err)) : ERR_OK;
}

enum err media_download(struct web *h, struct io *downloads, const char *message_id, const char *name,
                        const struct media_announced *announced, web_progress_fn *progress, void *arg, struct answer *a,
                        struct error *e) {
    char path[128], part[MEDIA_NAME_MAX + 8];
    snprintf(path, sizeof path, "/message/%.36s/media", message_id);
    snprintf(part, sizeof part, "%s.part", name);
    struct saving s = {.io = downloads};
    enum err err = downloads->v->open(downloads, part, IO_READ | IO_WRITE | IO_CREATE, &s.fd);
    if (!err) err = downloads->v->truncate(downloads, s.fd, 0);
    if (err) {
        answer_none(a, err, "cannot write into the downloads directory");
        return error_set(e, err, "cannot write %.160s: %s", part, err_text(err));
    }
    crypto_hash_sha256_init(&s.hash);
    web_download(h, path, save, &s, progress, arg, a);
    check_length(&s, announced->bytes, name, a);
    if (s.err) err = error_set(e, s.err, "cannot save %.160s: %s", name, err_text(s.err));
    else if (answer_verdict(a) == VERDICT_DONE && !(err = check_digest(&s, announced->sha256, e)))
        err = keep(&s, part, name, e);
    downloads->v->close(downloads, s.fd);
    if (err || answer_verdict(a) != VERDICT_DONE) downloads->v->remove(downloads, part);
    return err;
}
