// argon2id takes 19 MiB for tens of milliseconds a time, so few run at once and the others wait. Who bounds how many
// wait is who submits them: log-ins (login.c) and changes (change.c), which take turns so that neither starves.
#include "access/internal.h"

#include <sodium.h>
#include <stdlib.h>

#define AT_ONCE 2

struct hasher {
    struct list waiting[2]; // [verify]
    uint32_t running;
    bool turn; // of log-ins
};

struct hasher *hasher_new(void) {
    struct hasher *h = access_alloc(sizeof *h);
    list_init(&h->waiting[0]);
    list_init(&h->waiting[1]);
    return h;
}

static void job_work(struct loop_work *w) {
    struct hash_job *j = LIST_ITEM(w, struct hash_job, work);
    j->ok = j->verify ? hash_verify(j->algorithm, j->hash, j->password) : hash_make(j->password, j->made);
}

static void next(struct access *a);

static void job_done(struct loop_work *w) {
    struct hash_job *j = LIST_ITEM(w, struct hash_job, work);
    struct access *a = j->access;
    if (!a->closing) {
        a->hasher->running--;
        next(a);
    }
    j->done(j);
    access_leave(a);
}

static void next(struct access *a) {
    struct hasher *h = a->hasher;
    if (h->running >= AT_ONCE) return;
    h->turn = !h->turn;
    struct list_node *at = list_pop_front(&h->waiting[h->turn]);
    if (at == NULL) at = list_pop_front(&h->waiting[!h->turn]);
    if (at == NULL) return;
    h->running++;
    access_enter(a);
    loop_work(a->o.loop, &LIST_ITEM(at, struct hash_job, node)->work);
}

void hasher_submit(struct access *a, struct hash_job *j) {
    j->access = a;
    j->work.work = job_work;
    j->work.done = job_done;
    list_push_back(&a->hasher->waiting[j->verify], &j->node);
    next(a);
}

void hasher_free(struct access *a) {
    struct list_node *at;
    for (int i = 0; i < 2; i++)
        while ((at = list_pop_front(&a->hasher->waiting[i])) != NULL) {
            struct hash_job *j = LIST_ITEM(at, struct hash_job, node);
            j->ok = false;
            j->done(j);
        }
    free(a->hasher);
    a->hasher = NULL;
}
