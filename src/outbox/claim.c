// Claiming: reading the next events in id order, on the reading connection. Nothing is marked in the database; the
// producer remembers what it has. One process produces from one outbox.
#include "outbox/internal.h"

#include <stdlib.h>
#include <string.h>

static struct db_sql next_sql = {
    .text = "select id, event_id, topic, key, payload, stored_at, attempts, next_at from outbox "
            "where id > ?1 and state = 0 order by id limit ?2",
};
static struct db_sql count_parked_sql = {.text = "select count(*) from outbox where state <> 0"};

void row_free(struct row *r) {
    if (!r) return;
    free(r->error);
    free(r->headers);
    free(r);
}

static const char *put_text(char **at, const char *text, size_t n) {
    char *to = *at;
    memcpy(to, text, n);
    to[n] = 0;
    *at += n + 1;
    return to;
}

struct row *row_new(const char *topic, size_t topic_n, const char *key, size_t key_n, const char *place, size_t place_n,
                    const void *payload, size_t payload_n) {
    size_t texts = topic_n + 1 + (key ? key_n + 1 : 0) + (place ? place_n + 1 : 0);
    struct row *r = malloc(sizeof *r + texts + payload_n);
    if (!r || !topic) {
        free(r);
        return NULL;
    }
    *r = (struct row){.bucket = -1, .payload_length = payload_n};
    char *at = r->data;
    r->topic = put_text(&at, topic, topic_n);
    if (key) r->key_text = put_text(&at, key, key_n);
    if (place) r->place = put_text(&at, place, place_n);
    if (payload_n) memcpy(at, payload, payload_n);
    r->payload = (const uint8_t *)at;
    return r;
}

static struct row *row_read(struct db *db, struct db_stmt *s, int64_t now_ms) {
    size_t topic_n = 0, key_n = 0, payload_n = 0;
    const char *topic = db_text(s, 2, &topic_n), *key = db_text(s, 3, &key_n);
    const void *payload = db_blob(s, 4, &payload_n);
    struct row *r = row_new(topic, topic_n, key, key_n, NULL, 0, payload, payload_n);
    if (!r) {
        error_set(db_error(db), ERR_NOMEM, "no memory for an event");
        return NULL;
    }
    r->id = db_int(s, 0);
    if (!db_id(s, 1, &r->event_id)) {
        error_set(db_error(db), ERR_CORRUPT, "event %lld: its event_id is not 16 bytes", (long long)r->id);
        row_free(r);
        return NULL;
    }
    r->stored_at_ms = db_int(s, 5);
    r->attempts = (uint32_t)db_int(s, 6);
    r->wait_ms = db_int(s, 7) - now_ms;
    return r;
}

static enum err count_parked(struct db *db, struct claim *c) {
    struct db_stmt *s = db_prepare(db, &count_parked_sql);
    int row = db_step(s);
    if (row < 0) return (enum err) - row;
    c->parked = (uint64_t)db_int(s, 0);
    return ERR_OK;
}

void claim_clear(struct claim *c) {
    for (struct row *r; (r = c->rows);) {
        c->rows = r->next_claimed;
        row_free(r);
    }
    free(c->known);
    free(c->held);
    free(c->held_text);
    free(c->writers);
    free(c->found);
    c->writers = c->found = NULL;
    c->known = NULL;
    c->held = NULL;
    c->held_text = NULL;
}

enum err claim_run(struct db *db, struct db_unit *u) {
    struct claim *c = (struct claim *)u;
    struct db_stmt *s = db_prepare(db, &next_sql);
    db_bind_int(s, 1, c->after);
    db_bind_int(s, 2, c->limit);
    size_t n = 0, bytes = 0;
    int row = DB_DONE;
    while (bytes < CLAIM_BYTES_MAX && (row = db_step(s)) == DB_ROW) {
        struct row *r = row_read(db, s, c->now_ms);
        if (!r) return db_error(db)->code;
        *c->rows_end = r;
        c->rows_end = &r->next_claimed;
        c->last_id = r->id;
        bytes += r->payload_length;
        n++;
    }
    if (row < 0) return (enum err) - row;
    c->more = n == c->limit || bytes >= CLAIM_BYTES_MAX;
    return c->count_parked ? count_parked(db, c) : ERR_OK;
}
