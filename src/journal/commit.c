// The commit thread. The loop thread takes a batch from the journal and leaves it here; the thread writes and
// syncs it and posts it back.
//
//   loop:    append … append │ before it blocks: begin ─┐        ┌─> end, begin the next, durable(arg)
//   thread:                                             └ write, sync ┘
//
// Chores (the next segment, deleting) go the same way to a thread of their own: freeing the pages of one large file
// takes as long as a hundred syncs, and no batch should wait for that.
#include "journal/commit.h"

#include "base/assert.h"
#include "base/crash.h"
#include "base/list.h"
#include "base/loop.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#define AT_ONCE_BYTES (1u << 20) // with so much appended the disk need not wait for the end of the iteration

struct commit {
    struct loop *loop;
    struct journal *j;
    void (*durable)(void *arg);
    void *arg;

    pthread_t batches, chores;
    pthread_mutex_t lock; // guards the next three
    pthread_cond_t wake;  // either thread
    struct journal_batch *batch;
    struct journal_chore *chore;
    bool stop;

    // The loop thread's.
    struct journal_batch *batch_out;
    struct journal_chore *chore_out;
    struct loop_post batch_done, chore_done;
    struct loop_idle idle;
    jpos begun; // appended when the last batch was begun
    bool closed;
};

// --- on the two threads ---

static void write_batch(struct commit *c, struct journal_batch *b) {
    struct error e = {0};
    if (journal_batch_write(b, &e) != ERR_OK) die("the journal: %s", e.text);
    crash_point("journal.synced");
    loop_post(c->loop, &c->batch_done);
}

static void run_chore(struct commit *c, struct journal_chore *chore) {
    struct error e = {0};
    if (journal_chore_run(chore, &e) != ERR_OK) die("the journal: %s", e.text);
    loop_post(c->loop, &c->chore_done);
}

static struct journal_batch *await_batch(struct commit *c) {
    pthread_mutex_lock(&c->lock);
    while (c->batch == NULL && !c->stop) pthread_cond_wait(&c->wake, &c->lock);
    struct journal_batch *b = c->batch;
    c->batch = NULL;
    pthread_mutex_unlock(&c->lock);
    return b;
}

static struct journal_chore *await_chore(struct commit *c) {
    pthread_mutex_lock(&c->lock);
    while (c->chore == NULL && !c->stop) pthread_cond_wait(&c->wake, &c->lock);
    struct journal_chore *chore = c->chore;
    c->chore = NULL;
    pthread_mutex_unlock(&c->lock);
    return chore;
}

static void *batches_main(void *arg) {
    for (struct journal_batch *b; (b = await_batch(arg)) != NULL;) write_batch(arg, b);
    return NULL;
}

static void *chores_main(void *arg) {
    for (struct journal_chore *chore; (chore = await_chore(arg)) != NULL;) run_chore(arg, chore);
    return NULL;
}

// --- on the loop thread ---

static void hand_over(struct commit *c, struct journal_batch *b, struct journal_chore *chore) {
    pthread_mutex_lock(&c->lock);
    if (b != NULL) c->batch = b;
    if (chore != NULL) c->chore = chore;
    pthread_cond_broadcast(&c->wake);
    pthread_mutex_unlock(&c->lock);
}

static void start(struct commit *c) {
    if (c->batch_out != NULL) return;
    struct journal_batch *b = journal_batch_begin(c->j);
    if (b == NULL) return;
    c->batch_out = b;
    c->begun = journal_appended(c->j);
    hand_over(c, b, NULL);
}

static void start_chore(struct commit *c) {
    if (c->chore_out != NULL) return;
    c->chore_out = journal_chore_begin(c->j);
    if (c->chore_out != NULL) hand_over(c, NULL, c->chore_out);
}

static void commit_release(struct commit *c) {
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->wake);
    free(c);
}

// What a post of a closed commit still has to do: be the last one and free it.
static void drop_if_last(struct commit *c) {
    if (!c->batch_done.posted && !c->chore_done.posted) commit_release(c);
}

static void end_batch(struct commit *c) {
    struct journal_batch *b = c->batch_out;
    c->batch_out = NULL;
    journal_batch_end(c->j, b);
}

static void end_chore(struct commit *c) {
    struct journal_chore *chore = c->chore_out;
    c->chore_out = NULL;
    journal_chore_end(c->j, chore);
}

static void on_batch_done(struct loop_post *p) {
    struct commit *c = LIST_ITEM(p, struct commit, batch_done);
    if (c->closed) {
        drop_if_last(c);
        return;
    }
    end_batch(c);
    start(c); // the disk goes on while the callbacks run
    start_chore(c);
    c->durable(c->arg);
}

static void on_chore_done(struct loop_post *p) {
    struct commit *c = LIST_ITEM(p, struct commit, chore_done);
    if (c->closed) drop_if_last(c);
    else end_chore(c);
}

// What was released may need no record, so no batch comes behind which its segments could go.
static void before_block(struct loop_idle *i) {
    struct commit *c = LIST_ITEM(i, struct commit, idle);
    start(c);
    if (c->batch_out == NULL) start_chore(c);
}

static bool start_thread(pthread_t *out, void *(*run)(void *), struct commit *c, const char *name) {
    sigset_t all, before;
    sigfillset(&all); // signals are the loop thread's
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(out, NULL, run, c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0) pthread_setname_np(*out, name);
    return rc == 0;
}

static void stop_threads(struct commit *c, bool chores) {
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_broadcast(&c->wake);
    pthread_mutex_unlock(&c->lock);
    pthread_join(c->batches, NULL);
    if (chores) pthread_join(c->chores, NULL);
}

static bool start_threads(struct commit *c) {
    if (!start_thread(&c->batches, batches_main, c, "barid-journal")) return false;
    if (start_thread(&c->chores, chores_main, c, "barid-chores")) return true;
    stop_threads(c, false);
    return false;
}

enum err commit_new(struct commit **out, struct loop *loop, struct journal *j, void (*durable)(void *arg), void *arg,
                    struct error *e) {
    struct commit *c = calloc(1, sizeof *c);
    if (c == NULL) return error_set(e, ERR_NOMEM, "out of memory");
    c->loop = loop;
    c->j = j;
    c->durable = durable;
    c->arg = arg;
    c->batch_done.fn = on_batch_done;
    c->chore_done.fn = on_chore_done;
    c->idle.fn = before_block;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->wake, NULL);
    if (!start_threads(c)) {
        commit_release(c);
        return error_set(e, ERR_LIMIT, "cannot start the commit thread");
    }
    journal_background(j, true);
    loop_before_block(loop, &c->idle);
    *out = c;
    return ERR_OK;
}

void commit_kick(struct commit *c) {
    if (journal_appended(c->j) - c->begun >= AT_ONCE_BYTES) start(c);
}

static void write_rest(struct commit *c) {
    struct journal_batch *b;
    while ((b = journal_batch_begin(c->j)) != NULL) {
        struct error e = {0};
        if (journal_batch_write(b, &e) != ERR_OK) die("the journal: %s", e.text);
        journal_batch_end(c->j, b);
    }
}

void commit_free(struct commit *c) {
    if (c == NULL) return;
    stop_threads(c, true);
    if (c->batch_out != NULL) end_batch(c);
    if (c->chore_out != NULL) end_chore(c);
    journal_background(c->j, false);
    write_rest(c);
    loop_before_block_end(c->loop, &c->idle);
    c->closed = true;
    drop_if_last(c);
}
