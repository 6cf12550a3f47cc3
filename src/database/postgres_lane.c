// A connection that runs units one after the other, and what happens when one fails for a reason that passes.
//
// It connects when it has something to do, and again when the connection was lost; a unit whose commit had not been
// sent then runs again. While the server is away units fail at once; the keeper (postgres_listen.c) finds out when it
// is back.
#include "database/postgres_lane.h"

#include "base/log.h"
#include "database/postgres.h"

#include <time.h>

#define RUNS_MAX       5
#define AGAIN_FIRST_MS 5

// ---- connections

static enum err connect_lane(struct postgres_lane *l, struct error *e) {
    struct postgres_shared *shared = l->shared;
    struct db *db = NULL;
    if (l->db) return ERR_OK;
    if (postgres_health_is_away(&shared->health)) return error_set(e, ERR_UNAVAILABLE, "PostgreSQL is not reachable");
    enum err err = postgres_driver.open(&shared->options, l->role, false, &db, e);
    if (err) {
        postgres_health_failed(&shared->health, e);
        return e->code = ERR_UNAVAILABLE; // whatever the reason, it is nothing the unit could help
    }
    postgres_health_connected(&shared->health);
    l->db = (struct postgres_db *)db;
    pthread_mutex_lock(&shared->mutex);
    l->connected = true;
    l->db->unnamed = shared->unnamed;
    pthread_mutex_unlock(&shared->mutex);
    return ERR_OK;
}

void postgres_lane_disconnect(struct postgres_lane *l) {
    if (!l->db) return;
    postgres_driver.close(&l->db->base);
    l->db = NULL;
    pthread_mutex_lock(&l->shared->mutex);
    l->connected = false;
    pthread_mutex_unlock(&l->shared->mutex);
}

// What one connection has found out about statements, the others need not find out for themselves.
static void learn_unnamed(struct postgres_lane *l) {
    struct postgres_shared *shared = l->shared;
    if (!l->db || !l->db->unnamed) return;
    pthread_mutex_lock(&shared->mutex);
    bool first = !shared->unnamed;
    shared->unnamed = true;
    pthread_mutex_unlock(&shared->mutex);
    if (first)
        log_text(LOG_WARN, "database_pooler",
                 "prepared statements do not survive: a pooler stands between; statements are "
                 "parsed every time from now on");
}

// ---- a unit

static enum err run_once(struct db *db, struct db_unit *u, unsigned *commits) {
    struct postgres_db *mine = (struct postgres_db *)db;
    u->error = (struct error){0};
    db->error = &u->error;
    enum err err = db->driver->begin(db, &u->error);
    if (!err) err = u->run(db, u);
    if (!err && mine->failed.code) err = mine->failed.code; // it went on after an error: nothing can be committed
    db->driver->end_unit(db);
    bool writes = mine->begin_sent || mine->requested;
    if (!err) err = db->driver->commit(db, &u->error);
    if (!err) {
        *commits = writes && !u->read_only;
        return ERR_OK;
    }
    if (mine->failed.code == err && u->error.code != err) u->error = mine->failed;
    db->driver->rollback(db);
    return err;
}

static void wait_ms(uint32_t ms) {
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

static enum err uncertain(struct db_unit *u) {
    return error_set(&u->error, ERR_UNAVAILABLE,
                     "the connection to PostgreSQL was lost during the commit: it may have been stored or not");
}

enum err postgres_lane_run(struct postgres_lane *l, struct db_unit *u, unsigned *commits) {
    for (unsigned run = 1;; run++) {
        enum err err = connect_lane(l, &u->error);
        if (err) return err;
        err = run_once(&l->db->base, u, commits);
        learn_unnamed(l);
        enum postgres_fate fate = err ? l->db->fate : FATE_SURE;
        bool sent = l->db->commit_sent;
        if (fate == FATE_LOST) postgres_lane_disconnect(l);
        if (fate == FATE_LOST && sent) return uncertain(u);
        if (fate == FATE_SURE || run == RUNS_MAX || (u->once && fate == FATE_AGAIN)) return err;
        pthread_mutex_lock(&l->shared->mutex);
        l->shared->again++;
        pthread_mutex_unlock(&l->shared->mutex);
        if (run > 1 || fate == FATE_AGAIN) wait_ms(postgres_jitter(AGAIN_FIRST_MS << (2 * (run - 1))));
    }
}
