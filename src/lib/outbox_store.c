// barid_outbox_store: an event into the application's own transaction, without ever harming that.
//
//   savepoint ─> barid.publish ─> release                      stored
//                    ├─ not valid ─> rollback to ─> barid.park  marked (when asked), under a savepoint of its own
//                    └─ for a while ─> rollback to, wait, again
//
// Which is which PostgreSQL's error code says: data and constraints are the event's fault (classes 22, 23, 54), locks,
// time-outs and resources pass (40, 53, 55, 57, 58), and nothing else gets better by waiting.
#include "lib/event.h"

#include <errno.h>
#include <libpq-fe.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ATTEMPTS_DEFAULT 3
#define ATTEMPTS_MAX     100
#define BACKOFF_DEFAULT  50
#define BACKOFF_CAP_MS   10000
#define ID_TEXT          37
#define ERROR_MAX        512
#define TEXT_OID         25
#define UUID_OID         2950
#define BYTEA_OID        17
#define JSONB_OID        3802

struct barid_outbox {
    unsigned attempts, backoff_ms;
    int mark_invalid;
    uint64_t random;
    char id[ID_TEXT];
    char error[ERROR_MAX];
};

const char *barid_result_name(barid_result result) {
    static const char *const names[] = {"stored",       "marked",         "invalid", "failed",
                                        "not_migrated", "no_transaction", "broken",  "no_memory"};
    return (size_t)result < sizeof names / sizeof *names ? names[result] : "unknown";
}

barid_outbox *barid_outbox_new(void) {
    barid_outbox *o = calloc(1, sizeof *o);
    struct timespec now;
    if (!o) return NULL;
    clock_gettime(CLOCK_REALTIME, &now);
    o->attempts = ATTEMPTS_DEFAULT;
    o->backoff_ms = BACKOFF_DEFAULT;
    o->random = (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 20 ^ (uint64_t)(uintptr_t)o;
    return o;
}

void barid_outbox_free(barid_outbox *o) { free(o); }

void barid_outbox_attempts(barid_outbox *o, unsigned attempts) {
    o->attempts = attempts == 0 ? 1 : attempts > ATTEMPTS_MAX ? ATTEMPTS_MAX : attempts;
}

void barid_outbox_backoff_ms(barid_outbox *o, unsigned ms) {
    o->backoff_ms = ms > BACKOFF_CAP_MS ? BACKOFF_CAP_MS : ms;
}
void barid_outbox_mark_invalid(barid_outbox *o, int yes) { o->mark_invalid = yes; }
const char *barid_outbox_event_id(const barid_outbox *o) { return o->id; }
const char *barid_outbox_error(const barid_outbox *o) { return o->error; }

// ---- errors

// One line of it.
static void note(barid_outbox *o, const char *text) {
    snprintf(o->error, sizeof o->error, "%.*s", (int)strcspn(text, "\n"), text);
}

static barid_result say(barid_outbox *o, barid_result result, const char *text) {
    note(o, text);
    return result;
}

static int is_one_of(const char *state, const char *const *list) {
    for (; *list; list++)
        if (strncmp(state, *list, strlen(*list)) == 0) return 1;
    return 0;
}

// Sorts a failed answer, or takes what it says. BARID_FAILED with *again: it may pass.
static barid_result sort(barid_outbox *o, PGconn *c, const PGresult *r, int *again) {
    static const char *const events[] = {"22", "23", "54", NULL};
    static const char *const passing[] = {"40P01", "53", "55", "57014", "58", NULL};
    static const char *const missing[] = {"3F000", "42P01", "42883", NULL};
    const char *state = r ? PQresultErrorField(r, PG_DIAG_SQLSTATE) : NULL;
    const char *text = r ? PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    *again = 0;
    note(o, text ? text : PQerrorMessage(c));
    if (PQstatus(c) != CONNECTION_OK) return BARID_BROKEN;
    if (!r) return BARID_NO_MEMORY;
    if (!state) return BARID_FAILED;
    if (is_one_of(state, events)) return BARID_INVALID;
    if (is_one_of(state, missing)) return BARID_NOT_MIGRATED;
    *again = is_one_of(state, passing);
    return BARID_FAILED;
}

// ---- statements

// Of our own savepoint: what fails here leaves nothing to go on with.
static int command(barid_outbox *o, PGconn *c, const char *sql) {
    PGresult *r = PQexec(c, sql);
    int ok = PQresultStatus(r) == PGRES_COMMAND_OK;
    if (!ok) note(o, PQerrorMessage(c));
    PQclear(r);
    return ok;
}

struct arguments {
    const char *topic, *key, *headers, *id, *error;
    const unsigned char *payload;
    size_t length;
};

static PGresult *call(PGconn *c, const char *sql, const struct arguments *a, int n) {
    static const Oid types[] = {TEXT_OID, TEXT_OID, BYTEA_OID, JSONB_OID, UUID_OID, TEXT_OID};
    const char *values[] = {a->topic, a->key, (const char *)a->payload, a->headers, a->id, a->error};
    const int lengths[] = {0, 0, (int)a->length, 0, 0, 0}, formats[] = {0, 0, 1, 0, 0, 0};
    return PQexecParams(c, sql, n, types, values, lengths, formats, 0);
}

// A call that gives an id, in a savepoint.
static barid_result attempt(barid_outbox *o, PGconn *c, const char *sql, const struct arguments *a, int n, int *again) {
    *again = 0;
    if (!command(o, c, "savepoint barid_store")) return BARID_BROKEN;
    PGresult *r = call(c, sql, a, n);
    if (PQresultStatus(r) == PGRES_TUPLES_OK && PQntuples(r) == 1) {
        snprintf(o->id, sizeof o->id, "%s", PQgetvalue(r, 0, 0));
        PQclear(r);
        return command(o, c, "release savepoint barid_store") ? BARID_STORED : BARID_BROKEN;
    }
    barid_result result = sort(o, c, r, again);
    PQclear(r);
    if (result == BARID_BROKEN) return result;
    char error[ERROR_MAX];
    memcpy(error, o->error, sizeof error);
    if (!command(o, c, "rollback to savepoint barid_store; release savepoint barid_store")) return BARID_BROKEN;
    memcpy(o->error, error, sizeof error);
    return result;
}

// ---- waiting

static uint32_t random_below(barid_outbox *o, uint32_t n) {
    o->random = o->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((o->random >> 33) % n);
}

static void wait_before(barid_outbox *o, unsigned attempt_number) {
    uint64_t most = o->backoff_ms;
    for (unsigned i = 1; i < attempt_number && most < BACKOFF_CAP_MS; i++) most *= 2;
    if (most > BACKOFF_CAP_MS) most = BACKOFF_CAP_MS;
    uint32_t ms = random_below(o, (uint32_t)most + 1);
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    while (nanosleep(&t, &t) != 0 && errno == EINTR) continue;
}

// ---- marking

// Bytes that the database would refuse again.
static char *plain(const char *text) {
    char *out = text ? strdup(text) : NULL;
    for (char *at = out; at && *at; at++)
        if ((unsigned char)*at >= 0x80 || (unsigned char)*at < 0x20) *at = '?';
    return out;
}

static barid_result try_again_and_again(barid_outbox *o, PGconn *c, const char *sql, const struct arguments *a, int n) {
    for (unsigned i = 1;; i++) {
        int again;
        barid_result result = attempt(o, c, sql, a, n, &again);
        if (!again || i >= o->attempts) return result;
        wait_before(o, i);
    }
}

// As it is, or, when that is what is wrong with it, without what the database cannot hold: the id, then the rest.
static barid_result mark(barid_outbox *o, PGconn *c, const struct arguments *a) {
    static const char sql[] = "select barid.park($1, $2, $3, $4, $5, $6)";
    char why[ERROR_MAX], *topic = plain(a->topic), *key = plain(a->key), *error;
    memcpy(why, o->error, sizeof why);
    error = plain(why);
    struct arguments marked = *a;
    marked.error = why;
    barid_result result = try_again_and_again(o, c, sql, &marked, 6);
    marked.id = NULL;
    if (result == BARID_INVALID) result = try_again_and_again(o, c, sql, &marked, 6);
    marked.headers = NULL;
    marked.topic = topic;
    marked.key = key;
    marked.error = error;
    if (result == BARID_INVALID) result = try_again_and_again(o, c, sql, &marked, 6);
    free(topic);
    free(key);
    free(error);
    if (result != BARID_STORED) return result;
    memcpy(o->error, why, sizeof why);
    return BARID_MARKED;
}

// ---- storing

static barid_result check(barid_outbox *o, PGconn *c) {
    if (PQstatus(c) != CONNECTION_OK) return say(o, BARID_BROKEN, "the connection is lost");
    if (PQpipelineStatus(c) != PQ_PIPELINE_OFF)
        return say(o, BARID_NO_TRANSACTION, "the connection is in pipeline mode");
    switch (PQtransactionStatus(c)) {
    case PQTRANS_INTRANS: return BARID_STORED;
    case PQTRANS_INERROR: return say(o, BARID_BROKEN, "the transaction has failed before this call");
    case PQTRANS_ACTIVE: return say(o, BARID_NO_TRANSACTION, "the connection is busy with another command");
    case PQTRANS_IDLE: return say(o, BARID_NO_TRANSACTION, "no transaction is open on the connection");
    case PQTRANS_UNKNOWN: break;
    }
    return say(o, BARID_BROKEN, "the connection is lost");
}

barid_result barid_outbox_store(barid_outbox *o, PGconn *c, const barid_event *e) {
    static const char sql[] = "select barid.publish($1, $2, $3, $4, $5)";
    int none;
    o->id[0] = o->error[0] = 0;
    barid_result result = check(o, c);
    if (result != BARID_STORED) return result;
    if (e->length > INT32_MAX) return say(o, BARID_INVALID, "the payload is larger than a statement may be");
    char *headers = event_headers_json(e, &none);
    if (!headers && !none) return say(o, BARID_NO_MEMORY, "out of memory");
    struct arguments a = {
        .topic = e->topic, .key = e->key, .headers = headers, .id = e->id, .payload = e->payload, .length = e->length};
    result = try_again_and_again(o, c, sql, &a, 5);
    if (result == BARID_INVALID && o->mark_invalid) result = mark(o, c, &a);
    if (result == BARID_STORED) o->error[0] = 0;
    free(headers);
    return result;
}
