#include "client/profile.h"

#include "base/io.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum err profile_server(const char *url, char *out, size_t size, struct error *e) {
    const char *host = !strncmp(url, "http://", 7) ? url + 7 : !strncmp(url, "https://", 8) ? url + 8 : NULL;
    size_t n = strlen(url);
    while (n > 0 && url[n - 1] == '/') n--;
    if (!host || url + n <= host || memchr(host, '/', (size_t)(url + n - host)) || n >= size ||
        strpbrk(url, "?#@ \t\r\n"))
        return error_field(e, "server", "'%.100s' is not of the form http://host:port", url);
    memcpy(out, url, n);
    out[n] = 0;
    return ERR_OK;
}

static enum err find_home(char *out, size_t size, struct error *e) {
    const char *home = getenv("BARID_HOME");
    int n;
    if (home && *home) n = snprintf(out, size, "%s", home);
    else if ((home = getenv("HOME")) && *home) n = snprintf(out, size, "%s/.local/share/barid", home);
    else return error_set(e, ERR_INVALID, "neither BARID_HOME nor HOME is set: no place for the local store");
    if (n < 0 || (size_t)n >= size) return error_set(e, ERR_TOO_LARGE, "BARID_HOME is too long");
    return ERR_OK;
}

// "@127.0.0.1_8080", "@https_example.org": the part of a profile's name that stands for the server. A token that
// came over TLS must not be sent in the clear.
static void server_suffix(const char *server, char *out, size_t size) {
    snprintf(out, size, "@%s%.200s", !strncmp(server, "https:", 6) ? "https_" : "", strstr(server, "//") + 2);
    for (char *c = out + 1; *c; c++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-", *c)) *c = '_';
}

struct search {
    struct io *io;
    const char *suffix;
    char found[NAME_MAX_LENGTH + 1]; // the last one
    char names[160];                 // all, as far as they fit
    int count;
};

static void consider(void *arg, const char *name) {
    struct search *s = arg;
    size_t n = strlen(name), tail = strlen(s->suffix);
    if (n <= tail || strcmp(name + n - tail, s->suffix) != 0 || !name_valid(name, n - tail)) return;
    char path[IO_NAME_MAX + 16];
    int fd;
    snprintf(path, sizeof path, "%.255s/client.db", name);
    if (s->io->v->open(s->io, path, IO_READ, &fd)) return;
    s->io->v->close(s->io, fd);
    snprintf(s->found, sizeof s->found, "%.*s", (int)(n - tail), name);
    size_t at = strlen(s->names);
    snprintf(s->names + at, sizeof s->names - at, "%s%s", s->count ? ", " : "", s->found);
    s->count++;
}

static enum err only_profile(const char *home, const char *suffix, struct profile *out, struct error *e) {
    struct search s = {.suffix = suffix};
    enum err err = io_os_new(&s.io, home, e);
    if (err) return err;
    s.io->v->list(s.io, "", consider, &s);
    io_os_free(s.io);
    if (s.count == 0)
        return error_set(e, ERR_NOT_FOUND, "nobody has logged in to %.100s here; `barid login NAME` does", out->server);
    if (s.count > 1)
        return error_set(e, ERR_CONFLICT, "several users are here (%.120s): say which with --as or BARID_USER",
                         s.names);
    snprintf(out->user_id, sizeof out->user_id, "%s", s.found);
    return ERR_OK;
}

static bool profile_exists(const char *home, const char *name, struct error *e) {
    struct io *io;
    if (io_os_new(&io, home, e)) return false;
    char path[IO_NAME_MAX + 16];
    int fd;
    snprintf(path, sizeof path, "%.255s/client.db", name);
    bool there = !io->v->open(io, path, IO_READ, &fd);
    if (there) io->v->close(io, fd);
    io_os_free(io);
    return there;
}

enum err profile_find(struct profile *out, const char *url, const char *user, bool make, struct error *e) {
    memset(out, 0, sizeof *out);
    char home[PROFILE_PATH_MAX / 2], suffix[256], name[IO_NAME_MAX];
    enum err err = profile_server(url, out->server, sizeof out->server, e);
    if (!err) err = find_home(home, sizeof home, e);
    if (err) return err;
    server_suffix(out->server, suffix, sizeof suffix);
    if (user && !name_valid(user, strlen(user)))
        return error_field(e, "user_id", "'%.64s' is no user's name: a-z, 0-9, '.', '_', '-', at most 64", user);
    if (user) snprintf(out->user_id, sizeof out->user_id, "%s", user);
    else if ((err = only_profile(home, suffix, out, e))) return err;
    int n = snprintf(name, sizeof name, "%s%s", out->user_id, suffix);
    if (n < 0 || (size_t)n >= sizeof name) return error_field(e, "server", "the server's name is too long");
    if (!make && !profile_exists(home, name, e))
        return error_set(e, ERR_NOT_FOUND, "%.64s has not logged in to %.100s here; `barid login %.64s` does",
                         out->user_id, out->server, out->user_id);
    snprintf(out->dir, sizeof out->dir, "%s/%s", home, name);
    return ERR_OK;
}
