// What rig_test.h promises.
#include "datastore/rig_test.h"

#include "base/hex.h"
#include "base/list.h"
#include "database/database.h"
#ifdef BARID_POSTGRES
#include "database/postgres_fixture.h"
#endif

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATIENCE_MS 30000

static const struct migration tables[] = {
    {.number = 103, .name = "datastore", .file = &datastore_migrations[0]},
    {.number = 0},
};

uint32_t rig_hold_ms = RIG_HOLD_MS;

// ---- answers

static void impatient(struct loop_timer *t) { fail_msg("nothing came for %d ms", PATIENCE_MS); }

void rig_wait(struct rig *f, int answers) {
    f->waiting = answers;
    f->patience.fn = impatient;
    loop_timer_start(f->loop, &f->patience, PATIENCE_MS);
    loop_run(f->loop);
    loop_timer_stop(f->loop, &f->patience);
}

void rig_answered(struct rig *f) {
    if (--f->waiting == 0) loop_stop(f->loop);
}

static void slept(struct loop_timer *t) { loop_stop(LIST_ITEM(t, struct rig, patience)->loop); }

void rig_sleep(struct rig *f, uint64_t ms) {
    f->patience.fn = slept;
    loop_timer_start(f->loop, &f->patience, ms);
    loop_run(f->loop);
}

void rig_on_done(void *arg, enum err err) {
    struct rig *f = arg;
    f->err = err;
    rig_answered(f);
}

void rig_on_finished(void *arg, enum err err, const uint8_t hash[DATASTORE_HASH], uint64_t bytes) {
    struct rig *f = arg;
    f->err = err;
    if (!err) memcpy(f->hash, hash, DATASTORE_HASH);
    f->bytes = bytes;
    rig_answered(f);
}

void rig_on_read(void *arg, enum err err, const uint8_t *data, size_t n) {
    struct rig *f = arg;
    f->err = err;
    if (n) memcpy(f->got, data, n);
    f->got_n = n;
    rig_answered(f);
}

void rig_on_swept(void *arg, enum err err, uint64_t kept, uint64_t removed) {
    struct rig *f = arg;
    f->err = err;
    f->kept = kept;
    f->removed = removed;
    rig_answered(f);
}

static void on_opened(void *arg, enum err err, struct ds_reader *r, uint64_t bytes) {
    struct rig *f = arg;
    f->err = err;
    f->reader = r;
    f->bytes = bytes;
    rig_answered(f);
}

// ---- opening and closing

#ifdef BARID_POSTGRES
long rig_sql(struct rig *f, const char *sql) {
    char with_path[2000];
    snprintf(with_path, sizeof with_path, "set search_path = barid, public; %s", sql);
    return test_pg_sql(f->url, with_path);
}

static void open_postgres(struct rig *f) {
    static int made;
    char sql[128];
    snprintf(f->admin, sizeof f->admin, "%s", getenv("BARID_TEST_POSTGRES"));
    snprintf(f->name, sizeof f->name, "barid_store_%d_%d", (int)getpid(), ++made);
    snprintf(sql, sizeof sql, "create database %s", f->name);
    test_pg_sql(f->admin, sql);
    test_db_url(f->url, sizeof f->url, f->admin, f->name);
}

static void drop_postgres(struct rig *f) {
    char sql[128];
    snprintf(sql, sizeof sql, "drop database %s with (force)", f->name);
    test_pg_sql(f->admin, sql);
}

static bool postgres_there(void) { return test_pg_there(); }
#else
long rig_sql(struct rig *f, const char *sql) { return 0; }
static void open_postgres(struct rig *f) {}
static void drop_postgres(struct rig *f) {}
static bool postgres_there(void) { return false; }
#endif

static void open_store(struct rig *f, struct database **database, struct datastore **d) {
    struct error e = {0};
    struct datastore_options o = {.hold_ms = rig_hold_ms};
    if (f->kind == RIG_POSTGRES) {
        struct database_options options = {.url = f->url, .connections = 4};
        if (database_open(database, f->loop, &options, tables, &e)) fail_msg("%s", e.text);
        o.database = *database;
    } else {
        o.directory = f->dir;
    }
    if (datastore_open(d, f->loop, &o, &e)) fail_msg("%s", e.text);
    datastore_low_water(*d, 1);
}

void rig_open(struct rig *f, enum rig_kind kind) {
    struct error e = {0};
    if (kind == RIG_POSTGRES && !postgres_there()) skip();
    memset(f, 0, sizeof *f);
    f->kind = kind;
    snprintf(f->dir, sizeof f->dir, "/tmp/barid-test-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_int_equal(loop_new(&f->loop, &e), ERR_OK);
    if (kind == RIG_POSTGRES) open_postgres(f);
    open_store(f, &f->database, &f->d);
}

void rig_open_other(struct rig *f) { open_store(f, &f->other_database, &f->other); }

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw) { return remove(path); }

void rig_close(struct rig *f) {
    datastore_close(f->d);
    datastore_close(f->other);
    database_close(f->database);
    database_close(f->other_database);
    loop_free(f->loop);
    if (f->kind == RIG_POSTGRES) drop_postgres(f);
    nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

// ---- writing and reading

struct ds_writer *rig_writer(struct rig *f, struct datastore *d, uint64_t max) {
    struct ds_writer *w;
    assert_int_equal(ds_writer_new(d, max, &w), ERR_OK);
    return w;
}

enum err rig_write(struct rig *f, struct ds_writer *w, const void *data, size_t n) {
    ds_writer_write(w, data, n, rig_on_done, f);
    rig_wait(f, 1);
    return f->err;
}

enum err rig_finish(struct rig *f, struct ds_writer *w) {
    ds_writer_finish(w, rig_on_finished, f);
    rig_wait(f, 1);
    return f->err;
}

void rig_upload(struct rig *f, struct datastore *d, const void *data, size_t n) {
    struct ds_writer *w = rig_writer(f, d, n);
    assert_int_equal(rig_write(f, w, data, n), ERR_OK);
    assert_int_equal(rig_finish(f, w), ERR_OK);
}

void rig_store(struct rig *f, const void *data, size_t n) {
    rig_upload(f, f->d, data, n);
    assert_int_equal(rig_own(f, f->d, f->hash), ERR_OK);
}

// ---- inside a unit

struct inside {
    struct db_unit unit;
    struct rig *f;
    struct datastore *d;
    const uint8_t *hash;
    bool owned, held;
};

static enum err own_run(struct db *db, struct db_unit *u) {
    struct inside *x = (struct inside *)u;
    return datastore_own(db, x->hash);
}

static enum err remove_run(struct db *db, struct db_unit *u) {
    struct inside *x = (struct inside *)u;
    enum err err = datastore_remove_in(db, x->hash, &x->held);
    return !err && x->owned ? ERR_CONFLICT : err;
}

static void inside_done(struct db_unit *u, enum err err) { rig_on_done(((struct inside *)u)->f, err); }

static enum err do_inside(struct rig *f, struct inside *x) {
    x->f = f;
    x->unit.done = inside_done;
    assert_int_equal(database_submit(x->d == f->d ? f->database : f->other_database, &x->unit), ERR_OK);
    rig_wait(f, 1);
    return f->err;
}

enum err rig_own(struct rig *f, struct datastore *d, const uint8_t hash[DATASTORE_HASH]) {
    struct inside x = {.unit.run = own_run, .d = d, .hash = hash};
    if (!datastore_in_database(d)) return ERR_OK;
    return do_inside(f, &x);
}

enum err rig_remove_in(struct rig *f, struct datastore *d, const uint8_t hash[DATASTORE_HASH], bool owned, bool *held) {
    struct inside x = {.unit.run = remove_run, .d = d, .hash = hash, .owned = owned};
    enum err err = do_inside(f, &x);
    *held = x.held;
    if (x.held) datastore_removal_held(d);
    return err;
}

enum err rig_remove(struct rig *f, struct datastore *d, const uint8_t hash[DATASTORE_HASH]) {
    datastore_remove(d, hash, rig_on_done, f);
    rig_wait(f, 1);
    return f->err;
}

enum err rig_open_reader(struct rig *f, const uint8_t hash[DATASTORE_HASH]) {
    datastore_read(f->d, hash, on_opened, f);
    rig_wait(f, 1);
    return f->err;
}

size_t rig_read(struct rig *f, uint64_t offset, size_t max) {
    ds_reader_read(f->reader, offset, max, rig_on_read, f);
    rig_wait(f, 1);
    assert_int_equal(f->err, ERR_OK);
    return f->got_n;
}

enum err rig_read_all_checked(struct rig *f, size_t n, size_t step) {
    assert_int_equal(rig_open_reader(f, f->hash), ERR_OK);
    ds_reader_verify(f->reader);
    f->err = ERR_OK;
    for (size_t at = 0; at < n && f->err == ERR_OK; at += f->got_n) {
        ds_reader_read(f->reader, at, step, rig_on_read, f);
        rig_wait(f, 1);
    }
    ds_reader_free(f->reader);
    return f->err;
}

void rig_ask(void *arg, const uint8_t (*hashes)[DATASTORE_HASH], size_t n, ds_verdict_fn *verdict, void *batch) {
    struct rig *f = arg;
    uint8_t wanted[1024] = {0};
    assert_true(loop_on_thread(f->loop) && n > 0 && n <= sizeof wanted);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < f->wanted_n; j++)
            if (memcmp(hashes[i], f->wanted[j], DATASTORE_HASH) == 0) wanted[i] = 1;
    f->asked += n;
    verdict(batch, wanted);
}

void rig_sweep(struct rig *f, struct datastore *d, uint64_t min_age_ms) {
    f->asked = 0;
    datastore_sweep(d, min_age_ms, rig_ask, rig_on_swept, f);
    rig_wait(f, 1);
}

// ---- behind the port

char *rig_path(struct rig *f, const uint8_t hash[DATASTORE_HASH]) {
    static char path[256];
    char hex[2 * DATASTORE_HASH + 1];
    hex_encode(hash, DATASTORE_HASH, hex);
    snprintf(path, sizeof path, "%s/%.2s/%s", f->dir, hex, hex);
    return path;
}

bool rig_is_there(struct rig *f, const uint8_t hash[DATASTORE_HASH]) {
    if (f->kind == RIG_FILES) return access(rig_path(f, hash), F_OK) == 0;
    char hex[2 * DATASTORE_HASH + 1], sql[256];
    hex_encode(hash, DATASTORE_HASH, hex);
    snprintf(sql, sizeof sql, "select count(*) from datastore_content where hash = '\\x%s'", hex);
    return rig_sql(f, sql) == 1;
}

size_t rig_parts(struct rig *f) {
    if (f->kind == RIG_POSTGRES)
        return (size_t)rig_sql(f, "select count(*) from datastore_upload where id not in "
                                  "(select upload from datastore_content)");
    char path[128];
    size_t n = 0;
    snprintf(path, sizeof path, "%s/tmp", f->dir);
    DIR *d = opendir(path);
    for (struct dirent *e; (e = readdir(d)) != NULL;) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

void rig_damage(struct rig *f, const uint8_t hash[DATASTORE_HASH]) {
    if (f->kind == RIG_POSTGRES) {
        rig_sql(f, "update datastore_chunk set data = overlay(data placing '\\x00000000' from 1000) where n = 0");
        return;
    }
    int fd = open(rig_path(f, hash), O_WRONLY);
    assert_int_equal(pwrite(fd, "\0\0\0\0", 4, 1000), 4);
    close(fd);
}

// Under one first byte, so that one directory needs several batches.
void rig_make_contents(struct rig *f, size_t n, bool keep_odd) {
    char sql[600];
    for (size_t i = 0; i < n; i++) {
        uint8_t hash[DATASTORE_HASH] = {0x5a, (uint8_t)(i >> 8), (uint8_t)i};
        if (f->kind == RIG_FILES) fclose(fopen(rig_path(f, hash), "w"));
        if (keep_odd && i % 2) memcpy(f->wanted[f->wanted_n++], hash, sizeof hash);
    }
    if (f->kind == RIG_FILES) return;
    snprintf(
        sql, sizeof sql,
        "with u as (insert into datastore_upload (written_at) select now() from generate_series(1, %zu) returning id) "
        "insert into datastore_content (hash, upload, bytes, chunk_bytes, holds, hold_until) "
        "select decode('5a' || lpad(to_hex(row_number() over () - 1), 4, '0') || repeat('00', 29), 'hex'), id, 0, "
        "1000, 0, now() from u",
        n);
    rig_sql(f, sql);
}

static void make_file(struct rig *f, const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
}

void rig_make_abandoned(struct rig *f) {
    if (f->kind == RIG_POSTGRES) {
        rig_sql(f, "insert into datastore_upload (written_at) values (now() - interval '2 hours'), "
                   "(now() - interval '10 minutes')");
        return;
    }
    make_file(f, "tmp/0123456789abcdef0123456789abcdef.part");
    make_file(f, "tmp/not-ours.txt");
}

uint8_t *rig_picture(size_t n) {
    static uint8_t data[400000];
    uint32_t x = 12345;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525 + 1013904223;
        data[i] = (uint8_t)(x >> 24);
    }
    return data;
}
