// Telling: what a unit says with db_notify is kept until its commit is confirmed, and sent then, without waiting.
//
// Not in the unit's transaction, though PostgreSQL can: there it takes one lock for all commits that notify, and holds
// it until the commit is on disk, so that these commits no longer share a sync. Eight connections did 290 units a
// second that way instead of 2,600. A transaction that only notifies has nothing to sync.
#include "database/postgres.h"

#include "base/assert.h"

#include <stdlib.h>
#include <string.h>

#define PAYLOAD_MAX 7999 // PostgreSQL's
#define TYPE_TEXT   25

void postgres_forget_said(struct postgres_db *db) {
    for (unsigned i = 0; i < db->said_count; i++) {
        free(db->said[i].channel);
        free(db->said[i].payload);
    }
    db->said_count = 0;
}

static bool was_said(const struct postgres_db *db, const char *channel, const char *payload) {
    for (unsigned i = 0; i < db->said_count; i++)
        if (strcmp(db->said[i].channel, channel) == 0 && strcmp(db->said[i].payload, payload) == 0) return true;
    return false;
}

enum err postgres_notify(struct db *base, const char *channel, const char *payload) {
    struct postgres_db *db = (struct postgres_db *)base;
    ASSERT(db->begun && db->role == DB_WRITER);
    if (!payload) payload = "";
    if (strlen(payload) > PAYLOAD_MAX)
        return error_set(base->error, ERR_TOO_LARGE, "a notice has at most %d bytes", PAYLOAD_MAX);
    if (was_said(db, channel, payload)) return ERR_OK;
    if (db->said_count == POSTGRES_SAID)
        return error_set(base->error, ERR_LIMIT, "a unit gives at most %d notices", POSTGRES_SAID);
    struct postgres_said *s = &db->said[db->said_count++];
    *s = (struct postgres_said){.channel = strdup(channel), .payload = strdup(payload)};
    if (!s->channel || !s->payload) die("no memory for a notice");
    return ERR_OK;
}

// What goes wrong here is the next unit's business: a connection that is lost now is found so then.
void postgres_say(struct postgres_db *db) {
    static const Oid types[] = {TYPE_TEXT, TYPE_TEXT};
    bool asked = db->said_count > 0;
    for (unsigned i = 0; i < db->said_count && asked; i++) {
        const char *values[] = {db->said[i].channel, db->said[i].payload};
        int sent = PQsendQueryParams(db->conn, "select pg_notify($1, $2)", 2, types, values, NULL, NULL, 1);
        asked = postgres_request(db, sent, NULL, 0);
    }
    if (asked) postgres_leave(db);
    postgres_forget_said(db);
}
