// Which connection runs which unit: threads with a queue and a lane each, and what comes back from them.
#include "database/postgres_pool.h"

#include "base/assert.h"
#include "base/loop.h"
#include "database/postgres.h"
#include "database/postgres_lane.h"
#include "database/postgres_listen.h"
#include "database/unit_list.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_CONNECTIONS 8
#define MOST_CONNECTIONS    256
#define FEWEST_READERS      2
#define ORDERS              1024

struct runner {
    struct postgres_pool *pool;
    struct postgres_lane lane;
    pthread_t thread;
    pthread_cond_t wake;
    struct unit_list queue;
    unsigned pending;
};

// Where units of one number go while one of them is under way, so that they stay in order; after that, wherever there
// is least to do. Numbers share a place by their remainder.
struct order {
    struct runner *runner;
    unsigned pending;
};

// What is posted to the loop; outlives the pool when it is still on its way.
struct relay {
    struct loop_post post;
    struct postgres_pool *pool; // NULL once the pool is gone
};

struct postgres_pool {
    struct loop *loop;
    char *url;
    postgres_pool_done_fn *done;
    void *arg;
    struct relay *relay;
    unsigned writers, readers;
    struct runner *runners; // the writers, then the readers
    struct postgres_listener *listener;

    struct postgres_shared shared; // its mutex guards what follows, too, and the queues
    struct unit_list finished;
    struct order orders[ORDERS];
    bool posting, stop;
};

static bool in_order(const struct db_unit *u) { return u->lane && !u->read_only; }

static struct order *order_of(struct postgres_pool *p, const struct db_unit *u) { return &p->orders[u->lane % ORDERS]; }

static void hand_back(struct postgres_pool *p, struct runner *r, struct db_unit *u) {
    pthread_mutex_lock(&p->shared.mutex);
    units_add(&p->finished, u);
    r->pending--;
    if (in_order(u)) order_of(p, u)->pending--;
    bool post = !p->posting;
    p->posting = true;
    pthread_mutex_unlock(&p->shared.mutex);
    if (post) loop_post(p->loop, &p->relay->post);
}

static void *runner_main(void *arg) {
    struct runner *r = arg;
    struct postgres_pool *p = r->pool;
    for (;;) {
        pthread_mutex_lock(&p->shared.mutex);
        while (!r->queue.head && !p->stop) pthread_cond_wait(&r->wake, &p->shared.mutex);
        struct db_unit *u = r->queue.head ? units_take(&r->queue) : NULL;
        pthread_mutex_unlock(&p->shared.mutex);
        if (!u) break; // stopping, and all is done
        unsigned commits = 0;
        u->result = postgres_lane_run(&r->lane, u, &commits);
        u->commits = commits;
        if (u->result && u->error.code != u->result) error_set(&u->error, u->result, "%s", err_text(u->result));
        hand_back(p, r, u);
    }
    postgres_lane_disconnect(&r->lane);
    return NULL;
}

// ---- the loop's side

static void deliver(struct postgres_pool *p) {
    struct unit_list units;
    units_init(&units);
    pthread_mutex_lock(&p->shared.mutex);
    units_move(&units, &p->finished);
    p->posting = false;
    pthread_mutex_unlock(&p->shared.mutex);
    while (units.head) {
        struct db_unit *u = units_take(&units);
        p->done(p->arg, u, u->commits);
    }
}

static void relay_run(struct loop_post *post) {
    struct relay *r = (struct relay *)post;
    if (r->pool) deliver(r->pool);
    else free(r);
}

static void start_runner(struct postgres_pool *p, unsigned i, struct db *first) {
    struct runner *r = &p->runners[i];
    r->pool = p;
    r->lane.shared = &p->shared;
    r->lane.role = i < p->writers ? DB_WRITER : DB_READER;
    r->lane.db = i == 0 ? (struct postgres_db *)first : NULL;
    r->lane.connected = r->lane.db != NULL;
    if (r->lane.db) r->lane.db->migrating = false;
    units_init(&r->queue);
    pthread_cond_init(&r->wake, NULL);
}

struct postgres_pool *postgres_pool_new(struct loop *loop, const struct database_options *o, struct db *first,
                                        postgres_pool_done_fn *done, void *arg) {
    struct postgres_pool *p = calloc(1, sizeof *p);
    struct relay *r = calloc(1, sizeof *r);
    if (!p || !r) die("no memory for the database");
    *r = (struct relay){.post.fn = relay_run, .pool = p};
    *p = (struct postgres_pool){.loop = loop, .shared.options = *o, .done = done, .arg = arg, .relay = r};
    p->shared.options.url = p->url = strdup(o->url);
    p->writers = o->connections ? o->connections : DEFAULT_CONNECTIONS;
    if (p->writers > MOST_CONNECTIONS) p->writers = MOST_CONNECTIONS;
    p->readers = p->writers / 4 > FEWEST_READERS ? p->writers / 4 : FEWEST_READERS;
    p->runners = calloc(p->writers + p->readers, sizeof *p->runners);
    if (!p->url || !p->runners) die("no memory for the database");
    units_init(&p->finished);
    postgres_health_init(&p->shared.health);
    pthread_mutex_init(&p->shared.mutex, NULL);
    p->listener = postgres_listener_new(loop, p->url, &p->shared.health);
    for (unsigned i = 0; i < p->writers + p->readers; i++) start_runner(p, i, first);
    for (unsigned i = 0; i < p->writers + p->readers; i++) {
        if (pthread_create(&p->runners[i].thread, NULL, runner_main, &p->runners[i])) die("no thread for the database");
        pthread_setname_np(p->runners[i].thread, i < p->writers ? "barid-pg-write" : "barid-pg-read");
    }
    return p;
}

// The one with the least to do; the first of these, so that quiet times need few connections. While no new connection
// can be made (too many of them, say) those that stand do the work.
static struct runner *least_busy(struct postgres_pool *p, struct runner *runners, unsigned n) {
    struct runner *best = NULL;
    bool away = postgres_health_is_away(&p->shared.health);
    for (unsigned i = 0; i < n && (!best || best->pending); i++)
        if ((runners[i].lane.connected || !away) && (!best || runners[i].pending < best->pending)) best = &runners[i];
    return best ? best : &runners[0];
}

static struct runner *runner_for(struct postgres_pool *p, struct db_unit *u) {
    if (u->read_only) return least_busy(p, p->runners + p->writers, p->readers);
    if (!in_order(u)) return least_busy(p, p->runners, p->writers);
    struct order *o = order_of(p, u);
    if (!o->pending++) o->runner = least_busy(p, p->runners, p->writers);
    return o->runner;
}

void postgres_pool_push(struct postgres_pool *p, struct db_unit *u) {
    pthread_mutex_lock(&p->shared.mutex);
    struct runner *r = runner_for(p, u);
    units_add(&r->queue, u);
    r->pending++;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&p->shared.mutex);
}

void postgres_pool_stats(struct postgres_pool *p, struct database_stats *out) {
    pthread_mutex_lock(&p->shared.mutex);
    out->again = p->shared.again;
    out->connected = 0;
    for (unsigned i = 0; i < p->writers + p->readers; i++) out->connected += p->runners[i].lane.connected;
    pthread_mutex_unlock(&p->shared.mutex);
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
    pthread_mutex_lock(&p->shared.mutex);
    p->stop = true;
    for (unsigned i = 0; i < p->writers + p->readers; i++) pthread_cond_signal(&p->runners[i].wake);
    pthread_mutex_unlock(&p->shared.mutex);
    for (unsigned i = 0; i < p->writers + p->readers; i++) pthread_join(p->runners[i].thread, NULL);
    bool on_its_way = p->posting;
    deliver(p);
    p->relay->pool = NULL;
    if (!on_its_way) free(p->relay);
    postgres_listener_free(p->listener); // after the last done(), which may still unlisten
    for (unsigned i = 0; i < p->writers + p->readers; i++) pthread_cond_destroy(&p->runners[i].wake);
    pthread_mutex_destroy(&p->shared.mutex);
    postgres_health_release(&p->shared.health);
    free(p->runners);
    free(p->url);
    free(p);
}
