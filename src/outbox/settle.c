// Writing down what became of events: one unit for many of them.
#include "outbox/internal.h"

static struct db_sql delete_sql = {.text = "delete from outbox where id = ?1"};
static struct db_sql retry_sql = {
    .text = "update outbox set attempts = ?2, next_at = ?3, error = ?4 where id = ?1",
};
static struct db_sql park_sql = {
    .text = "update outbox set attempts = ?2, state = 1, parked_at = ?3, error = ?4 where id = ?1",
};

static enum err published(struct db *db, struct settle *s, const struct row *r) {
    struct db_stmt *statement = db_prepare(db, &delete_sql);
    db_bind_int(statement, 1, r->id);
    enum err err = db_run(statement);
    if (err || !s->o->options.on_published) return err;
    return s->o->options.on_published(db, &r->event_id, r->topic, r->key_text ? r->key_text : "", r->payload,
                                      r->payload_length, s->at_ms);
}

static enum err failed(struct db *db, struct settle *s, const struct row *r, struct db_sql *sql, int64_t at_ms) {
    struct db_stmt *statement = db_prepare(db, sql);
    db_bind_int(statement, 1, r->id);
    db_bind_int(statement, 2, r->attempts);
    db_bind_int(statement, 3, at_ms);
    db_bind_text(statement, 4, r->error);
    return db_run(statement);
}

enum err settle_run(struct db *db, struct db_unit *u) {
    struct settle *s = (struct settle *)u;
    enum err err = ERR_OK;
    LIST_EACH(&s->rows, at) {
        const struct row *r = LIST_ITEM(at, struct row, in_settle);
        switch (r->outcome) {
        case ROW_PUBLISHED: err = published(db, s, r); break;
        case ROW_WAIT: // not here
        case ROW_RETRY: err = failed(db, s, r, &retry_sql, s->at_ms + r->wait_ms); break;
        case ROW_BLOCK: // not here
        case ROW_PARK: err = failed(db, s, r, &park_sql, s->at_ms); break;
        }
        if (err) return err;
    }
    return ERR_OK;
}
