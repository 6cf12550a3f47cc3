// The database port: chooses the driver, owns the two database threads, refuses what would not fit.
#include "database/database.h"

#include "base/assert.h"
#include "base/log.h"
#include "base/loop.h"
#include "database/migrate.h"
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
    struct db *writing, *reading;
    struct worker *writer, *reader;
    struct database_stats stats;
    uint64_t space_checked_ms;
    bool space_known, low, closing, delivering;
};

static const struct db_driver *driver_of(const char *url) {
    const char *scheme_end = strstr(url, "://");
    return scheme_end ? NULL : &sqlite_driver;
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
    if (!driver) return error_set(e, ERR_UNSUPPORTED, "no such kind of database: %s", d->options.url);
    enum err err = driver->open(&d->options, DB_WRITER, migrations != NULL, &d->writing, e);
    if (!err && migrations) err = migrate(d->writing, migrations, e);
    if (!err) err = driver->open(&d->options, DB_READER, false, &d->reading, e);
    return err;
}

static void close_connections(struct database *d) {
    if (d->reading) d->reading->driver->close(d->reading);
    if (d->writing) d->writing->driver->close(d->writing);
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
    d->options.url = NULL; // the caller's string
    if (err) {
        close_connections(d);
        free(d);
        return err;
    }
    d->writer = worker_new(loop, d->writing, true, unit_done, d);
    d->reader = worker_new(loop, d->reading, false, unit_done, d);
    *out = d;
    return ERR_OK;
}

void database_close(struct database *d) {
    if (!d) return;
    ASSERT(!d->delivering);
    d->closing = true;
    worker_free(d->writer);
    worker_free(d->reader);
    ASSERT(d->stats.pending == 0);
    close_connections(d);
    free(d);
}

enum err database_check(const char *url, database_finding_fn *each, void *arg, struct error *e) {
    const struct db_driver *driver = driver_of(url);
    if (!driver) return error_set(e, ERR_UNSUPPORTED, "no such kind of database: %s", url);
    return driver->check(url, each, arg, e);
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
    if (!u->read_only && !u->frees_space && disk_is_low(d))
        return error_set(&u->error, ERR_FULL, "the disk is nearly full");
    d->stats.pending++;
    worker_push(u->read_only ? d->reader : d->writer, u);
    return ERR_OK;
}

void database_stats(const struct database *d, struct database_stats *out) { *out = d->stats; }
