// The database port: chooses the driver, owns the database threads, refuses what would not fit.
//
// SQLite has two threads, one that writes and one that reads (worker.c); PostgreSQL has lanes (postgres_pool.c).
#include "database/database.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/loop.h"
#include "database/migrate.h"
#include "database/postgres_pool.h"
#include "database/worker.h"

#include <stdlib.h>
#include <string.h>

#define DEFAULT_PENDING   65536
#define DEFAULT_CACHE     (4u << 20)
#define DEFAULT_LOW_WATER (64ull << 20)
#define SPACE_CHECK_MS    100

struct database {
    struct loop *loop;
    struct database_options options;
    enum database_kind kind;
    struct db *writing, *reading;   // SQLite
    struct worker *writer, *reader; // SQLite
    struct postgres_pool *pool;     // PostgreSQL
    struct database_stats stats;
    uint64_t space_checked_ms;
    bool space_known, low, closing, delivering;
};

static bool starts(const char *url, const char *with) { return strncmp(url, with, strlen(with)) == 0; }

enum database_kind database_kind(const char *url) {
    return starts(url, "postgresql://") || starts(url, "postgres://") ? DATABASE_POSTGRES : DATABASE_SQLITE;
}

enum database_kind database_kind_of(const struct database *d) { return d->kind; }

// The password of a url is not for eyes.
static enum err no_such_kind(const char *url, struct error *e) {
    return error_set(e, ERR_UNSUPPORTED, "no such kind of database: %.*s", (int)(strstr(url, "://") - url), url);
}

static const struct db_driver *driver_of(const char *url) {
    if (database_kind(url) == DATABASE_POSTGRES) return &postgres_driver;
    return strstr(url, "://") ? NULL : &sqlite_driver;
}

static void unit_done(void *arg, struct db_unit *u, unsigned commits) {
    struct database *d = arg;
    d->stats.commits += commits;
    d->stats.units++;
    d->stats.pending--;
    if (u->result) d->stats.failed++;
    d->delivering = true;
    u->done(u, u->result);
    d->delivering = false;
}

static enum err open_connections(struct database *d, const struct migration *migrations, struct error *e) {
    const struct db_driver *driver = driver_of(d->options.url);
    if (!driver) return no_such_kind(d->options.url, e);
    d->kind = driver->kind;
    enum err err = driver->open(&d->options, DB_WRITER, migrations != NULL, &d->writing, e);
    if (!err && migrations) err = migrate(d->writing, migrations, NULL, NULL, e);
    if (!err && d->kind == DATABASE_SQLITE) err = driver->open(&d->options, DB_READER, false, &d->reading, e);
    return err;
}

static void close_connections(struct database *d) {
    if (d->reading) d->reading->driver->close(d->reading);
    if (d->writing) d->writing->driver->close(d->writing);
}

static void start_threads(struct database *d) {
    if (d->kind == DATABASE_POSTGRES) {
        d->pool = postgres_pool_new(d->loop, &d->options, d->writing, unit_done, d);
        d->writing = NULL; // the pool's now
        return;
    }
    d->writer = worker_new(d->loop, d->writing, true, unit_done, d);
    d->reader = worker_new(d->loop, d->reading, false, unit_done, d);
}

enum err database_open(struct database **out, struct loop *loop, const struct database_options *o,
                       const struct migration *migrations, struct error *e) {
    struct database *d = calloc(1, sizeof *d);
    if (!d) return error_set(e, ERR_NOMEM, "no memory for the database");
    d->loop = loop;
    d->options = *o;
    if (!d->options.max_pending) d->options.max_pending = DEFAULT_PENDING;
    if (!d->options.cache_bytes) d->options.cache_bytes = DEFAULT_CACHE;
    if (!d->options.low_water_bytes) d->options.low_water_bytes = DEFAULT_LOW_WATER;
    enum err err = open_connections(d, migrations, e);
    if (err) {
        close_connections(d);
        free(d);
        return err;
    }
    start_threads(d);
    d->options.url = NULL; // the caller's string
    *out = d;
    return ERR_OK;
}

void database_close(struct database *d) {
    if (!d) return;
    ASSERT(!d->delivering);
    d->closing = true;
    if (d->pool) postgres_pool_free(d->pool);
    if (d->writer) worker_free(d->writer);
    if (d->reader) worker_free(d->reader);
    ASSERT(d->stats.pending == 0);
    close_connections(d);
    free(d);
}

enum err database_check(const char *url, database_finding_fn *each, void *arg, struct error *e) {
    const struct db_driver *driver = driver_of(url);
    if (!driver) return no_such_kind(url, e);
    return driver->check(url, each, arg, e);
}

enum err database_rows(const char *url, const char *sql, database_row_fn *each, void *arg, struct error *e) {
    const struct db_driver *driver = driver_of(url);
    if (!driver) return no_such_kind(url, e);
    if (!driver->rows) return error_set(e, ERR_UNSUPPORTED, "only an embedded database is read without being opened");
    return driver->rows(url, sql, each, arg, e);
}

enum err database_migrate(const char *url, const struct migration *migrations, database_migrated_fn *each, void *arg,
                          struct error *e) {
    const struct db_driver *driver = driver_of(url);
    if (!driver) return no_such_kind(url, e);
    struct database_options o = {.url = url, .cache_bytes = DEFAULT_CACHE};
    struct db *db;
    enum err err = driver->open(&o, DB_WRITER, true, &db, e);
    if (err) return err;
    err = migrate(db, migrations, each, arg, e);
    driver->close(db);
    return err;
}

static bool disk_is_low(struct database *d) {
    uint64_t now = loop_now_ms(d->loop), free_bytes;
    if (d->space_known && now - d->space_checked_ms < SPACE_CHECK_MS) return d->low;
    d->space_known = true;
    d->space_checked_ms = now;
    bool low = d->writing->driver->space(d->writing, &free_bytes) == ERR_OK && free_bytes < d->options.low_water_bytes;
    if (low && !d->low)
        log_text(LOG_ERROR, "disk_low", "writing is refused: %llu MiB are free, %llu are needed",
                 (unsigned long long)(free_bytes >> 20), (unsigned long long)(d->options.low_water_bytes >> 20));
    if (!low && d->low) log_text(LOG_INFO, "disk_recovered", "writing goes on");
    d->low = low;
    return low;
}

void database_low_water(struct database *d, uint64_t bytes) {
    d->options.low_water_bytes = bytes ? bytes : DEFAULT_LOW_WATER;
    d->space_known = false;
}

enum err database_submit(struct database *d, struct db_unit *u) {
    ASSERT(u->run && u->done);
    if (d->closing) return error_set(&u->error, ERR_CLOSED, "the database is closing");
    if (d->stats.pending >= d->options.max_pending)
        return error_set(&u->error, ERR_BUSY, "the database has more to do than it can take");
    if (d->kind == DATABASE_SQLITE && !u->read_only && !u->frees_space && disk_is_low(d))
        return error_set(&u->error, ERR_FULL, "the disk is nearly full");
    d->stats.pending++;
    if (d->pool) postgres_pool_push(d->pool, u);
    else worker_push(u->read_only ? d->reader : d->writer, u);
    return ERR_OK;
}

void database_stats(const struct database *d, struct database_stats *out) {
    *out = d->stats;
    out->connected = 2;
    if (d->pool) postgres_pool_stats(d->pool, out);
}

enum err database_listen(struct database *d, const char *channel, database_notice_fn *fn, void *arg, struct error *e) {
    return d->pool ? postgres_pool_listen(d->pool, channel, fn, arg, e) : ERR_OK;
}

void database_unlisten(struct database *d, const char *channel, database_notice_fn *fn, void *arg) {
    if (d->pool) postgres_pool_unlisten(d->pool, channel, fn, arg);
}

enum database_notices database_notices(const struct database *d) {
    return d->pool ? postgres_pool_notices(d->pool) : NOTICES_NONE;
}
