// Operations: from a call of chat.h to the database and back (internal.h draws it).
#include "base/log.h"
#include "chat/homes.h"

#include <stdlib.h>
#include <string.h>

#define CAP_FIRST 4

void *chat_alloc(size_t size) {
    void *p = calloc(1, size);
    if (p == NULL) die("out of memory");
    return p;
}

char *chat_copy(const char *text) {
    if (text == NULL) return NULL;
    char *copy = strdup(text);
    if (copy == NULL) die("out of memory");
    return copy;
}

void *chat_room(void *array, size_t n, size_t *cap, size_t size) {
    if (n < *cap) return array;
    *cap = *cap == 0 ? CAP_FIRST : *cap * 2;
    void *more = realloc(array, *cap * size);
    if (more == NULL) die("out of memory");
    return more;
}

void op_drop(struct op *op) {
    struct chat *c = op->chat;
    if (op->release != NULL) op->release(op);
    free(op);
    chat_leave(c);
}

// A unit whose commit got no answer may have been committed all the same: what it would have shown has to be looked
// for.
void op_end(struct op *op, enum err err) {
    void (*over)(struct op * op) = op->over;
    op->held = false;
    op->over = NULL;
    if (over != NULL) over(op);
    if (err == ERR_UNAVAILABLE && !op->unit.read_only) homes_look(op->chat);
    if (!op->chat->closing) op->answer(op, err);
    if (!op->held) op_drop(op);
}

static void op_done(struct db_unit *u, enum err err) { op_end((struct op *)u, err); }

static void op_posted(struct loop_post *p) {
    struct op *op = LIST_ITEM(p, struct op, post);
    op_end(op, op->early);
}

void *op_new(struct chat *c, size_t size, enum err (*run)(struct db *db, struct db_unit *u),
             void (*answer)(struct op *op, enum err err)) {
    ASSERT(size >= sizeof(struct op));
    struct op *op = chat_alloc(size);
    op->unit.run = run;
    op->unit.done = op_done;
    op->chat = c;
    op->answer = answer;
    op->post.fn = op_posted;
    chat_enter(c);
    return op;
}

// FNV-1a; 0 would be no order.
void op_order(struct op *op, const void *name, size_t n) {
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++) h = (h ^ ((const uint8_t *)name)[i]) * 16777619u;
    op->unit.lane = h != 0 ? h : 1;
}

bool chat_transient(enum err err) {
    return err == ERR_FULL || err == ERR_BUSY || err == ERR_NOMEM || err == ERR_UNAVAILABLE || err == ERR_TIMEOUT;
}

void op_submit(struct op *op) {
    op->unit.error.code = ERR_OK;
    op->server = homes_server(op->chat);
    enum err err = database_submit(op->chat->database, &op->unit);
    if (err != ERR_OK) op_finish(op, err);
}

void op_finish(struct op *op, enum err err) {
    op->early = err;
    loop_post(op->chat->loop, &op->post);
}

void op_hold(struct op *op) { op->held = true; }

const struct error *op_error(struct op *op, enum err err) {
    if (err == ERR_OK) return NULL;
    if (op->unit.error.code != err) {
        op->unit.error = (struct error){0};
        error_set(&op->unit.error, err, "%s", err_text(err));
    }
    return &op->unit.error;
}

enum err run_ints(struct db *db, struct db_sql *sql, const int64_t *values, size_t n) {
    struct db_stmt *s = db_prepare(db, sql);
    for (size_t i = 0; i < n; i++) db_bind_int(s, (int)i + 1, values[i]);
    return db_run(s);
}

void log_point(const char *event, const struct id *message_id) {
    char text[ID_TEXT];
    id_format(message_id, text);
    log_event(LOG_DEBUG, event, "message_id", text, NULL);
}
