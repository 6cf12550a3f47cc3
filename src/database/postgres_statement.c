// PostgreSQL's statements: known to the connection by slot, prepared on the server at their first step for the kinds of
// parameters that were bound, and again under another name when these change.
//
// The name is made of the text and the kinds, so that two sessions that meet on one server connection behind a pooler
// can never run each other's statements.
#include "database/postgres.h"

#include "base/assert.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void grow(struct postgres_db *db, uint32_t slot) {
    uint32_t slots = db->slots ? db->slots : 64;
    while (slots <= slot) slots *= 2;
    struct postgres_stmt **grown = realloc(db->stmts, slots * sizeof(struct postgres_stmt *));
    if (!grown) die("no memory for statements");
    memset(grown + db->slots, 0, (slots - db->slots) * sizeof(struct postgres_stmt *));
    db->stmts = grown;
    db->slots = slots;
}

// Where the quoted text or the comment that begins here ends; `at` itself when there is none.
static const char *skip_quoted(const char *at) {
    if (at[0] == '-' && at[1] == '-') return at + strcspn(at, "\n");
    if (*at == '\'' || *at == '"') {
        const char *end = strchr(at + 1, *at); // a doubled quote is two quoted texts, side by side
        return end ? end + 1 : at + strlen(at);
    }
    if (at[0] != '$' || (!isalpha((unsigned char)at[1]) && at[1] != '$' && at[1] != '_')) return at;
    size_t tag = 1 + strcspn(at + 1, "$ \n");
    if (at[tag] != '$' || tag > 60) return at;
    char close[64];
    memcpy(close, at, tag + 1);
    close[tag + 1] = 0;
    const char *end = strstr(at + tag + 1, close);
    return end ? end + tag + 1 : at;
}

// ?1 becomes $1, but not within quotes.
static void translate(struct postgres_stmt *s, const char *text) {
    char *out = s->text = strdup(text);
    if (!out) die("no memory for a statement");
    for (const char *at = text; *at;) {
        const char *quoted = skip_quoted(at);
        if (quoted > at) {
            at = quoted;
        } else if (*at == '?' && isdigit((unsigned char)at[1])) {
            int n = (int)strtol(at + 1, NULL, 10);
            if (n < 1 || n > POSTGRES_PARAMETERS) die("parameter ?%d in: %s", n, text);
            if (n > s->parameters) s->parameters = n;
            out[at - text] = '$';
            at++;
        } else {
            at++;
        }
    }
}

static struct postgres_stmt *compile(struct postgres_db *db, const struct db_sql *sql) {
    struct postgres_stmt *s = calloc(1, sizeof *s);
    if (!s) die("no memory for a statement");
    s->base.driver = &postgres_driver;
    s->db = db;
    translate(s, sql->postgres ? sql->postgres : sql->text);
    return s;
}

static void rewind_statement(struct postgres_stmt *s) {
    PQclear(s->result);
    s->result = NULL;
    s->running = false;
}

struct db_stmt *postgres_prepare(struct db *base, const struct db_sql *sql, uint32_t slot) {
    struct postgres_db *db = (struct postgres_db *)base;
    if (slot >= db->slots) grow(db, slot);
    struct postgres_stmt *s = db->stmts[slot];
    if (!s) s = db->stmts[slot] = compile(db, sql);
    rewind_statement(s);
    postgres_unbind(s);
    if (s->used) return &s->base;
    s->used = true;
    s->next_used = db->used;
    db->used = s;
    return &s->base;
}

// Bindings point into the unit's memory, and results may be large.
void postgres_end_unit(struct db *base) {
    struct postgres_db *db = (struct postgres_db *)base;
    while (db->used) {
        struct postgres_stmt *s = db->used;
        db->used = s->next_used;
        s->used = false;
        rewind_statement(s);
        postgres_unbind(s);
    }
}

void postgres_free_statements(struct postgres_db *db) {
    postgres_end_unit(&db->base);
    for (uint32_t i = 0; i < db->slots; i++) {
        if (!db->stmts[i]) continue;
        free(db->stmts[i]->text);
        free(db->stmts[i]);
    }
    free(db->stmts);
    db->stmts = NULL;
    db->slots = 0;
}

void postgres_forget_prepared(struct postgres_db *db) {
    for (uint32_t i = 0; i < db->slots; i++)
        if (db->stmts[i]) db->stmts[i]->variants = 0;
}

// FNV-1a, 64 bits, never 0.
static uint64_t name_of(const struct postgres_stmt *s) {
    uint64_t h = 0xcbf29ce484222325u;
    for (const char *at = s->text; *at; at++) h = (h ^ (uint8_t)*at) * 0x100000001b3u;
    for (int i = 0; i < s->parameters; i++) h = (h ^ s->bound[i].type) * 0x100000001b3u;
    h = (h ^ s->db->generation) * 0x100000001b3u;
    return h ? h : 1;
}

static bool is_prepared(const struct postgres_stmt *s, uint64_t name) {
    for (int i = 0; i < s->variants; i++)
        if (s->prepared[i] == name) return true;
    return false;
}

// How many preparations of this statement are unanswered; whether this one is among them.
static int on_their_way(const struct postgres_db *db, const struct postgres_stmt *s, uint64_t name, bool *this_one) {
    int n = 0;
    for (unsigned i = 0; i < db->requested; i++) {
        if (db->requests[i].stmt != s || !db->requests[i].prepares) continue;
        n++;
        if (db->requests[i].prepares == name) *this_one = true;
    }
    return n;
}

static bool send_execution(struct postgres_stmt *s) {
    struct postgres_db *db = s->db;
    Oid types[POSTGRES_PARAMETERS];
    const char *values[POSTGRES_PARAMETERS];
    int sizes[POSTGRES_PARAMETERS], binary[POSTGRES_PARAMETERS], n = s->parameters;
    for (int i = 0; i < n; i++) {
        types[i] = s->bound[i].type;
        values[i] = s->bound[i].value;
        sizes[i] = s->bound[i].size;
        binary[i] = 1;
    }
    uint64_t key = name_of(s);
    bool known = is_prepared(s, key);
    int variants = s->variants + on_their_way(db, s, key, &known);
    if (db->unnamed || db->migrating || (!known && variants >= POSTGRES_VARIANTS))
        return postgres_request(db, PQsendQueryParams(db->conn, s->text, n, types, values, sizes, binary, 1), s, 0);
    char name[32];
    snprintf(name, sizeof name, "barid_%016llx", (unsigned long long)key);
    if (!known && !postgres_request(db, PQsendPrepare(db->conn, name, s->text, n, types), s, key)) return false;
    return postgres_request(db, PQsendQueryPrepared(db->conn, name, n, values, sizes, binary, 1), s, 0);
}

// What the unit began with goes in front; a full pipeline is emptied first.
static bool send_statement(struct postgres_stmt *s) {
    struct postgres_db *db = s->db;
    ASSERT(db->begun);
    if (db->failed.code) return false;
    if (db->requested + 5 > POSTGRES_PIPELINE && postgres_collect(db, NULL)) return false;
    return postgres_begin_unsent(db) && send_execution(s);
}

static int failed(struct postgres_db *db) {
    if (db->base.error && db->base.error->code != db->failed.code) *db->base.error = db->failed;
    return -(int)db->failed.code;
}

static void note_changes(struct postgres_db *db, PGresult *r) {
    if (PQresultStatus(r) != PGRES_COMMAND_OK && strncmp(PQcmdStatus(r), "SELECT", 6) == 0) return;
    db->changes = strtoll(PQcmdTuples(r), NULL, 10);
}

static int run(struct postgres_stmt *s) {
    struct postgres_db *db = s->db;
    rewind_statement(s);
    if (!send_statement(s) || postgres_collect(db, &s->result)) return failed(db);
    note_changes(db, s->result);
    s->running = true;
    s->row = -1;
    return 0;
}

int postgres_step(struct db_stmt *base) {
    struct postgres_stmt *s = (struct postgres_stmt *)base;
    if (!s->running) {
        int err = run(s);
        if (err) return err;
    }
    if (++s->row < PQntuples(s->result)) return DB_ROW;
    rewind_statement(s);
    return DB_DONE;
}

enum err postgres_run_later(struct db_stmt *base) {
    struct postgres_stmt *s = (struct postgres_stmt *)base;
    rewind_statement(s);
    return send_statement(s) ? ERR_OK : (enum err) - failed(s->db);
}

int64_t postgres_changes(struct db *base) { return ((struct postgres_db *)base)->changes; }
