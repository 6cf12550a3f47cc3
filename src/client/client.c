#include "client/client.h"

#include "base/io.h"
#include "client/outgoing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

static enum err open_store(struct client *c, struct error *e) {
    int fd;
    // Made here first because io's files are for their owner's eyes only, and SQLite would ask the umask.
    enum err err = c->io->v->open(c->io, "client.db", IO_READ | IO_WRITE | IO_CREATE, &fd);
    if (err) return error_set(e, err, "cannot open %.150s/client.db: %s", c->profile.dir, err_text(err));
    c->io->v->close(c->io, fd);
    char path[PROFILE_PATH_MAX + 16];
    snprintf(path, sizeof path, "%s/client.db", c->profile.dir);
    return store_open(&c->store, path, e);
}

enum err client_make(struct client *c, struct error *e) {
    if (c->store) return ERR_OK;
    enum err err = io_os_new(&c->io, c->profile.dir, e);
    return err ? err : open_store(c, e);
}

enum err client_open(struct client *c, const char *server, const char *user, struct error *e) {
    memset(c, 0, sizeof *c);
    enum err err = profile_find(&c->profile, server, user, false, e);
    if (!err) err = client_make(c, e);
    if (!err) err = store_account(c->store, &c->account, e);
    if (err) return err;
    outgoing_sweep(c);
    c->web = web_new(c->profile.server, c->account.token, NULL);
    return ERR_OK;
}

enum err client_begin(struct client *c, const char *server, const char *user, struct error *e) {
    enum err err = client_open(c, server, user, e);
    if (err != ERR_NOT_FOUND) return err;
    client_release(c);
    err = profile_find(&c->profile, server, user, true, e);
    if (!err) c->web = web_new(c->profile.server, NULL, NULL);
    return err;
}

void client_release(struct client *c) {
    web_free(c->web);
    store_close(c->store);
    io_os_free(c->io);
    explicit_bzero(c, sizeof *c);
}

enum err client_need_login(const struct client *c, struct error *e) {
    if (*c->account.token) return ERR_OK;
    return error_set(e, ERR_UNAUTHORIZED, "%.64s is not logged in; `barid login %.64s` does", c->profile.user_id,
                     c->profile.user_id);
}

uint64_t client_now_ms(const struct client *c) { return io_monotonic_ns(c->io) / 1000000; }
void client_sleep(uint32_t ms) { uv_sleep(ms); }

enum err client_call(struct client *c, const char *method, const char *path, const json_t *body, uint64_t deadline_ms,
                     struct answer *a, struct error *e) {
    for (uint32_t attempts = 1;; attempts++) {
        web_call(c->web, method, path, body, a);
        enum verdict verdict = answer_verdict(a);
        if (verdict == VERDICT_DONE) return ERR_OK;
        uint64_t now = client_now_ms(c);
        uint32_t delay = answer_delay(a, c->io, attempts);
        if (verdict != VERDICT_LATER || now + delay >= deadline_ms) {
            if (e) *e = a->error;
            return a->error.code;
        }
        answer_release(a);
        client_sleep(delay);
    }
}

enum err client_learn_conversation(struct client *c, const json_t *conversation, struct error *e) {
    const char *id = member_text(conversation, "conversation_id", "");
    const json_t *members = json_object_get(conversation, "members");
    if (!name_valid(id, strlen(id)) || !json_is_array(members)) return ERR_OK;
    char *text = json_dumps(members, JSON_COMPACT);
    if (!text) return error_set(e, ERR_NOMEM, "out of memory");
    enum err err = store_conversation_set(c->store, id, member_text(conversation, "title", ""), text, true, e);
    free(text);
    return err;
}

enum err client_lock(struct client *c, const char *conversation_id, int *fd, struct error *e) {
    char path[IO_NAME_MAX];
    snprintf(path, sizeof path, "locks/%s", conversation_id);
    enum err err = c->io->v->make_dir(c->io, "locks");
    if (!err) err = c->io->v->open(c->io, path, IO_READ | IO_WRITE | IO_CREATE, fd);
    if (err) return error_set(e, err, "cannot open %.150s/%.80s: %s", c->profile.dir, path, err_text(err));
    err = c->io->v->lock(c->io, *fd);
    if (!err) return ERR_OK;
    c->io->v->close(c->io, *fd);
    return error_set(e, err, "another process is sending in %.64s", conversation_id);
}

void client_unlock(struct client *c, int fd) { c->io->v->close(c->io, fd); }
