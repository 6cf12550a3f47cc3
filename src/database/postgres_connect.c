// Connecting: what a connection is asked for, and whether the session behind it is really ours.
//
// A pooler that hands out a connection for one transaction at a time (PgBouncer's transaction mode) keeps neither
// settings nor prepared statements. It gives itself away at the start: it refuses the start-up parameter `options`, or
// lets it fall under the table. Then the settings go into every transaction, with its BEGIN.
#include "database/postgres.h"

#include "base/assert.h"
#include "database/postgres_health.h"

#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPTIONS_MAX    2048
#define PARAMETERS     64
#define FIRST_QUERY_MS 10000
#define STATEMENT_MS   "30000"
#define SLACK_MS       10000
#define OLDEST         130000 // as libpq numbers servers: pg_current_xact_id(), gen_random_uuid()

// Seconds and milliseconds. A dead peer is noticed in some 20 s, a statement ends after 30.
static const struct {
    const char *key, *value;
} defaults[] = {
    {"connect_timeout", "5"},
    {"keepalives", "1"},
    {"keepalives_idle", "10"},
    {"keepalives_interval", "5"},
    {"keepalives_count", "2"},
    {"tcp_user_timeout", "20000"},
    {"fallback_application_name", "barid"},
};
#define OUR_OPTIONS                                                                                                    \
    "-c barid.session=1 -c statement_timeout=" STATEMENT_MS                                                            \
    " -c lock_timeout=10000 -c idle_in_transaction_session_timeout=60000"

struct parameters {
    const char *keys[PARAMETERS], *values[PARAMETERS];
    char options[OPTIONS_MAX];
    int n;
};

static void add(struct parameters *p, const char *key, const char *value) {
    ASSERT(p->n < PARAMETERS - 1);
    p->keys[p->n] = key;
    p->values[p->n++] = value;
}

static bool has(const struct parameters *p, const char *key) {
    for (int i = 0; i < p->n; i++)
        if (strcmp(p->keys[i], key) == 0) return true;
    return false;
}

// What the url says goes before what we would like. The values stay the url's.
static void parameters_of(struct parameters *p, const PQconninfoOption *given, bool with_options) {
    const char *own = "";
    memset(p, 0, sizeof *p);
    for (const PQconninfoOption *o = given; o->keyword; o++) {
        if (!o->val) continue;
        if (strcmp(o->keyword, "options") == 0) own = o->val;
        else if (strcmp(o->keyword, "client_encoding") != 0) add(p, o->keyword, o->val);
    }
    for (size_t i = 0; i < sizeof defaults / sizeof defaults[0]; i++)
        if (!has(p, defaults[i].key)) add(p, defaults[i].key, defaults[i].value);
    add(p, "client_encoding", "UTF8");
    snprintf(p->options, sizeof p->options, "%s %s", OUR_OPTIONS, own);
    if (with_options) add(p, "options", p->options);
    else if (*own) add(p, "options", own);
}

static bool refuses_options(PGconn *conn) {
    const char *text = PQerrorMessage(conn);
    return strstr(text, "unsupported startup parameter") != NULL;
}

// The error of a connection that did not come about has no SQLSTATE in libpq; its words are all there is.
static enum err refused(PGconn *conn, struct error *e) {
    const char *text = PQerrorMessage(conn);
    enum err err = postgres_lost(conn, "connecting to PostgreSQL", e);
    if (strstr(text, "does not exist") && strstr(text, "database")) err = ERR_NOT_FOUND;
    else if (strstr(text, "authentication failed") || strstr(text, "no password supplied") ||
             strstr(text, "no pg_hba.conf entry") || (strstr(text, "role") && strstr(text, "does not exist")))
        err = ERR_UNAUTHORIZED;
    if (e) e->code = err;
    return err;
}

static PGconn *connect_once(const PQconninfoOption *given, bool with_options) {
    struct parameters p;
    parameters_of(&p, given, with_options);
    PGconn *conn = PQconnectdbParams(p.keys, p.values, 0);
    if (!conn) die("no memory for a connection");
    return conn;
}

static void ignore_notice(void *arg, const PGresult *r) {}

// The result has succeeded; NULL: something failed.
static PGresult *query(PGconn *conn, const char *text, int patience_ms) {
    uint64_t until = postgres_now_ms() + (uint64_t)patience_ms, now;
    if (!PQsendQuery(conn, text)) return NULL;
    while (PQflush(conn) > 0 || PQisBusy(conn)) {
        struct pollfd p = {.fd = PQsocket(conn), .events = POLLIN};
        if ((now = postgres_now_ms()) >= until) return NULL;
        if (poll(&p, 1, (int)(until - now)) > 0 && !PQconsumeInput(conn)) return NULL;
    }
    PGresult *r = PQgetResult(conn), *more;
    while ((more = PQgetResult(conn))) PQclear(more);
    if (PQresultStatus(r) == PGRES_COMMAND_OK || PQresultStatus(r) == PGRES_TUPLES_OK) return r;
    PQclear(r);
    return NULL;
}

bool postgres_ask(PGconn *conn, const char *text, int patience_ms) {
    PGresult *r = query(conn, text, patience_ms);
    PQclear(r);
    return r != NULL;
}

// The server's limit for a statement, and some time for it to say so; 0: no limit.
static int patience(const char *statement_ms) {
    long limit = strtol(statement_ms, NULL, 10);
    if (limit <= 0 || limit > INT_MAX - SLACK_MS) return INT_MAX;
    return (int)limit + SLACK_MS;
}

static enum err too_old(PGconn *conn, struct error *e) {
    int version = PQserverVersion(conn);
    return error_set(e, ERR_VERSION, "PostgreSQL %d.%d is too old: barid needs %d or newer", version / 10000,
                     version % 10000, OLDEST / 10000);
}

// One row when the start-up options came through; the search path is then set for good.
static enum err make_ours(PGconn *conn, bool pipeline, struct postgres_session *session, struct error *e) {
    if (PQserverVersion(conn) < OLDEST) return too_old(conn, e);
    PQsetNoticeReceiver(conn, ignore_notice, NULL);
    PGresult *r = query(conn,
                        "select set_config('search_path', 'barid' || coalesce(', ' || "
                        "nullif(current_setting('search_path'), ''), ''), false), "
                        "(select setting from pg_settings where name = 'statement_timeout') "
                        "where current_setting('barid.session', true) = '1'",
                        FIRST_QUERY_MS);
    if (!r) return postgres_lost(conn, "beginning a session", e);
    session->pooled = PQntuples(r) == 0;
    session->patience_ms = patience(session->pooled ? STATEMENT_MS : PQgetvalue(r, 0, 1));
    PQclear(r);
    if (pipeline && (!PQenterPipelineMode(conn) || PQsetnonblocking(conn, 1)))
        return postgres_lost(conn, "beginning a session", e);
    return ERR_OK;
}

// libpq may repeat the url, with the password in it.
static enum err wrong_url(char *said, struct error *e) {
    bool secret = !said || strstr(said, "://");
    error_set(e, ERR_INVALID, "the database's url: %.*s", secret ? 20 : (int)strcspn(said, "\n"),
              secret ? "libpq cannot read it" : said);
    PQfreemem(said);
    return ERR_INVALID;
}

enum err postgres_connect(const char *url, bool pipeline, PGconn **out, struct postgres_session *session,
                          struct error *e) {
    char *wrong = NULL;
    PQconninfoOption *given = PQconninfoParse(url, &wrong);
    if (!given) return wrong_url(wrong, e);
    PGconn *conn = connect_once(given, true);
    if (PQstatus(conn) != CONNECTION_OK && refuses_options(conn)) {
        PQfinish(conn);
        conn = connect_once(given, false);
    }
    PQconninfoFree(given);
    enum err err = PQstatus(conn) == CONNECTION_OK ? make_ours(conn, pipeline, session, e) : refused(conn, e);
    if (err) {
        PQfinish(conn);
        return err;
    }
    *out = conn;
    return ERR_OK;
}
