// Carrying the write-ahead log back into the database, without making anyone wait for it.
//
//   log grows past SOFT   the checkpoint thread copies its pages into the database beside the writer, and again
//                         after every STEP
//   past HARD             it never caught up with a busy writer: the writer copies the little that is left
//                         itself, after which the log begins again from its start
//   quiet for a while     all of it is copied and the log is emptied: what was deleted is then nowhere
//
// SQLite's own automatic checkpoint is off: it runs inside the commit, in front of everybody's answer, and it
// says nothing about a failed sync, which must end the process (sqlite_fail).
#include "database/sqlite.h"

#include "base/assert.h"
#include "base/log.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <uv.h>

#define SOFT_PAGES 2000 // 8 MiB
#define HARD_PAGES 8000 // 32 MiB: with WAL_FILE_LIMIT the file keeps its blocks and grows no more
#define STEP_PAGES 1000
#define QUIET_NS   (2 * 1000000000ull)

struct sqlite_checkpointer {
    sqlite3 *handle;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool wanted, running, dirty, stop;
    uint64_t commits; // counted up at every commit, to notice quiet
    // Private to the writer's thread: how large the log was, and what size calls for the next step.
    int seen_pages, next_soft, next_hard;
};

static bool checkpoint(sqlite3 *handle, int mode) {
    int rc = sqlite3_wal_checkpoint_v2(handle, NULL, mode, NULL, NULL);
    if (rc == SQLITE_OK) return true;
    struct error e = {0};
    enum err err = sqlite_fail(handle, "checkpointing", &e);
    if (err != ERR_BUSY) log_text(LOG_WARN, "checkpoint_failed", "%s", e.text);
    return false;
}

// Waits for work. Returns false when it is the quiet that woke it, not a wish.
static bool wait_for_wish(struct sqlite_checkpointer *c) {
    while (!c->wanted && !c->stop) {
        if (!c->dirty) {
            pthread_cond_wait(&c->wake, &c->mutex);
            continue;
        }
        uint64_t before = c->commits, until = uv_hrtime() + QUIET_NS;
        struct timespec ts = {.tv_sec = (time_t)(until / 1000000000), .tv_nsec = (long)(until % 1000000000)};
        pthread_cond_timedwait(&c->wake, &c->mutex, &ts);
        if (!c->wanted && !c->stop && c->commits == before && uv_hrtime() >= until) return false;
    }
    return true;
}

static void *checkpoint_main(void *arg) {
    struct sqlite_checkpointer *c = arg;
    pthread_mutex_lock(&c->mutex);
    while (!c->stop) {
        bool wish = wait_for_wish(c);
        if (c->stop) break;
        uint64_t before = c->commits;
        c->wanted = false;
        c->running = true;
        pthread_mutex_unlock(&c->mutex);
        bool done = checkpoint(c->handle, wish ? SQLITE_CHECKPOINT_PASSIVE : SQLITE_CHECKPOINT_TRUNCATE);
        pthread_mutex_lock(&c->mutex);
        c->running = false;
        if (done && !wish && c->commits == before) c->dirty = false;
    }
    pthread_mutex_unlock(&c->mutex);
    return NULL;
}

enum err sqlite_checkpointer_new(const char *path, struct sqlite_checkpointer **out, struct error *e) {
    struct sqlite_checkpointer *c = calloc(1, sizeof *c);
    if (!c) return error_set(e, ERR_NOMEM, "no memory for the database");
    int rc =
        sqlite3_open_v2(path, &c->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(c->handle, "PRAGMA synchronous=FULL; PRAGMA mmap_size=0; PRAGMA journal_size_limit=67108864;",
                          NULL, NULL, NULL);
    if (rc != SQLITE_OK) {
        enum err err = error_set(e, ERR_DATABASE, "%s: %s", path, sqlite3_errstr(rc));
        sqlite3_close(c->handle);
        free(c);
        return err;
    }
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC); // the clock of uv_hrtime
    pthread_cond_init(&c->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&c->mutex, NULL);
    if (pthread_create(&c->thread, NULL, checkpoint_main, c)) die("no thread for the database");
    *out = c;
    return ERR_OK;
}

void sqlite_checkpointer_free(struct sqlite_checkpointer *c) {
    if (!c) return;
    pthread_mutex_lock(&c->mutex);
    c->stop = true;
    pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->mutex);
    pthread_join(c->thread, NULL);
    pthread_cond_destroy(&c->wake);
    pthread_mutex_destroy(&c->mutex);
    sqlite3_close(c->handle);
    free(c);
}

void sqlite_checkpointer_committed(struct sqlite_checkpointer *c, struct sqlite_db *writer) {
    int pages = writer->wal_pages;
    if (pages < c->seen_pages || !c->next_soft) { // the log has begun again
        c->next_soft = SOFT_PAGES;
        c->next_hard = HARD_PAGES;
    }
    c->seen_pages = pages;
    bool soft = pages >= c->next_soft, hard = pages >= c->next_hard;
    if (soft) c->next_soft = pages + STEP_PAGES;
    pthread_mutex_lock(&c->mutex);
    c->commits++;
    bool running = c->running, first = !c->dirty;
    c->dirty = true;
    if (soft && !hard) c->wanted = true;
    if (first || c->wanted) pthread_cond_signal(&c->wake);
    pthread_mutex_unlock(&c->mutex);
    if (!hard || running) return;
    checkpoint(writer->handle, SQLITE_CHECKPOINT_PASSIVE);
    c->next_hard = pages + STEP_PAGES; // a reader may hold on to the old log for a moment
}
