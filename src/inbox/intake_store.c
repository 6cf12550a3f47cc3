// The transaction that takes a batch in, and the copy of an event that waits for it.
#include "inbox/intake_internal.h"

#include "base/assert.h"
#include "base/utf8.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAYLOAD_MAX (64u << 20)
#define TEXT_MAX    65536 // a topic, a key, the headers

// ---- the copy

static bool is_text(const char *text) {
    size_t n = strlen(text);
    return n <= TEXT_MAX && utf8_valid(text, n);
}

// An object of strings as JSON, NULL when there are none. Of two headers of a name the last one counts.
static enum err headers_of(const struct bus_event *event, char **out, struct error *e) {
    *out = NULL;
    if (event->header_count == 0) return ERR_OK;
    json_t *object = json_object();
    bool ok = object != NULL;
    for (size_t i = 0; ok && i < event->header_count; i++)
        ok = json_object_set_new(object, event->headers[i].name, json_string(event->headers[i].value)) == 0;
    *out = ok ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    if (!ok) return error_set(e, ERR_INVALID, "a header is no UTF-8 text");
    if (!*out) die("no memory for headers");
    if (strlen(*out) <= TEXT_MAX) return ERR_OK;
    free(*out);
    return error_set(e, ERR_TOO_LARGE, "the headers have more than %d bytes", TEXT_MAX);
}

static enum err check(const struct bus_event *event, struct error *e) {
    if (!event->topic || !is_text(event->topic)) return error_set(e, ERR_INVALID, "the topic is no UTF-8 text");
    if (event->key && !is_text(event->key))
        return error_set(e, ERR_INVALID, "the key is no UTF-8 text of at most %d bytes", TEXT_MAX);
    if (event->payload_length > PAYLOAD_MAX)
        return error_set(e, ERR_TOO_LARGE, "the payload has %zu bytes, more than %u", event->payload_length,
                         PAYLOAD_MAX);
    return ERR_OK;
}

static const char *put(char **at, const char *text) {
    if (!text) return NULL;
    size_t n = strlen(text) + 1;
    char *copy = memcpy(*at, text, n);
    *at += n;
    return copy;
}

static size_t size_of(const char *text) { return text ? strlen(text) + 1 : 0; }

struct taken *taken_of(const struct bus_delivery *d, struct error *e) {
    const struct bus_event *event = &d->event;
    const char *key = event->key && *event->key ? event->key : NULL; // an empty key is none
    const char *place_topic = d->place.partition >= 0 ? d->place.topic : NULL;
    char *headers, place[320] = "";
    if (check(event, e) != ERR_OK || headers_of(event, &headers, e) != ERR_OK) return NULL;
    if (place_topic)
        snprintf(place, sizeof place, "%.255s/%d@%lld", place_topic, (int)d->place.partition,
                 (long long)d->place.offset);
    size_t n = size_of(event->topic) + size_of(key) + size_of(headers) + size_of(place_topic) + sizeof place +
               event->payload_length;
    struct taken *t = calloc(1, sizeof *t + n);
    if (!t) die("no memory for an event");
    char *at = t->data;
    t->tag = d->tag;
    t->event_id = event->event_id;
    id_format(&t->event_id, t->event_id_text);
    t->published_at_ms = d->published_at_ms;
    t->partition = place_topic ? d->place.partition : -1;
    t->offset = d->place.offset;
    t->topic = put(&at, event->topic);
    t->key = put(&at, key);
    t->headers = put(&at, headers);
    t->place_topic = put(&at, place_topic);
    t->place = *place ? put(&at, place) : NULL;
    t->payload = at;
    t->payload_length = event->payload_length;
    if (t->payload_length) memcpy(at, event->payload, t->payload_length);
    t->bytes = n;
    free(headers);
    return t;
}

struct taken *taken_mark(const struct bus_place *place, uint64_t parked) {
    size_t n = strlen(place->topic) + 1;
    struct taken *t = calloc(1, sizeof *t + n);
    if (!t) die("no memory for an event");
    t->mark = true;
    t->parked = parked;
    t->partition = place->partition;
    t->offset = place->offset;
    t->place_topic = memcpy(t->data, place->topic, n);
    t->bytes = n;
    return t;
}

// ---- the events

// Ids are inserted in their own order: of two transactions with the same ids one then waits for the other, and never
// both. The queue's ids are given in the batch's order, which is that of each key. `is true` makes the planner hash the
// fresh ids once, where it would compare each with each.
static struct db_sql events_sql = {
    .text = "with e as materialized (select * from unnest(?2::text[]::uuid[], ?3::text[], ?4::text[], ?5::bytea[], "
            "?6::text[], ?7::bigint[], ?8::text[]) with ordinality "
            "as e(event_id, topic, key, payload, headers, published, place, n)), "
            "fresh as (insert into barid.inbox (consumer, event_id) select ?1, event_id from e order by event_id "
            "on conflict do nothing returning event_id) "
            "insert into barid.inbox_queue (consumer, event_id, topic, key, payload, headers, published_at, place) "
            "select ?1, e.event_id, e.topic, e.key, e.payload, e.headers::jsonb, "
            "case when e.published > 0 then to_timestamp(e.published / 1000.0) end, e.place "
            "from e where (e.event_id in (select f.event_id from fresh f)) is true order by e.n",
};

struct columns {
    const char *ids[BATCH_MAX], *topics[BATCH_MAX], *keys[BATCH_MAX], *headers[BATCH_MAX], *places[BATCH_MAX];
    struct db_bytes payloads[BATCH_MAX];
    int64_t published[BATCH_MAX];
    size_t n;
};

static void fill(struct columns *c, const struct store *s) {
    c->n = 0;
    for (size_t k = 0; k < s->n; k++) {
        const struct taken *t = s->events[k];
        if (t->again || t->mark) continue;
        c->ids[c->n] = t->event_id_text;
        c->topics[c->n] = t->topic;
        c->keys[c->n] = t->key;
        c->headers[c->n] = t->headers;
        c->places[c->n] = t->place;
        c->payloads[c->n] = (struct db_bytes){t->payload, t->payload_length};
        c->published[c->n++] = t->published_at_ms;
    }
}

static enum err store_events(struct db *db, struct store *s) {
    struct columns *c = malloc(sizeof *c);
    if (!c) return error_set(db_error(db), ERR_NOMEM, "no memory for a batch");
    fill(c, s);
    struct db_stmt *q = db_prepare(db, &events_sql);
    db_bind_text(q, 1, s->i->options.consumer);
    db_bind_texts(q, 2, c->ids, c->n);
    db_bind_texts(q, 3, c->topics, c->n);
    db_bind_texts(q, 4, c->keys, c->n);
    db_bind_blobs(q, 5, c->payloads, c->n);
    db_bind_texts(q, 6, c->headers, c->n);
    db_bind_ints(q, 7, c->published, c->n);
    db_bind_texts(q, 8, c->places, c->n);
    enum err err = db_run(q);
    if (err == ERR_OK) s->fresh = (uint64_t)db_changes(db);
    free(c);
    return err;
}

// ---- the offsets

// They never go back, whoever else has the partition by now, but when the topic began again.
static struct db_sql offsets_sql = {
    .text = "insert into barid.offsets as o (consumer, topic, partition, next_offset, parked) "
            "select ?1, t, p, n, k from unnest(?2::text[], ?3::bigint[], ?4::bigint[], ?5::bigint[]) as u(t, p, n, k) "
            "order by t, p on conflict (consumer, topic, partition) do update "
            "set next_offset = greatest(o.next_offset, excluded.next_offset), parked = o.parked + excluded.parked, "
            "updated_at = clock_timestamp() where o.next_offset < excluded.next_offset or excluded.parked > 0",
};
static struct db_sql reset_sql = {
    .text = "delete from barid.offsets where consumer = ?1 and topic = ?2 and partition = ?3 and next_offset > ?4",
};

struct ends {
    const char *topics[BATCH_MAX];
    int64_t numbers[BATCH_MAX], next[BATCH_MAX], parked[BATCH_MAX];
    size_t n;
};

// The next offset of each partition in the batch; those of a partition mostly stand side by side.
static void note(struct ends *e, const struct taken *t) {
    size_t k = e->n;
    int64_t next = t->offset < t->hold ? t->offset + 1 : t->hold;
    while (k > 0 && (e->numbers[k - 1] != t->partition || strcmp(e->topics[k - 1], t->place_topic) != 0)) k--;
    if (k == 0) {
        e->topics[e->n] = t->place_topic;
        e->numbers[e->n] = t->partition;
        e->parked[e->n] = (int64_t)t->parked;
        e->next[e->n++] = next;
        return;
    }
    e->parked[k - 1] += (int64_t)t->parked;
    if (e->next[k - 1] < next || t->reset) e->next[k - 1] = next;
}

static enum err reset(struct db *db, struct store *s, const struct taken *t) {
    struct db_stmt *q = db_prepare(db, &reset_sql);
    db_bind_text(q, 1, s->i->options.consumer);
    db_bind_text(q, 2, t->place_topic);
    db_bind_int(q, 3, t->partition);
    db_bind_int(q, 4, t->offset);
    return db_run(q);
}

static enum err store_offsets(struct db *db, struct store *s) {
    struct ends *e = malloc(sizeof *e);
    if (!e) return error_set(db_error(db), ERR_NOMEM, "no memory for a batch");
    e->n = 0;
    enum err err = ERR_OK;
    for (size_t k = 0; k < s->n && err == ERR_OK; k++) {
        const struct taken *t = s->events[k];
        if (t->partition < 0) continue;
        if (t->reset) err = reset(db, s, t);
        note(e, t);
    }
    if (err == ERR_OK && e->n > 0) {
        struct db_stmt *q = db_prepare(db, &offsets_sql);
        db_bind_text(q, 1, s->i->options.consumer);
        db_bind_texts(q, 2, e->topics, e->n);
        db_bind_ints(q, 3, e->numbers, e->n);
        db_bind_ints(q, 4, e->next, e->n);
        db_bind_ints(q, 5, e->parked, e->n);
        err = db_run(q);
    }
    free(e);
    return err;
}

enum err intake_store_run(struct db *db, struct db_unit *u) {
    struct store *s = (struct store *)u;
    s->fresh = 0;
    enum err err = s->events_n ? store_events(db, s) : ERR_OK;
    return err == ERR_OK ? store_offsets(db, s) : err;
}
