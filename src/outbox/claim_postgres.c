// Claiming on PostgreSQL: the next events in the order of their ids, of the buckets that are lent to us.
//
// The order of ids is not the order of commits: an older id may appear after a younger one. So a claim looks again at
// what lies above the low-water mark (look.c), but for what is in memory already.
#include "outbox/internal.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define HORIZON_MS      2000
#define HORIZON_STEP_MS 1000

// The index on the id is the only good way, whatever the statistics say of a table that is empty at one moment and has
// a million rows at the next. xmin is that of the snapshot that the rows are read by. Its xmax is one more than the
// last number whose transaction has *ended*: one that is open may be beyond. age() counts from the next number to be
// given.
static struct db_sql prepare_sql = {
    .text = "select 0, 0, 0, 0",
    .postgres = "select pg_snapshot_xmin(s)::text::bigint, "
                "pg_snapshot_xmax(s)::text::bigint + age(pg_snapshot_xmax(s)::xid), "
                "pg_sequence_last_value('barid.outbox_id_seq'), "
                "(extract(epoch from now()) * 1000)::bigint, "
                "set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), "
                "set_config('enable_sort', 'off', true), set_config('max_parallel_workers_per_gather', '0', true), "
                "set_config('plan_cache_mode', 'force_generic_plan', true) from pg_current_snapshot() s",
};

// ?1 after this id, ?2 buckets, ?3 not these ids, ?4 not these keys, ?5 rows, ?6 bytes, ?7 the horizon, ?8 the consumer
#define COLUMNS                                                                                                        \
    "select id, bucket, uuid_send(event_id), topic, key, payload, headers::text, "                                     \
    "(extract(epoch from stored_at) * 1000)::bigint, attempts, "                                                       \
    "coalesce(ceil(extract(epoch from next_at - clock_timestamp()) * 1000), 0)::bigint, "                              \
    "(extract(epoch from statement_timestamp()) * 1000)::bigint"
#define BYTES "sum(octet_length(payload)) over (order by id rows unbounded preceding) - octet_length(payload) as before"
#define WHICH                                                                                                          \
    "id > ?1::bigint and state = 0 and (?2::bigint >> bucket) & 1 = 1 and id not in (select unnest(?3::bigint[])) "    \
    "and (next_at is null or next_at <= " HORIZON ") "                                                                 \
    "and (key is null or key not in (select unnest(?4::text[]) union all "
#define HORIZON "to_timestamp(?7::bigint / 1000.0)"

static struct db_sql outbox_sql = {
    .text = "select 1 where 0",
    .postgres =
        COLUMNS ", null::text, 0::bigint from (select a.*, " BYTES " from (select * from barid.outbox where " WHICH
                "select key from barid.outbox where state = 2 and key is not null union all "
                "select key from barid.outbox where next_at > " HORIZON " and key is not null)) "
                "order by id limit ?5::bigint) a) b where before < ?6::bigint order by id",
};
static struct db_sql inbox_sql = {
    .text = "select 1 where 0",
    .postgres = COLUMNS
    ", place, coalesce(extract(epoch from published_at) * 1000, 0)::bigint from (select a.*, " BYTES
    " from (select * from barid.inbox_queue where consumer = ?8::text and " WHICH
    "select key from barid.inbox_queue where consumer = ?8::text and state = 2 and key is not null union all "
    "select key from barid.inbox_queue where consumer = ?8::text and next_at > " HORIZON " and key is not null)) "
    "order by id limit ?5::bigint) a) b where before < ?6::bigint order by id",
};

// An object of strings, as barid.publish() has seen to; what somebody else wrote there is left aside.
static bool read_headers(struct row *r, const char *text, size_t n) {
    json_t *object = json_loadb(text, n, 0, NULL), *value;
    const char *name;
    size_t count = 0, bytes = 0;
    if (!json_is_object(object)) {
        json_decref(object);
        return true;
    }
    json_object_foreach(object, name, value) {
        if (!json_is_string(value)) continue;
        count++;
        bytes += strlen(name) + 1 + json_string_length(value) + 1;
    }
    r->headers = count ? malloc(count * sizeof *r->headers + bytes) : NULL;
    if (!count || !r->headers) {
        json_decref(object);
        return !count;
    }
    char *at = (char *)(r->headers + count);
    json_object_foreach(object, name, value) {
        if (!json_is_string(value)) continue;
        size_t name_n = strlen(name) + 1, value_n = json_string_length(value) + 1;
        struct bus_header *h = &r->headers[r->header_count++];
        h->name = memcpy(at, name, name_n);
        h->value = memcpy(at + name_n, json_string_value(value), value_n);
        at += name_n + value_n;
    }
    json_decref(object);
    return true;
}

static struct row *row_read(struct db *db, struct db_stmt *s) {
    size_t topic_n = 0, key_n = 0, payload_n = 0, headers_n = 0, place_n = 0;
    const char *topic = db_text(s, 3, &topic_n), *key = db_text(s, 4, &key_n), *headers = db_text(s, 6, &headers_n),
               *place = db_text(s, 11, &place_n);
    const void *payload = db_blob(s, 5, &payload_n);
    struct row *r = row_new(topic, topic_n, key, key_n, place, place_n, payload, payload_n);
    if (!r || (headers && !read_headers(r, headers, headers_n))) {
        error_set(db_error(db), ERR_NOMEM, "no memory for an event");
        row_free(r);
        return NULL;
    }
    r->id = db_int(s, 0);
    r->bucket = db_int(s, 1);
    if (!db_id(s, 2, &r->event_id)) {
        error_set(db_error(db), ERR_CORRUPT, "event %lld: its event_id is not 16 bytes", (long long)r->id);
        row_free(r);
        return NULL;
    }
    r->stored_at_ms = db_int(s, 7);
    r->attempts = (uint32_t)db_int(s, 8);
    r->wait_ms = db_int(s, 9);
    r->claimed_at_ms = db_int(s, 10);
    r->published_at_ms = db_int(s, 12);
    return r;
}

static enum err prepare(struct db *db, struct claim *c) {
    struct db_stmt *s = db_prepare(db, &prepare_sql);
    int row = db_step(s);
    if (row < 0) return (enum err) - row;
    c->xmin = db_int(s, 0);
    c->xmax = db_int(s, 1);
    c->ids_given = db_int(s, 2);
    c->now_ms = db_int(s, 3);
    return ERR_OK;
}

// Who writes to a table holds this lock until the transaction ends. Locks are seen as they are, not as of the snapshot.
static struct db_sql writers_sql = {
    .text = "select 1 where 0",
    .postgres = "select string_agg(distinct virtualtransaction, ',') from pg_locks where locktype = 'relation' "
                "and mode = 'RowExclusiveLock' and granted and relation = to_regclass(?1::text) and database = "
                "(select oid from pg_database where datname = current_database()) "
                "and (?2::text is null or virtualtransaction = any(string_to_array(?2::text, ',')))",
};

static enum err ask_writers(struct db *db, struct claim *c) {
    struct db_stmt *s = db_prepare(db, &writers_sql);
    db_bind_text(s, 1, c->o->options.table.consumer ? "barid.inbox_queue" : "barid.outbox");
    db_bind_text(s, 2, c->writers);
    int row = db_step(s);
    if (row < 0) return (enum err) - row;
    const char *found = db_text(s, 0, NULL);
    c->found = found ? strdup(found) : NULL;
    return found && !c->found ? error_set(db_error(db), ERR_NOMEM, "no memory for an event") : ERR_OK;
}

// Rows whose keys wait for them: for somebody to look at them, or for their next attempt, which is long. Asked with the
// settings of the claim: through indexes that have such rows alone.
//
// ?1 the horizon as it was, ?2 as it is now, ?3 the consumer
#define BLOCKED(table, which)                                                                                          \
    "select coalesce((select sum(hashint8(id)::bigint) from " table " where " which "state = 2), 0)::bigint, "         \
    "exists (select from " table " where " which "next_at > to_timestamp(?1::bigint / 1000.0) "                        \
    "and next_at <= to_timestamp(?2::bigint / 1000.0))::int, "                                                         \
    "coalesce((select (extract(epoch from next_at) * 1000)::bigint from " table " where " which                        \
    "next_at > to_timestamp(?2::bigint / 1000.0) order by next_at limit 1), 0)"

static struct db_sql outbox_blocked_sql = {.text = "select 0, 0, 0", .postgres = BLOCKED("outbox", "")};
static struct db_sql inbox_blocked_sql = {.text = "select 0, 0, 0",
                                          .postgres = BLOCKED("inbox_queue", "consumer = ?3::text and ")};

// The horizon is two seconds ahead, so once a second is enough.
static enum err ask_blocked(struct db *db, struct claim *c, int64_t before_ms) {
    const char *consumer = c->o->options.table.consumer;
    int64_t horizon_ms = c->now_ms + HORIZON_MS;
    c->horizon_ms = horizon_ms - before_ms >= HORIZON_STEP_MS ? horizon_ms : before_ms;
    struct db_stmt *s = db_prepare(db, consumer ? &inbox_blocked_sql : &outbox_blocked_sql);
    db_bind_int(s, 1, before_ms);
    db_bind_int(s, 2, c->horizon_ms);
    if (consumer) db_bind_text(s, 3, consumer);
    int row = db_step(s);
    if (row < 0) return (enum err) - row;
    c->blocked = db_int(s, 0);
    c->came_due = db_int(s, 1) != 0;
    c->due_ms = db_int(s, 2) ? db_int(s, 2) - c->horizon_ms : -1;
    return ERR_OK;
}

static void begin_again(struct claim *c) {
    free(c->found);
    c->found = NULL;
    for (struct row *r; (r = c->rows);) {
        c->rows = r->next_claimed;
        row_free(r);
    }
    c->rows_end = &c->rows;
    c->last_id = c->after;
    c->more = false;
}

enum err claim_run_postgres(struct db *db, struct db_unit *u) {
    struct claim *c = (struct claim *)u;
    const char *consumer = c->o->options.table.consumer;
    begin_again(c);
    enum err err = prepare(db, c);
    if (!err && c->ask_writers) err = ask_writers(db, c);
    if (!err) err = ask_blocked(db, c, c->o->look.horizon_ms);
    if (err) return err;
    struct db_stmt *s = db_prepare(db, consumer ? &inbox_sql : &outbox_sql);
    db_bind_int(s, 1, c->after);
    db_bind_int(s, 2, (int64_t)c->buckets);
    db_bind_ints(s, 3, c->known, c->known_n);
    db_bind_texts(s, 4, c->held, c->held_n);
    db_bind_int(s, 5, c->limit);
    db_bind_int(s, 6, CLAIM_BYTES_MAX);
    db_bind_int(s, 7, c->horizon_ms);
    if (consumer) db_bind_text(s, 8, consumer);
    size_t n = 0, bytes = 0;
    int row;
    while ((row = db_step(s)) == DB_ROW) {
        struct row *r = row_read(db, s);
        if (!r) return db_error(db)->code;
        *c->rows_end = r;
        c->rows_end = &r->next_claimed;
        c->last_id = r->id;
        bytes += r->payload_length;
        n++;
    }
    if (row < 0) return (enum err) - row;
    c->rows_n = (uint32_t)n;
    c->more = n == c->limit || bytes >= CLAIM_BYTES_MAX;
    return ERR_OK;
}
