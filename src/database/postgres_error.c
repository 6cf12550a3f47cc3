// What PostgreSQL's errors mean: whose fault it is, and whether the unit may run again.
//
// A statement of ours that the server does not understand is a programmer's error and ends the process, as it does with
// SQLite. Not so inside a function (there is a context then: it may be a user's), and not when a table or a column is
// missing: then the schema is older than the program.
#include "database/postgres.h"

#include "base/assert.h"

#include <string.h>

struct meaning {
    const char *state; // the beginning of a SQLSTATE; the first that fits counts
    enum err err;
    enum postgres_fate fate;
};

static const struct meaning meanings[] = {
    {"40001", ERR_BUSY, FATE_AGAIN},       // serialization failure
    {"40P01", ERR_BUSY, FATE_AGAIN},       // deadlock
    {"55P03", ERR_BUSY, FATE_AGAIN},       // lock not available
    {"26000", ERR_DATABASE, FATE_AGAIN},   // no such prepared statement
    {"42P05", ERR_DATABASE, FATE_AGAIN},   // such a prepared statement is there already
    {"57P01", ERR_UNAVAILABLE, FATE_LOST}, // shut down by the administrator
    {"57P02", ERR_UNAVAILABLE, FATE_LOST}, // after a crash of another
    {"57P03", ERR_UNAVAILABLE, FATE_LOST}, // starting up
    {"57P04", ERR_UNAVAILABLE, FATE_LOST}, // the database was dropped
    {"57P05", ERR_UNAVAILABLE, FATE_LOST}, // idle for too long
    {"25P03", ERR_UNAVAILABLE, FATE_LOST}, // idle in a transaction for too long
    {"08", ERR_UNAVAILABLE, FATE_LOST},    // connection exceptions; PgBouncer's, too
    {"53300", ERR_UNAVAILABLE, FATE_LOST}, // too many connections
    {"57014", ERR_TIMEOUT, FATE_SURE},     // cancelled: the time limit of a statement
    {"53100", ERR_FULL, FATE_SURE},        // disk full
    {"53200", ERR_NOMEM, FATE_SURE},       // out of memory, on the server
    {"54", ERR_TOO_LARGE, FATE_SURE},      // a limit of the server
    {"23", ERR_CONFLICT, FATE_SURE},       // constraints
    {"22", ERR_INVALID, FATE_SURE},        // values
    {"28", ERR_UNAUTHORIZED, FATE_SURE},   // password, role
    {"3D000", ERR_NOT_FOUND, FATE_SURE},   // no such database
    {"42501", ERR_FORBIDDEN, FATE_SURE},   // privileges
    {"XX001", ERR_CORRUPT, FATE_SURE},     // damaged data
    {"XX002", ERR_CORRUPT, FATE_SURE},     // a damaged index
    {"", ERR_DATABASE, FATE_SURE},
};

static const struct meaning *meaning_of(const char *state) {
    const struct meaning *m = meanings;
    while (strncmp(state, m->state, strlen(m->state)) != 0) m++;
    return m;
}

static bool starts(const char *state, const char *with) { return strncmp(state, with, strlen(with)) == 0; }

// Tables, columns, functions, schemas, types: what a migration would bring.
static bool schema_is_missing(const char *state) {
    static const char *const missing[] = {"42P01", "42703", "42883", "42704", "3F000"};
    for (size_t i = 0; i < sizeof missing / sizeof missing[0]; i++)
        if (starts(state, missing[i])) return true;
    return false;
}

// "The connection is lost" from within a function is about one that the function has: ours goes on.
static const struct meaning of_a_function = {"", ERR_DATABASE, FATE_SURE};

static bool ends_the_session(const PGresult *r) {
    const char *severity = PQresultErrorField(r, PG_DIAG_SEVERITY_NONLOCALIZED);
    return !severity || strcmp(severity, "ERROR") != 0;
}

static bool plan_is_stale(const PGresult *r, const char *state) {
    const char *function = PQresultErrorField(r, PG_DIAG_SOURCE_FUNCTION);
    return starts(state, "0A000") && function && strcmp(function, "RevalidateCachedQuery") == 0;
}

enum err postgres_fail(const PGresult *r, const char *text, struct error *e, enum postgres_fate *fate) {
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE), *said = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
    bool inside = PQresultErrorField(r, PG_DIAG_CONTEXT) != NULL;
    *fate = FATE_SURE;
    if (!state) {
        *fate = FATE_LOST;
        return error_set(e, ERR_UNAVAILABLE, "the connection to PostgreSQL is lost");
    }
    const struct meaning *m = meaning_of(state);
    if (m->fate == FATE_LOST && inside && !ends_the_session(r)) m = &of_a_function;
    *fate = plan_is_stale(r, state) ? FATE_AGAIN : m->fate;
    if (!said) said = "an error without words";
    if (schema_is_missing(state) && !inside)
        return error_set(e, ERR_DATABASE, "%s: is the schema there? `barid migrate` brings it", said);
    if (starts(state, "42") && m->err == ERR_DATABASE && m->fate == FATE_SURE && !inside && text)
        die("a statement is wrong: %s: %s", said, text);
    return error_set(e, m->err, "%s (SQLSTATE %s)", said, state);
}

enum err postgres_lost(PGconn *conn, const char *doing, struct error *e) {
    char said[160];
    const char *text = PQerrorMessage(conn);
    size_t n = strcspn(text, "\n");
    if (n >= sizeof said) n = sizeof said - 1;
    memcpy(said, text, n);
    said[n] = 0;
    return error_set(e, ERR_UNAVAILABLE, "%s: %s", doing, n ? said : "the connection to PostgreSQL is lost");
}
