// Requests and answers. The connection is in libpq's pipeline mode: requests are put together and go out when somebody
// wants an answer, so that BEGIN, the settings of a transaction, statements whose outcome nobody looks at and the one
// that is waited for cost one round trip.
//
//   request request request | sync  ──>
//   answer  answer  answer  | sync  <──   after an error the server skips all up to the sync
//
// Every wait has an end: a server that is silent for longer than any statement may take is given up, and its connection
// with it. A pipeline of many statements may take longer than that, as long as it moves. To be seen moving it asks for
// its answers now and then: by itself the server keeps them until the sync, or until they fill its buffer.
#include "database/postgres.h"

#include "base/assert.h"
#include "base/log.h"
#include "database/postgres_health.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#define ANSWERS_EVERY 8 // requests: each time is one more packet

static enum err note(struct postgres_db *db, enum postgres_fate fate, const struct error *e) {
    if (db->failed.code) return db->failed.code;
    db->failed = *e;
    db->fate = fate;
    return e->code;
}

static enum err lost(struct postgres_db *db, const char *doing) {
    struct error e = {0};
    db->requested = 0;
    db->unread = false;
    postgres_lost(db->conn, doing, &e);
    db->fate = FATE_LOST;
    return note(db, FATE_LOST, &e);
}

bool postgres_request(struct postgres_db *db, int sent, struct postgres_stmt *s, uint64_t prepares) {
    if (!sent) {
        lost(db, "asking");
        return false;
    }
    ASSERT(db->requested < POSTGRES_PIPELINE);
    db->requests[db->requested++] = (struct postgres_request){.stmt = s, .prepares = prepares};
    if (db->requested % ANSWERS_EVERY == 0 && !PQsendFlushRequest(db->conn)) {
        lost(db, "asking");
        return false;
    }
    return true;
}

bool postgres_ask_plain(struct postgres_db *db, const char *text) {
    return postgres_request(db, PQsendQueryParams(db->conn, text, 0, NULL, NULL, NULL, NULL, 1), NULL, 0);
}

bool postgres_begin_unsent(struct postgres_db *db) {
    if (!db->begun || db->begin_sent) return true;
    db->begin_sent = true;
    bool writes = db->role == DB_WRITER;
    if (!postgres_ask_plain(db, writes ? "begin isolation level read committed read write"
                                       : "begin isolation level repeatable read read only"))
        return false;
    if (!db->session.pooled) return true;
    return postgres_ask_plain(db,
                              "select set_config('search_path', 'barid' || coalesce(', ' || "
                              "nullif(current_setting('search_path'), ''), ''), true), "
                              "set_config('statement_timeout', '30s', true), set_config('lock_timeout', '10s', true), "
                              "set_config('barid.session', '1', true)");
}

// Until there is something to read, or no hope: neither has the server said anything for so long, nor taken more of
// what we have to say.
static bool wait_for_input(struct postgres_db *db) {
    uint64_t moved_ms = postgres_now_ms(), patience_ms = (uint64_t)db->session.patience_ms;
    for (;;) {
        int unsent = PQflush(db->conn);
        if (unsent < 0) return false;
        uint64_t silent_ms = postgres_now_ms() - moved_ms;
        if (silent_ms >= patience_ms) return false;
        struct pollfd p = {.fd = PQsocket(db->conn), .events = (short)(POLLIN | (unsent ? POLLOUT : 0))};
        int n = poll(&p, 1, (int)(patience_ms - silent_ms));
        if (n < 0 && errno != EINTR) return false;
        if (n <= 0) continue;
        if (p.revents & ~POLLOUT) return PQconsumeInput(db->conn) == 1;
        moved_ms = postgres_now_ms();
    }
}

static void remember_prepared(struct postgres_db *db, const struct postgres_request *q) {
    struct postgres_stmt *s = q->stmt;
    ASSERT(s->variants < POSTGRES_VARIANTS);
    s->prepared[s->variants++] = q->prepares;
}

// Where statements have no names any more, they get on without: a pooler, if it was not one who deallocated them. A
// plan that no longer fits a changed table is made again, under another name.
static void learn_from(struct postgres_db *db, const PGresult *r, enum postgres_fate fate) {
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    if (fate != FATE_AGAIN || !state) return;
    bool nameless = strcmp(state, "26000") == 0 || strcmp(state, "42P05") == 0, stale = strcmp(state, "0A000") == 0;
    if (nameless) db->unnamed = true;
    if (stale) db->generation++;
    if (nameless || stale) postgres_forget_prepared(db);
}

// A server that no longer lets us write has become somebody's standby: the one to write to may be behind the same url.
static void read_only_is_away(struct postgres_db *db, const PGresult *r, struct error *e, enum postgres_fate *fate) {
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    if (db->role != DB_WRITER || !state || strcmp(state, "25006") != 0) return;
    e->code = ERR_UNAVAILABLE;
    *fate = FATE_LOST;
}

// An error answers one request; those behind it are skipped.
static void answer(struct postgres_db *db, const struct postgres_request *q, PGresult *r, PGresult **last) {
    struct error e = {0};
    enum postgres_fate fate;
    switch (PQresultStatus(r)) {
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK:
        if (q && q->prepares) remember_prepared(db, q);
        PQclear(*last);
        *last = r;
        return;
    case PGRES_PIPELINE_ABORTED: PQclear(r); return;
    default:
        if (db->unread) { // nobody's any more
            log_event(LOG_WARN, "database_afterwards", "msg", PQresultErrorMessage(r), NULL);
            PQclear(r);
            return;
        }
        postgres_fail(r, q && q->stmt ? q->stmt->text : NULL, &e, &fate);
        read_only_is_away(db, r, &e, &fate);
        learn_from(db, r, fate);
        note(db, fate, &e);
        PQclear(r);
    }
}

static enum err read_answers(struct postgres_db *db, PGresult **last) {
    unsigned at = 0;
    for (;;) {
        while (PQisBusy(db->conn))
            if (!wait_for_input(db)) return lost(db, "waiting for PostgreSQL");
        PGresult *r = PQgetResult(db->conn);
        if (PQstatus(db->conn) == CONNECTION_BAD) {
            PQclear(r);
            return lost(db, "waiting for PostgreSQL");
        }
        if (!r) {
            at++;
            continue;
        }
        if (PQresultStatus(r) == PGRES_PIPELINE_SYNC) {
            PQclear(r);
            if (db->unread) {
                db->unread = false;
                at++;
                continue;
            }
            db->requested = 0;
            return db->failed.code;
        }
        answer(db, at < db->requested ? &db->requests[at] : NULL, r, last);
    }
}

enum err postgres_collect(struct postgres_db *db, PGresult **last) {
    PGresult *answered = NULL;
    if (db->fate == FATE_LOST) return db->failed.code;
    if (!PQpipelineSync(db->conn)) return lost(db, "asking PostgreSQL");
    enum err err = read_answers(db, &answered);
    if (!err && last) *last = answered;
    else PQclear(answered);
    return err;
}

enum err postgres_leave(struct postgres_db *db) {
    if (db->unread) return postgres_collect(db, NULL); // there are answers enough that nobody has waited for
    ASSERT(db->requested < POSTGRES_PIPELINE);
    if (!PQpipelineSync(db->conn)) return lost(db, "asking PostgreSQL");
    db->requests[db->requested++] = (struct postgres_request){.stmt = NULL};
    db->unread = true;
    return ERR_OK;
}
