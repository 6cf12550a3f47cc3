// The lanes: which connection runs which unit, and what happens when it fails for a reason that passes.
//
// A lane connects when it has something to do, and again when its connection was lost; a unit whose commit had not been
// sent then runs again. While the server is away units fail at once; the keeper (postgres_listen.c) finds out when it
// is back.
#include "database/postgres_pool.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/loop.h"
#include "database/postgres.h"
#include "database/postgres_health.h"
#include "database/postgres_listen.h"
#include "database/unit_list.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEFAULT_CONNECTIONS 8
#define MOST_CONNECTIONS    256
#define FEWEST_READERS      2
#define RUNS_MAX            5
#define AGAIN_FIRST_MS      5

struct lane {
    struct postgres_pool *pool;
    enum db_role role;
    struct postgres_db *db; // the lane's thread's; NULL: not connected
    pthread_t thread;
    pthread_cond_t wake;
    struct unit_list queue;
    unsigned pending;
    bool connected; // what others know of it
};

// What is posted to the loop; outlives the pool when it is still on its way.
struct relay {
    struct loop_post post;
    struct postgres_pool *pool; // NULL once the pool is gone
};

struct postgres_pool {
    struct loop *loop;
    struct database_options options;
    char *url;
    postgres_pool_done_fn *done;
    void *arg;
    struct relay *relay;
    unsigned writers, readers;
    struct lane *lanes; // the writers, then the readers
    struct postgres_health health;
    struct postgres_listener *listener;

    pthread_mutex_t mutex; // guards what follows, and the lanes' queues
    struct unit_list finished;
    uint64_t again;
    bool posting, stop, unnamed;
};

// ---- connections

static enum err connect_lane(struct lane *l, struct error *e) {
    struct postgres_pool *p = l->pool;
    struct db *db = NULL;
    if (l->db) return ERR_OK;
    if (postgres_health_is_away(&p->health)) return error_set(e, ERR_UNAVAILABLE, "PostgreSQL is not reachable");
    enum err err = postgres_driver.open(&p->options, l->role, false, &db, e);
    if (err) {
        postgres_health_failed(&p->health, e);
        return e->code = ERR_UNAVAILABLE; // whatever the reason, it is nothing the unit could help
    }
    postgres_health_connected(&p->health);
    l->db = (struct postgres_db *)db;
    pthread_mutex_lock(&p->mutex);
    l->connected = true;
    l->db->unnamed = p->unnamed;
    pthread_mutex_unlock(&p->mutex);
    return ERR_OK;
}

static void disconnect_lane(struct lane *l) {
    if (!l->db) return;
    postgres_driver.close(&l->db->base);
    l->db = NULL;
    pthread_mutex_lock(&l->pool->mutex);
    l->connected = false;
    pthread_mutex_unlock(&l->pool->mutex);
}

// What one connection has found out about statements, the others need not find out for themselves.
static void learn_unnamed(struct lane *l) {
    struct postgres_pool *p = l->pool;
    if (!l->db || !l->db->unnamed) return;
    pthread_mutex_lock(&p->mutex);
    bool first = !p->unnamed;
    p->unnamed = true;
    pthread_mutex_unlock(&p->mutex);
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

static void wait_ms(struct lane *l, uint32_t ms) {
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

static enum err uncertain(struct db_unit *u) {
    return error_set(&u->error, ERR_UNAVAILABLE,
                     "the connection to PostgreSQL was lost during the commit: it may have been stored or not");
}

static enum err run_unit(struct lane *l, struct db_unit *u, unsigned *commits) {
    for (unsigned run = 1;; run++) {
        enum err err = connect_lane(l, &u->error);
        if (err) return err;
        err = run_once(&l->db->base, u, commits);
        learn_unnamed(l);
        enum postgres_fate fate = err ? l->db->fate : FATE_SURE;
        bool sent = l->db->commit_sent;
        if (fate == FATE_LOST) disconnect_lane(l);
        if (fate == FATE_LOST && sent) return uncertain(u);
        if (fate == FATE_SURE || run == RUNS_MAX) return err;
        pthread_mutex_lock(&l->pool->mutex);
        l->pool->again++;
        pthread_mutex_unlock(&l->pool->mutex);
        if (run > 1 || fate == FATE_AGAIN) wait_ms(l, postgres_jitter(AGAIN_FIRST_MS << (2 * (run - 1))));
    }
}

static void hand_back(struct postgres_pool *p, struct lane *l, struct db_unit *u) {
    pthread_mutex_lock(&p->mutex);
    list_add(&p->finished, u);
    l->pending--;
    bool post = !p->posting;
    p->posting = true;
    pthread_mutex_unlock(&p->mutex);
    if (post) loop_post(p->loop, &p->relay->post);
}

static void *lane_main(void *arg) {
    struct lane *l = arg;
    struct postgres_pool *p = l->pool;
    for (;;) {
        pthread_mutex_lock(&p->mutex);
        while (!l->queue.head && !p->stop) pthread_cond_wait(&l->wake, &p->mutex);
        struct db_unit *u = l->queue.head ? list_take(&l->queue) : NULL;
        pthread_mutex_unlock(&p->mutex);
        if (!u) break; // stopping, and all is done
        unsigned commits = 0;
        u->result = run_unit(l, u, &commits);
        u->commits = commits;
        if (u->result && u->error.code != u->result) error_set(&u->error, u->result, "%s", err_text(u->result));
        hand_back(p, l, u);
    }
    disconnect_lane(l);
    return NULL;
}

// ---- the loop's side

static void deliver(struct postgres_pool *p) {
    struct unit_list units;
    list_init(&units);
    pthread_mutex_lock(&p->mutex);
    list_move(&units, &p->finished);
    p->posting = false;
    pthread_mutex_unlock(&p->mutex);
    while (units.head) {
        struct db_unit *u = list_take(&units);
        p->done(p->arg, u, u->commits);
    }
}

static void relay_run(struct loop_post *post) {
    struct relay *r = (struct relay *)post;
    if (r->pool) deliver(r->pool);
    else free(r);
}

static void start_lane(struct postgres_pool *p, unsigned i, struct db *first) {
    struct lane *l = &p->lanes[i];
    l->pool = p;
    l->role = i < p->writers ? DB_WRITER : DB_READER;
    l->db = i == 0 ? (struct postgres_db *)first : NULL;
    l->connected = l->db != NULL;
    list_init(&l->queue);
    pthread_cond_init(&l->wake, NULL);
}

struct postgres_pool *postgres_pool_new(struct loop *loop, const struct database_options *o, struct db *first,
                                        postgres_pool_done_fn *done, void *arg) {
    struct postgres_pool *p = calloc(1, sizeof *p);
    struct relay *r = calloc(1, sizeof *r);
    if (!p || !r) die("no memory for the database");
    *r = (struct relay){.post.fn = relay_run, .pool = p};
    *p = (struct postgres_pool){.loop = loop, .options = *o, .done = done, .arg = arg, .relay = r};
    p->options.url = p->url = strdup(o->url);
    p->writers = o->connections ? o->connections : DEFAULT_CONNECTIONS;
    if (p->writers > MOST_CONNECTIONS) p->writers = MOST_CONNECTIONS;
    p->readers = p->writers / 4 > FEWEST_READERS ? p->writers / 4 : FEWEST_READERS;
    p->lanes = calloc(p->writers + p->readers, sizeof *p->lanes);
    if (!p->url || !p->lanes) die("no memory for the database");
    list_init(&p->finished);
    postgres_health_init(&p->health);
    pthread_mutex_init(&p->mutex, NULL);
    p->listener = postgres_listener_new(loop, p->url, &p->health);
    for (unsigned i = 0; i < p->writers + p->readers; i++) start_lane(p, i, first);
    for (unsigned i = 0; i < p->writers + p->readers; i++) {
        if (pthread_create(&p->lanes[i].thread, NULL, lane_main, &p->lanes[i])) die("no thread for the database");
        pthread_setname_np(p->lanes[i].thread, i < p->writers ? "barid-pg-write" : "barid-pg-read");
    }
    return p;
}

// The one with the least to do; the first of these, so that quiet times need few connections. While no new connection
// can be made (too many of them, say) those that stand do the work.
static struct lane *least_busy(struct postgres_pool *p, struct lane *lanes, unsigned n) {
    struct lane *best = NULL;
    bool away = postgres_health_is_away(&p->health);
    for (unsigned i = 0; i < n && (!best || best->pending); i++)
        if ((lanes[i].connected || !away) && (!best || lanes[i].pending < best->pending)) best = &lanes[i];
    return best ? best : &lanes[0];
}

void postgres_pool_push(struct postgres_pool *p, struct db_unit *u) {
    pthread_mutex_lock(&p->mutex);
    struct lane *l;
    if (u->read_only) l = least_busy(p, p->lanes + p->writers, p->readers);
    else if (u->lane) l = &p->lanes[u->lane % p->writers];
    else l = least_busy(p, p->lanes, p->writers);
    list_add(&l->queue, u);
    l->pending++;
    pthread_cond_signal(&l->wake);
    pthread_mutex_unlock(&p->mutex);
}

void postgres_pool_stats(struct postgres_pool *p, struct database_stats *out) {
    pthread_mutex_lock(&p->mutex);
    out->again = p->again;
    out->connected = 0;
    for (unsigned i = 0; i < p->writers + p->readers; i++) out->connected += p->lanes[i].connected;
    pthread_mutex_unlock(&p->mutex);
}

enum err postgres_pool_listen(struct postgres_pool *p, const char *channel, database_notice_fn *fn, void *arg,
                              struct error *e) {
    return postgres_listener_add(p->listener, channel, fn, arg, e);
}

void postgres_pool_unlisten(struct postgres_pool *p, const char *channel, database_notice_fn *fn, void *arg) {
    postgres_listener_remove(p->listener, channel, fn, arg);
}

enum database_notices postgres_pool_notices(const struct postgres_pool *p) {
    return postgres_listener_state(p->listener);
}

void postgres_pool_free(struct postgres_pool *p) {
    pthread_mutex_lock(&p->mutex);
    p->stop = true;
    for (unsigned i = 0; i < p->writers + p->readers; i++) pthread_cond_signal(&p->lanes[i].wake);
    pthread_mutex_unlock(&p->mutex);
    for (unsigned i = 0; i < p->writers + p->readers; i++) pthread_join(p->lanes[i].thread, NULL);
    postgres_listener_free(p->listener);
    bool on_its_way = p->posting;
    deliver(p);
    p->relay->pool = NULL;
    if (!on_its_way) free(p->relay);
    for (unsigned i = 0; i < p->writers + p->readers; i++) pthread_cond_destroy(&p->lanes[i].wake);
    pthread_mutex_destroy(&p->mutex);
    postgres_health_release(&p->health);
    free(p->lanes);
    free(p->url);
    free(p);
}
