#include "chat/passwords.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT_ONCE     2
#define WAITING_MAX 64
#define OPS         2
#define MEMORY      ((size_t)19 * 1024 * 1024)

// Of a random password nobody has kept: what an unknown user's attempt is compared with.
#define NOBODY "$argon2id$v=19$m=19456,t=2,p=1$ji87O7FVC97SLj5hxBDnXw$igFWxD8J55Q2BMT8PyfcY0W7SXFtLlaiyp/XqA/w75w"

struct job {
    struct loop_work work;
    struct list_node node;
    struct chat *chat;
    password_fn *done;
    void *arg;
    bool verify, known, ok;
    char hash[PASSWORD_HASH];
    char password[PASSWORD_MAX + 1];
};
struct passwords {
    struct chat *chat;
    struct list waiting;
    uint32_t running, waiting_count;
};

static void job_free(struct job *j) {
    sodium_memzero(j, sizeof *j);
    free(j);
}

struct passwords *passwords_new(struct chat *c) {
    struct passwords *p = chat_alloc(sizeof *p);
    p->chat = c;
    list_init(&p->waiting);
    return p;
}

void passwords_free(struct passwords *p) {
    struct list_node *at;
    while ((at = list_pop_front(&p->waiting)) != NULL) {
        struct job *j = LIST_ITEM(at, struct job, node);
        j->done(j->arg, false, NULL);
        job_free(j);
    }
    free(p);
}

static void job_work(struct loop_work *w) {
    struct job *j = LIST_ITEM(w, struct job, work);
    size_t n = strlen(j->password);
    if (j->verify) j->ok = crypto_pwhash_str_verify(j->hash, j->password, n) == 0 && j->known;
    else j->ok = crypto_pwhash_str(j->hash, j->password, n, OPS, MEMORY) == 0;
}

static void next(struct passwords *p);

static void job_done(struct loop_work *w) {
    struct job *j = LIST_ITEM(w, struct job, work);
    struct chat *c = j->chat;
    if (!c->closing) {
        c->passwords->running--;
        next(c->passwords);
    }
    // Also when closing: what waits for the password must be let go of.
    j->done(j->arg, j->ok, j->ok && !j->verify ? j->hash : NULL);
    job_free(j);
    chat_leave(c);
}

static void next(struct passwords *p) {
    if (p->running >= AT_ONCE || list_empty(&p->waiting)) return;
    struct job *j = LIST_ITEM(list_pop_front(&p->waiting), struct job, node);
    p->waiting_count--;
    p->running++;
    chat_enter(p->chat);
    loop_work(p->chat->loop, &j->work);
}

static enum err job_start(struct passwords *p, struct job *j, const char *password, password_fn *done, void *arg) {
    if (p->waiting_count >= WAITING_MAX) {
        job_free(j);
        return ERR_BUSY;
    }
    snprintf(j->password, sizeof j->password, "%s", password);
    j->work.work = job_work;
    j->work.done = job_done;
    j->chat = p->chat;
    j->done = done;
    j->arg = arg;
    list_push_back(&p->waiting, &j->node);
    p->waiting_count++;
    next(p);
    return ERR_OK;
}

enum err password_make(struct passwords *p, const char *password, password_fn *done, void *arg) {
    return job_start(p, chat_alloc(sizeof(struct job)), password, done, arg);
}

enum err password_verify(struct passwords *p, const char *password, const char *hash, password_fn *done, void *arg) {
    struct job *j = chat_alloc(sizeof *j);
    j->verify = true;
    j->known = hash != NULL;
    snprintf(j->hash, sizeof j->hash, "%s", hash != NULL ? hash : NOBODY);
    return job_start(p, j, password, done, arg);
}
