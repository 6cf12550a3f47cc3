// Writing down what became of events on PostgreSQL: one statement for all that were taken, one for all that were not.
//
// What another process has changed meanwhile, because it was lent the bucket, stays as it is.
#include "outbox/internal.h"

#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

// A deletion that a crash of the server takes back only has the event published again, which the inbox drops: nobody
// has to wait for the disk. With something else in the transaction (on_published, failures) it is durable as usual.
#define ASYNCHRONOUS "(select set_config('synchronous_commit', 'off', true)) is not null and "

// The ids are an array and no join: a join that was planned while the table was empty reads all of it, each time.
#define DELETE(table, which)                                                                                           \
    { .text = "select 1 where 0", .postgres = "delete from barid." table " where " which "id = any(?1::bigint[])" }

static struct db_sql delete_outbox_sql = DELETE("outbox", ASYNCHRONOUS);
static struct db_sql delete_outbox_durably_sql = DELETE("outbox", "");
static struct db_sql delete_inbox_sql = DELETE("inbox_queue", "consumer = ?2::text and ");

#define FAILED(table, which)                                                                                           \
    {                                                                                                                  \
        .text = "select 1 where 0",                                                                                    \
        .postgres = "update barid." table " q set attempts = f.attempts, state = f.state, error = f.error, "           \
                    "next_at = case when f.state = 0 then clock_timestamp() + f.wait_ms * interval '1 ms' end, "       \
                    "parked_at = case when f.state <> 0 then clock_timestamp() end "                                   \
                    "from unnest(?1::bigint[], ?2::bigint[], ?3::bigint[], ?4::bigint[], ?5::text[]) "                 \
                    "f(id, attempts, state, wait_ms, error) where q.state = 0 and " which                              \
                    "q.id = any(?1::bigint[]) and q.id = f.id",                                                        \
    }

static struct db_sql failed_outbox_sql = FAILED("outbox", "");
static struct db_sql failed_inbox_sql = FAILED("inbox_queue", "q.consumer = ?6::text and ");

struct columns {
    int64_t *deleted, *failed, *attempts, *state, *wait_ms;
    const char **error;
    size_t deleted_n, failed_n;
};

static bool columns_of(struct settle *s, struct columns *c, int64_t **memory, const char ***texts) {
    *memory = malloc(5 * (s->n + 1) * sizeof **memory);
    *texts = malloc((s->n + 1) * sizeof **texts);
    if (!*memory || !*texts) return false;
    size_t n = s->n + 1;
    *c = (struct columns){.deleted = *memory,
                          .failed = *memory + n,
                          .attempts = *memory + 2 * n,
                          .state = *memory + 3 * n,
                          .wait_ms = *memory + 4 * n,
                          .error = *texts};
    LIST_EACH(&s->rows, at) {
        const struct row *r = LIST_ITEM(at, struct row, in_settle);
        if (r->outcome == ROW_PUBLISHED) {
            c->deleted[c->deleted_n++] = r->id;
            continue;
        }
        c->failed[c->failed_n] = r->id;
        c->attempts[c->failed_n] = r->attempts;
        c->state[c->failed_n] = r->outcome == ROW_RETRY || r->outcome == ROW_WAIT ? 0 : r->outcome == ROW_PARK ? 1 : 2;
        c->wait_ms[c->failed_n] = r->wait_ms;
        c->error[c->failed_n++] = utf8_valid(r->error, strlen(r->error)) ? r->error : "the error is not text";
    }
    return true;
}

static enum err delete_them(struct db *db, const struct settle *s, const struct columns *c) {
    const char *consumer = s->o->options.table.consumer;
    bool durably = c->failed_n || s->o->options.on_published;
    struct db_stmt *statement = db_prepare(db, consumer  ? &delete_inbox_sql
                                               : durably ? &delete_outbox_durably_sql
                                                         : &delete_outbox_sql);
    db_bind_ints(statement, 1, c->deleted, c->deleted_n);
    if (consumer) db_bind_text(statement, 2, consumer);
    return db_run(statement);
}

static enum err fail_them(struct db *db, const struct settle *s, const struct columns *c) {
    const char *consumer = s->o->options.table.consumer;
    struct db_stmt *statement = db_prepare(db, consumer ? &failed_inbox_sql : &failed_outbox_sql);
    db_bind_ints(statement, 1, c->failed, c->failed_n);
    db_bind_ints(statement, 2, c->attempts, c->failed_n);
    db_bind_ints(statement, 3, c->state, c->failed_n);
    db_bind_ints(statement, 4, c->wait_ms, c->failed_n);
    db_bind_texts(statement, 5, c->error, c->failed_n);
    if (consumer) db_bind_text(statement, 6, consumer);
    return db_run(statement);
}

static enum err tell_of(struct db *db, struct settle *s) {
    LIST_EACH(&s->rows, at) {
        const struct row *r = LIST_ITEM(at, struct row, in_settle);
        if (r->outcome != ROW_PUBLISHED) continue;
        enum err err = s->o->options.on_published(db, &r->event_id, r->topic, r->key_text ? r->key_text : "",
                                                  r->payload, r->payload_length, s->at_ms);
        if (err) return err;
    }
    return ERR_OK;
}

enum err settle_run_postgres(struct db *db, struct db_unit *u) {
    struct settle *s = (struct settle *)u;
    struct columns c = {0};
    int64_t *memory;
    const char **texts;
    enum err err = ERR_OK;
    if (!columns_of(s, &c, &memory, &texts)) err = error_set(db_error(db), ERR_NOMEM, "no memory for the outbox");
    if (!err && c.deleted_n) err = delete_them(db, s, &c);
    if (!err && c.failed_n) err = fail_them(db, s, &c);
    if (!err && c.deleted_n && s->o->options.on_published) err = tell_of(db, s);
    free(memory);
    free(texts);
    return err;
}
