// Notices to other servers, made inside units (homes.h).
#include "chat/homes.h"

#include <stdio.h>
#include <stdlib.h>

#define NOTICE_MAX 7900 // PostgreSQL takes less than 8,000 bytes

void tell_init(struct tell *t, struct db *db) { *t = (struct tell){.db = db}; }

void tell_entry(struct tell *t, int64_t server, int64_t did, uint64_t cursor) {
    if (server == 0) return;
    t->entries = chat_room(t->entries, t->n, &t->cap, sizeof *t->entries);
    t->entries[t->n++] = (struct tell_entry){.server = server, .did = did, .cursor = cursor};
}

static int by_server(const void *a, const void *b) {
    const struct tell_entry *x = a, *y = b;
    if (x->server != y->server) return x->server < y->server ? -1 : 1;
    return (x->did > y->did) - (x->did < y->did);
}

enum err homes_tell(struct db *db, int64_t server, const char *text) {
    char channel[40];
    snprintf(channel, sizeof channel, "barid_server_%lld", (long long)server);
    return db_notify(db, channel, text);
}

enum err tell_end(struct tell *t) {
    char text[NOTICE_MAX + 64];
    size_t n = 0;
    enum err err = ERR_OK;
    if (t->n > 0) qsort(t->entries, t->n, sizeof t->entries[0], by_server);
    for (size_t i = 0; i < t->n && err == ERR_OK; i++) {
        const struct tell_entry *e = &t->entries[i];
        if (n == 0) text[n++] = 'e';
        n +=
            (size_t)snprintf(text + n, sizeof text - n, " %lld:%llu", (long long)e->did, (unsigned long long)e->cursor);
        bool last = i + 1 == t->n || t->entries[i + 1].server != e->server;
        if (!last && n < NOTICE_MAX) continue;
        err = homes_tell(t->db, e->server, text);
        n = 0;
    }
    free(t->entries);
    *t = (struct tell){0};
    return err;
}

enum err homes_tell_session(struct db *db, int64_t did) {
    char text[24];
    if (db_kind(db) == DATABASE_SQLITE) return ERR_OK;
    snprintf(text, sizeof text, "%lld", (long long)did);
    return db_notify(db, "barid_sessions", text);
}
