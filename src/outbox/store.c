// Putting an event into the outbox, in the transaction of the change it tells of.
#include "outbox/outbox.h"

static struct db_sql insert_sql = {
    .text = "insert into outbox (event_id, topic, key, payload, stored_at) values (?1, ?2, ?3, ?4, ?5)",
};

enum err outbox_store(struct db *db, const struct bus_event *event, int64_t now_ms) {
    struct db_stmt *s = db_prepare(db, &insert_sql);
    db_bind_id(s, 1, &event->event_id);
    db_bind_text(s, 2, event->topic);
    db_bind_text(s, 3, event->key ? event->key : "");
    db_bind_blob(s, 4, event->payload_length ? event->payload : "", event->payload_length);
    db_bind_int(s, 5, now_ms);
    return db_run(s);
}
