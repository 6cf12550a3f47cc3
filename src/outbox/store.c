// Putting an event into the outbox, in the transaction of the change it tells of.
#include "outbox/outbox.h"

#include "base/assert.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

const struct migration outbox_component[] = {
    {.number = 1, .name = "outbox", .file = &outbox_migrations[1]},
    {.number = 0},
};

// The table of SQLite has no headers: only the messaging service writes there, and it has none.
static struct db_sql insert_sql = {
    .text = "insert into outbox (event_id, topic, key, payload, stored_at) values (?1, ?2, ?3, ?4, ?5)",
    .postgres =
        "insert into barid.outbox (event_id, topic, key, payload, headers) values (encode(?1::bytea, 'hex')::uuid, "
        "?2::text, nullif(?3::text, ''), ?4::bytea, ?5::text::jsonb)",
};

// In the order of the array: an identity column counts the rows as they are sorted.
static struct db_sql insert_all_sql = {
    .text = "select 1 where 0",
    .postgres = "insert into barid.outbox (event_id, topic, key, payload) "
                "select encode(e.id, 'hex')::uuid, e.topic, nullif(e.key, ''), e.payload "
                "from unnest(?1::bytea[], ?2::text[], ?3::text[], ?4::bytea[]) with ordinality "
                "e (id, topic, key, payload, n) order by e.n",
};

static char *headers_text(const struct bus_event *event) {
    json_t *object = json_object();
    for (size_t i = 0; i < event->header_count; i++)
        json_object_set_new(object, event->headers[i].name, json_string(event->headers[i].value));
    char *text = json_object_size(object) == event->header_count ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    return text;
}

enum err outbox_store(struct db *db, const struct bus_event *event, int64_t now_ms) {
    bool shared = db_kind(db) == DATABASE_POSTGRES;
    if (event->header_count && !shared)
        return error_set(db_error(db), ERR_UNSUPPORTED, "the outbox of the embedded database keeps no headers");
    char *headers = event->header_count ? headers_text(event) : NULL;
    if (event->header_count && !headers)
        return error_set(db_error(db), ERR_INVALID, "the headers of an event are UTF-8, each name once");
    struct db_stmt *s = db_prepare(db, &insert_sql);
    db_bind_id(s, 1, &event->event_id);
    db_bind_text(s, 2, event->topic);
    db_bind_text(s, 3, event->key ? event->key : "");
    db_bind_blob(s, 4, event->payload_length ? event->payload : "", event->payload_length);
    if (shared) db_bind_text(s, 5, headers);
    else db_bind_int(s, 5, now_ms);
    enum err err = db_run(s);
    free(headers);
    return err;
}

enum err outbox_store_all(struct db *db, const struct bus_event *events, size_t n) {
    ASSERT(db_kind(db) == DATABASE_POSTGRES);
    struct db_bytes *bytes = malloc(2 * n * sizeof *bytes);
    const char **texts = malloc(2 * n * sizeof *texts);
    if (!bytes || !texts) die("no memory for events");
    for (size_t i = 0; i < n; i++) {
        ASSERT(!events[i].header_count);
        bytes[i] = (struct db_bytes){events[i].event_id.b, sizeof events[i].event_id.b};
        bytes[n + i] = (struct db_bytes){events[i].payload_length ? events[i].payload : "", events[i].payload_length};
        texts[i] = events[i].topic;
        texts[n + i] = events[i].key ? events[i].key : "";
    }
    struct db_stmt *s = db_prepare(db, &insert_all_sql);
    db_bind_blobs(s, 1, bytes, n);
    db_bind_texts(s, 2, texts, n);
    db_bind_texts(s, 3, texts + n, n);
    db_bind_blobs(s, 4, bytes + n, n);
    enum err err = db_run_later(s);
    free(bytes);
    free(texts);
    return err;
}
