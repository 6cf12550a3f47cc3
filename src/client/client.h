// An opened profile: what every command of the client works with. Plain fields; used by one thread.
#ifndef BARID_CLIENT_CLIENT_H
#define BARID_CLIENT_CLIENT_H

#include "client/answer.h"
#include "client/profile.h"
#include "client/store.h"
#include "client/web.h"

struct io;

struct client {
    struct profile profile;
    struct account account; // as it was when opened or last logged in
    struct io *io;          // rooted at the profile's directory
    struct store *store;
    struct web *web;
};

// The profile of somebody who has logged in; `user` NULL: the only one there is. Release also what could not be opened
// whole.
enum err client_open(struct client *c, const char *server, const char *user, struct error *e);
// For logging in: where there is no profile yet none is made (store and io are NULL) before client_make.
enum err client_begin(struct client *c, const char *server, const char *user, struct error *e);
enum err client_make(struct client *c, struct error *e);
void client_release(struct client *c);
// ERR_UNAUTHORIZED with a sentence that says what to do, unless logged in.
enum err client_need_login(const struct client *c, struct error *e);

// A call that may be repeated: tried again with full jitter until it is answered for good or `deadline_ms` (of
// client_now_ms) has passed. ERR_OK when the answer is 2xx, else the answer's error.
enum err client_call(struct client *c, const char *method, const char *path, const json_t *body, uint64_t deadline_ms,
                     struct answer *a, struct error *e);
uint64_t client_now_ms(const struct client *c); // monotonic
void client_sleep(uint32_t ms);

// Remember who is in the conversation, from the service's answer about it.
enum err client_learn_conversation(struct client *c, const json_t *conversation, struct error *e);

// The lock on a conversation's outbox. ERR_LOCKED: another process of this profile is sending it.
enum err client_lock(struct client *c, const char *conversation_id, int *fd, struct error *e);
void client_unlock(struct client *c, int fd);

#endif
