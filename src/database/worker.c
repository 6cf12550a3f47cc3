// A database thread: batches of units, one transaction each.
//
// Writing: BEGIN, then for every unit SAVEPOINT, run, RELEASE (or ROLLBACK TO), then one COMMIT for all. The
// batch ends after BATCH_UNITS or BATCH_NS, so a long queue is answered in steps, each of one sync. If the
// commit fails, or SQLite gives up the transaction half way, every unit of the batch gets that error: none of
// it is stored.
//
// Reading: the same without savepoints. All units of a batch were submitted before its transaction began, so
// they see whatever was committed before that.
#include "database/worker.h"

#include "base/assert.h"
#include "base/loop.h"
#include "database/unit_list.h"

#include <pthread.h>
#include <stdlib.h>
#include <uv.h>

#define BATCH_UNITS 512
#define BATCH_NS    5000000u

// What is posted to the loop; outlives the worker when it is still on its way.
struct relay {
    struct loop_post post;
    struct worker *worker; // NULL once the worker is gone
};

struct worker {
    struct loop *loop;
    struct db *db;
    bool writes;
    worker_done_fn *done;
    void *arg;
    pthread_t thread;
    struct relay *relay;

    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t wake;
    struct unit_list queue, finished;
    unsigned commits; // of `finished`
    bool posting, stop;
};

static void unit_fail(struct db_unit *u, enum err err, const struct error *e) {
    u->result = err;
    if (e && e->code == err) u->error = *e;
    else if (u->error.code != err) error_set(&u->error, err, "%s", err_text(err));
}

static enum err unit_run(struct db *db, struct db_unit *u) {
    u->error.code = ERR_OK;
    u->error.field[0] = u->error.text[0] = 0;
    db->error = &u->error;
    enum err err = u->run(db, u);
    db->driver->end_unit(db);
    return err;
}

// False: the transaction is lost, for every unit in it.
static bool unit_write(struct db *db, struct db_unit *u) {
    enum err err = db->driver->savepoint(db, &u->error);
    if (!err) {
        err = unit_run(db, u);
        if (!err) err = db->driver->release(db, &u->error);
    }
    u->result = err;
    if (!err) return true;
    unit_fail(u, err, NULL);
    return db->driver->rollback_to(db);
}

static void fail_stored(struct unit_list *batch, enum err err, const struct error *e) {
    for (struct db_unit *u = batch->head; u; u = u->next)
        if (!u->result) unit_fail(u, err, e);
}

static void fail_all(struct unit_list *todo, struct unit_list *batch, enum err err, const struct error *e) {
    for (unsigned n = 0; todo->head && n < BATCH_UNITS; n++) {
        struct db_unit *u = units_take(todo);
        unit_fail(u, err, e);
        units_add(batch, u);
    }
}

static unsigned batch_write(struct worker *w, struct unit_list *todo, struct unit_list *batch) {
    struct error e = {0};
    enum err err = w->db->driver->begin(w->db, &e);
    if (err) {
        fail_all(todo, batch, err, &e);
        return 0;
    }
    uint64_t until = uv_hrtime() + BATCH_NS;
    unsigned stored = 0;
    for (unsigned n = 0; todo->head && n < BATCH_UNITS && (n == 0 || uv_hrtime() < until); n++) {
        struct db_unit *u = units_take(todo);
        units_add(batch, u);
        bool alive = unit_write(w->db, u);
        if (!u->result) stored++;
        if (alive) continue;
        w->db->driver->rollback(w->db);
        fail_stored(batch, u->result, &u->error);
        return 0;
    }
    err = stored ? w->db->driver->commit(w->db, &e) : ERR_OK;
    if (!err && stored) return 1;
    w->db->driver->rollback(w->db);
    if (err) fail_stored(batch, err, &e);
    return 0;
}

static unsigned batch_read(struct worker *w, struct unit_list *todo, struct unit_list *batch) {
    struct error e = {0};
    enum err err = w->db->driver->begin(w->db, &e);
    if (err) {
        fail_all(todo, batch, err, &e);
        return 0;
    }
    uint64_t until = uv_hrtime() + BATCH_NS;
    for (unsigned n = 0; todo->head && n < BATCH_UNITS && (n == 0 || uv_hrtime() < until); n++) {
        struct db_unit *u = units_take(todo);
        units_add(batch, u);
        u->result = unit_run(w->db, u);
        if (u->result) unit_fail(u, u->result, NULL);
    }
    if (w->db->driver->commit(w->db, &e)) w->db->driver->rollback(w->db);
    return 0;
}

static void hand_back(struct worker *w, struct unit_list *batch, unsigned commits) {
    pthread_mutex_lock(&w->mutex);
    units_move(&w->finished, batch);
    w->commits += commits;
    bool post = !w->posting;
    w->posting = true;
    pthread_mutex_unlock(&w->mutex);
    if (post) loop_post(w->loop, &w->relay->post);
}

static void *worker_main(void *arg) {
    struct worker *w = arg;
    struct unit_list todo, batch;
    units_init(&todo);
    units_init(&batch);
    for (;;) {
        pthread_mutex_lock(&w->mutex);
        while (!w->queue.head && !todo.head && !w->stop) pthread_cond_wait(&w->wake, &w->mutex);
        units_move(&todo, &w->queue);
        pthread_mutex_unlock(&w->mutex);
        if (!todo.head) return NULL; // stopping, and all is done
        unsigned commits = w->writes ? batch_write(w, &todo, &batch) : batch_read(w, &todo, &batch);
        hand_back(w, &batch, commits);
        if (commits) w->db->driver->after_commit(w->db);
    }
}

static void deliver(struct worker *w) {
    struct unit_list units;
    units_init(&units);
    pthread_mutex_lock(&w->mutex);
    units_move(&units, &w->finished);
    unsigned commits = w->commits;
    w->commits = 0;
    w->posting = false;
    pthread_mutex_unlock(&w->mutex);
    while (units.head) {
        w->done(w->arg, units_take(&units), commits);
        commits = 0;
    }
}

static void relay_run(struct loop_post *p) {
    struct relay *r = (struct relay *)p;
    if (r->worker) deliver(r->worker);
    else free(r);
}

struct worker *worker_new(struct loop *loop, struct db *db, bool writes, worker_done_fn *done, void *arg) {
    struct worker *w = calloc(1, sizeof *w);
    struct relay *r = calloc(1, sizeof *r);
    if (!w || !r) die("no memory for the database");
    *r = (struct relay){.post.fn = relay_run, .worker = w};
    *w = (struct worker){.loop = loop, .db = db, .writes = writes, .done = done, .arg = arg, .relay = r};
    units_init(&w->queue);
    units_init(&w->finished);
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->wake, NULL);
    if (pthread_create(&w->thread, NULL, worker_main, w)) die("no thread for the database");
    pthread_setname_np(w->thread, writes ? "barid-db-write" : "barid-db-read");
    return w;
}

void worker_push(struct worker *w, struct db_unit *u) {
    pthread_mutex_lock(&w->mutex);
    units_add(&w->queue, u);
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->mutex);
}

void worker_free(struct worker *w) {
    pthread_mutex_lock(&w->mutex);
    w->stop = true;
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->mutex);
    pthread_join(w->thread, NULL);
    bool on_its_way = w->posting;
    deliver(w);
    w->relay->worker = NULL;
    if (!on_its_way) free(w->relay);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->mutex);
    free(w);
}
