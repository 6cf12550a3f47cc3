#include "cli/check_stored.h"

#include "base/hex.h"
#include "base/io.h"
#include "base/loop.h"
#include "cli/waited_unit.h"
#include "database/database.h"
#include "datastore/datastore.h"

#include <stdio.h>
#include <string.h>

#define PAGE      256
#define AT_ONCE   (1u << 20)
#define NAME_ROOM (2 * DATASTORE_HASH + 24)

// Names in their order, a page at a time.
struct page {
    struct waited_unit unit; // first
    struct db_sql *sql;
    uint8_t after[DATASTORE_HASH];
    size_t after_n; // 0: from the beginning
    size_t n;
    uint8_t hashes[PAGE][DATASTORE_HASH];
    uint64_t bytes[PAGE];
};

struct stored_check {
    struct loop *loop;
    struct database *database;
    struct datastore *store;
    struct io *files;
    media_finding_fn *lost;
    void *arg;
    struct stored_result *out;
    struct error *e;
    struct page page;
    // the answer that was waited for
    enum err err;
    struct ds_reader *reader;
    uint64_t bytes;
    size_t got;
};

static struct db_sql there_sql = {.text = "select 1 where 0",
                                  .postgres = "select 1 where to_regclass('barid.datastore_content') is not null and "
                                              "to_regclass('barid.media') is not null"};
static struct db_sql stored_sql = {
    .text = "select hash, bytes from datastore_content where hash > ?1 order by hash limit 256"};
static struct db_sql missing_sql = {
    .text = "select n.hash, max(n.bytes) from (" MEDIA_NEEDED ") n where n.hash > ?1 and not exists "
            "(select 1 from datastore_content s where s.hash = n.hash) group by n.hash order by 1 limit 256"};

// ---- names ----------------------------------------------------------------------------------------------

static enum err page_run(struct db *db, struct db_unit *u) {
    struct page *p = (struct page *)u;
    p->n = 0;
    int row = db_step(db_prepare(db, &there_sql));
    if (row == DB_DONE) return error_set(db_error(db), ERR_NOT_FOUND, "the database has no tables of a server");
    if (row < 0) return (enum err) - row;
    struct db_stmt *s = db_prepare(db, p->sql);
    db_bind_blob(s, 1, p->after, p->after_n);
    while (p->n < PAGE && (row = db_step(s)) == DB_ROW) {
        size_t n;
        const void *hash = db_blob(s, 0, &n);
        if (n != DATASTORE_HASH) continue;
        memcpy(p->hashes[p->n], hash, DATASTORE_HASH);
        p->bytes[p->n++] = (uint64_t)db_int(s, 1);
    }
    return row < 0 ? (enum err) - row : ERR_OK;
}

static enum err read_page(struct stored_check *c) {
    struct page *p = &c->page;
    if (p->n > 0) memcpy(p->after, p->hashes[p->n - 1], p->after_n = DATASTORE_HASH);
    return unit_wait(&p->unit, c->loop, c->database, page_run, true, c->e);
}

// check() for every name that the statement gives.
static enum err each_name(struct stored_check *c, struct db_sql *sql,
                          enum err (*check)(struct stored_check *c, const uint8_t *hash, uint64_t bytes)) {
    c->page = (struct page){.sql = sql};
    for (;;) {
        enum err err = read_page(c);
        for (size_t i = 0; i < c->page.n && err == ERR_OK; i++) err = check(c, c->page.hashes[i], c->page.bytes[i]);
        if (err != ERR_OK || c->page.n < PAGE) return err;
    }
}

static void tell(struct stored_check *c, const uint8_t *hash, uint64_t bytes, const char *what) {
    char name[NAME_ROOM] = "postgresql media/";
    hex_encode(hash, DATASTORE_HASH, name + strlen(name));
    c->lost(c->arg, name, bytes, what);
}

// ---- contents -------------------------------------------------------------------------------------------

static void on_opened(void *arg, enum err err, struct ds_reader *r, uint64_t bytes) {
    struct stored_check *c = arg;
    c->err = err;
    c->reader = r;
    c->bytes = bytes;
    loop_stop(c->loop);
}

static void on_read(void *arg, enum err err, const uint8_t *data, size_t n) {
    struct stored_check *c = arg;
    c->err = err;
    c->got = n;
    loop_stop(c->loop);
}

// ERR_OK: whole. *there: it has its name.
static enum err read_whole(struct stored_check *c, const uint8_t *hash, bool *there) {
    datastore_read(c->store, hash, on_opened, c);
    loop_run(c->loop);
    *there = c->err != ERR_NOT_FOUND;
    if (c->err != ERR_OK) return c->err;
    ds_reader_verify(c->reader);
    uint64_t at = 0;
    do {
        ds_reader_read(c->reader, at, AT_ONCE, on_read, c);
        loop_run(c->loop);
        at += c->got;
    } while (c->err == ERR_OK && at < c->bytes);
    ds_reader_free(c->reader);
    return c->err;
}

static enum err check_content(struct stored_check *c, const uint8_t *hash, uint64_t bytes) {
    bool there;
    enum err err = read_whole(c, hash, &there);
    if (err == ERR_NOT_FOUND && there) err = read_whole(c, hash, &there); // or was it removed meanwhile?
    if (err == ERR_NOT_FOUND && !there) return ERR_OK;
    if (err != ERR_OK && err != ERR_CORRUPT && err != ERR_NOT_FOUND)
        return error_set(c->e, err, "cannot read what the database has stored: %s", err_text(err));
    c->out->media.files++;
    c->out->media.bytes += bytes;
    if (err == ERR_OK) return ERR_OK;
    c->out->media.damaged++;
    tell(c, hash, bytes, err == ERR_CORRUPT ? "the content is not what its name says" : "a part of it is missing");
    return ERR_OK;
}

static enum err check_missing(struct stored_check *c, const uint8_t *hash, uint64_t bytes) {
    if (c->files != NULL && media_is_there(c->files, "media", hash)) return ERR_OK;
    c->out->missing++;
    tell(c, hash, bytes, "is needed, and is not there");
    return ERR_OK;
}

// ---- all of it ------------------------------------------------------------------------------------------

static enum err check_all(struct stored_check *c) {
    struct datastore_options o = {.database = c->database};
    enum err err = datastore_open(&c->store, c->loop, &o, c->e);
    if (err != ERR_OK) return err;
    err = each_name(c, &stored_sql, check_content);
    if (err == ERR_OK) err = each_name(c, &missing_sql, check_missing);
    datastore_close(c->store);
    return err;
}

enum err check_stored(const char *url, struct io *files, media_finding_fn *lost, void *arg, struct stored_result *out,
                      struct error *e) {
    struct stored_check c = {.files = files, .lost = lost, .arg = arg, .out = out, .e = e};
    *out = (struct stored_result){0};
    enum err err = loop_new(&c.loop, e);
    if (err != ERR_OK) return err;
    struct database_options o = {.url = url, .connections = 1};
    err = database_open(&c.database, c.loop, &o, NULL, e);
    if (err == ERR_OK) {
        err = check_all(&c);
        database_close(c.database);
    }
    loop_free(c.loop);
    return err;
}
