// Conversations: a name, a title, and members that are decided when it is made.
#include "base/conversation_id.h"
#include "base/utf8.h"
#include "chat/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TITLE_MAX 200
#define LIST_MAX  1000  // the newest
#define NAMES_MAX 20000 // of members in a list; the conversations that fit, but one in any case

struct name {
    char text[NAME_MAX_LENGTH + 1];
};

// One conversation as the database has it; members are a slice of the result's names.
struct found {
    int64_t cid;
    struct name id, created_by;
    char title[TITLE_MAX + 1];
    bool has_title;
    int64_t created_at;
    uint64_t last_seq;
    size_t first, count;
};

struct result {
    struct found *found;
    size_t n;
    struct name *names;
    size_t name_count, name_cap;
};

// A unit may run again.
static void result_clear(struct result *r) { r->n = r->name_count = 0; }

static void result_release(struct result *r) {
    free(r->found);
    free(r->names);
}

static struct found *result_add(struct result *r) {
    struct found *more = realloc(r->found, (r->n + 1) * sizeof *more);
    if (more == NULL) die("out of memory");
    r->found = more;
    more[r->n] = (struct found){.first = r->name_count};
    return &more[r->n++];
}

static void result_name(struct result *r, const char *text) {
    r->names = chat_room(r->names, r->name_count, &r->name_cap, sizeof *r->names);
    snprintf(r->names[r->name_count++].text, sizeof r->names[0].text, "%s", text);
}

static void found_read(struct found *f, struct db_stmt *s) {
    f->cid = db_int(s, 0);
    snprintf(f->id.text, sizeof f->id.text, "%s", db_text(s, 1, NULL));
    f->has_title = !db_is_null(s, 2);
    snprintf(f->title, sizeof f->title, "%s", f->has_title ? db_text(s, 2, NULL) : "");
    snprintf(f->created_by.text, sizeof f->created_by.text, "%s", db_text(s, 3, NULL));
    f->created_at = db_int(s, 4);
    f->last_seq = (uint64_t)db_int(s, 5);
}

static enum err members_read(struct db *db, struct result *r, size_t index) {
    static struct db_sql members = {.text = "select a.user_id from member x join account a on a.uid = x.uid "
                                            "where x.cid = ?1 order by a.user_id"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &members);
    db_bind_int(s, 1, r->found[index].cid);
    r->found[index].first = r->name_count;
    while (row(s, &err)) result_name(r, db_text(s, 0, NULL));
    r->found[index].count = r->name_count - r->found[index].first;
    return err;
}

#define COLUMNS                                                                                                        \
    "select v.cid, v.conversation_id, v.title, a.user_id, v.created_at, v.last_seq from conversation v "               \
    "join account a on a.uid = v.created_by "

static enum err find_for(struct db *db, const char *conversation_id, int64_t uid, struct result *r) {
    static struct db_sql find = {.text = COLUMNS "join member x on x.cid = v.cid and x.uid = ?2 "
                                                 "where v.conversation_id = ?1"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_text(s, 1, conversation_id);
    db_bind_int(s, 2, uid);
    if (!row(s, &err)) return err != ERR_OK ? err : error_set(db_error(db), ERR_NOT_FOUND, "no such conversation");
    found_read(result_add(r), s);
    return members_read(db, r, 0);
}

// Calls with views of the result.
static void show(const struct result *r, bool existed, chat_conversations_fn *done, void *arg) {
    const char **names = chat_alloc((r->name_count + 1) * sizeof *names);
    struct chat_conversation *out = chat_alloc((r->n + 1) * sizeof *out);
    for (size_t i = 0; i < r->name_count; i++) names[i] = r->names[i].text;
    for (size_t i = 0; i < r->n; i++) {
        const struct found *f = &r->found[i];
        out[i] = (struct chat_conversation){.conversation_id = f->id.text,
                                            .title = f->has_title ? f->title : NULL,
                                            .created_by = f->created_by.text,
                                            .created_at_ms = f->created_at,
                                            .last_seq = f->last_seq,
                                            .members = names + f->first,
                                            .member_count = f->count,
                                            .existed = existed};
    }
    done(arg, NULL, out, r->n);
    free(names);
    free(out);
}

// ---- adding ---------------------------------------------------------------------------------------------

struct add {
    struct op op;
    int64_t uid, now;
    struct name id, by;
    char title[TITLE_MAX + 1];
    bool has_title, existed;
    struct name *members; // sorted, each once, the caller among them
    size_t n;
    struct result result;
    chat_conversation_fn *done;
    void *arg;
};

static enum err member_insert(struct db *db, int64_t cid, const char *user_id) {
    static struct db_sql insert = {.text =
                                       "insert into member (cid, uid) select ?1, uid from account where user_id = ?2"};
    struct db_stmt *s = db_prepare(db, &insert);
    db_bind_int(s, 1, cid);
    db_bind_text(s, 2, user_id);
    enum err err = db_run(s);
    if (err == ERR_OK && db_changes(db) == 0)
        err = error_field(db_error(db), "members", "there is no user %s", user_id);
    return err;
}

static enum err conversation_insert(struct db *db, struct add *op, int64_t *cid) {
    static struct db_sql insert = {
        .text = "insert into conversation (conversation_id, title, created_by, created_at, member_count) "
                "values (?1, ?2, ?3, ?4, ?5) on conflict (conversation_id) do nothing returning cid"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &insert);
    db_bind_text(s, 1, op->id.text);
    db_bind_text(s, 2, op->has_title ? op->title : NULL);
    db_bind_int(s, 3, op->uid);
    db_bind_int(s, 4, op->now);
    db_bind_int(s, 5, (int64_t)op->n);
    *cid = row(s, &err) ? db_int(s, 0) : 0;
    while (err == ERR_OK && row(s, &err)) {
    }
    return err;
}

static bool same(const struct add *op) {
    const struct found *f = &op->result.found[0];
    if (f->count != op->n || f->has_title != op->has_title || strcmp(f->title, op->title) != 0) return false;
    for (size_t i = 0; i < op->n; i++)
        if (strcmp(op->result.names[f->first + i].text, op->members[i].text) != 0) return false;
    return true;
}

static enum err add_run(struct db *db, struct db_unit *u) {
    struct add *op = (struct add *)u;
    int64_t cid;
    result_clear(&op->result);
    enum err err = conversation_insert(db, op, &cid);
    op->existed = cid == 0;
    if (!op->existed)
        for (size_t i = 0; i < op->n && err == ERR_OK; i++) err = member_insert(db, cid, op->members[i].text);
    if (err == ERR_OK) err = find_for(db, op->id.text, op->uid, &op->result);
    bool taken = err == ERR_NOT_FOUND || (err == ERR_OK && op->existed && !same(op));
    return taken ? error_set(db_error(db), ERR_CONFLICT, "a conversation %s exists already", op->id.text) : err;
}

static void add_show(void *arg, const struct error *error, const struct chat_conversation *ok, size_t n) {
    struct add *op = arg;
    op->done(op->arg, NULL, ok);
}

static void add_answer(struct op *base, enum err err) {
    struct add *op = (struct add *)base;
    if (err == ERR_OK) show(&op->result, op->existed, add_show, op);
    else op->done(op->arg, op_error(base, err), NULL);
}

static void add_release(struct op *base) {
    struct add *op = (struct add *)base;
    free(op->members);
    result_release(&op->result);
}

static int name_compare(const void *a, const void *b) {
    return strcmp(((const struct name *)a)->text, ((const struct name *)b)->text);
}

static enum err members_take(struct add *op, const char *caller, const char *const *members, size_t n,
                             uint32_t members_max) {
    struct error *e = &op->op.unit.error;
    if (n > members_max) return error_field(e, "members", "must be at most %u", members_max);
    op->members = chat_alloc((n + 1) * sizeof *op->members);
    for (size_t i = 0; i < n; i++) {
        if (members[i] == NULL || !name_valid(members[i], strlen(members[i])))
            return error_field(e, "members", "must be names of users");
        snprintf(op->members[i].text, sizeof op->members[i].text, "%s", members[i]);
    }
    snprintf(op->members[n].text, sizeof op->members[n].text, "%s", caller);
    qsort(op->members, n + 1, sizeof op->members[0], name_compare);
    for (size_t i = 0; i < n + 1; i++)
        if (op->n == 0 || name_compare(&op->members[op->n - 1], &op->members[i]) != 0)
            op->members[op->n++] = op->members[i];
    if (op->n > members_max) return error_field(e, "members", "must be at most %u", members_max);
    return ERR_OK;
}

static enum err add_check(struct add *op, const char *conversation_id, const char *title) {
    struct error *e = &op->op.unit.error;
    if (conversation_id != NULL) {
        if (!name_valid(conversation_id, strlen(conversation_id)))
            return error_field(e, "conversation_id",
                               "must be 1 to 64 of a-z, 0-9, '.', '_', '-', not beginning with a sign");
        snprintf(op->id.text, sizeof op->id.text, "%s", conversation_id);
    } else {
        struct id id = id_new(op->op.chat->io);
        id_format(&id, op->id.text);
    }
    if (title == NULL) return ERR_OK;
    if (strlen(title) > TITLE_MAX) return error_field(e, "title", "must be at most %d bytes", TITLE_MAX);
    if (!utf8_valid(title, strlen(title))) return error_field(e, "title", "must be UTF-8");
    op->has_title = true;
    snprintf(op->title, sizeof op->title, "%s", title);
    return ERR_OK;
}

// An id that is derived from members is theirs, and without a title it is always the same conversation: whoever came
// first with something else under it would keep all of them from talking.
static enum err derived_check(struct add *op) {
    struct error *e = &op->op.unit.error;
    if (!conversation_id_is_derived(op->id.text)) return ERR_OK;
    const char **members = chat_alloc(op->n * sizeof *members);
    for (size_t i = 0; i < op->n; i++) members[i] = op->members[i].text;
    char derived[CONVERSATION_ID_DERIVED];
    conversation_id_derive(members, op->n, derived);
    free(members);
    if (strcmp(derived, op->id.text) != 0)
        return error_field(e, "conversation_id", "begins with dm- and does not follow from these members");
    if (op->has_title) return error_field(e, "title", "must not be set under an id that begins with dm-");
    return ERR_OK;
}

void chat_conversation_add(struct chat *c, const struct chat_actor *who, const char *conversation_id, const char *title,
                           const char *const *members, size_t n, chat_conversation_fn *done, void *arg) {
    struct add *op = op_new(c, sizeof *op, add_run, add_answer);
    op->op.release = add_release;
    op->uid = who->uid;
    op->now = chat_now(c);
    op->done = done;
    op->arg = arg;
    enum err err = add_check(op, conversation_id, title);
    if (err == ERR_OK) err = members_take(op, who->user_id, members, n, c->o.members_max);
    if (err == ERR_OK) err = derived_check(op);
    if (err == ERR_OK) op_submit(&op->op);
    else op_finish(&op->op, err);
}

// ---- getting --------------------------------------------------------------------------------------------

struct get {
    struct op op;
    int64_t uid;
    struct name id;
    struct result result;
    chat_conversation_fn *done_one;
    chat_conversations_fn *done;
    void *arg;
};

static enum err get_run(struct db *db, struct db_unit *u) {
    struct get *op = (struct get *)u;
    result_clear(&op->result);
    return find_for(db, op->id.text, op->uid, &op->result);
}

static enum err list_run(struct db *db, struct db_unit *u) {
    static struct db_sql find = {.text = COLUMNS "join member x on x.cid = v.cid and x.uid = ?1 "
                                                 "order by x.cid desc limit ?2"};
    struct get *op = (struct get *)u;
    enum err err = ERR_OK;
    result_clear(&op->result);
    struct db_stmt *s = db_prepare(db, &find);
    db_bind_int(s, 1, op->uid);
    db_bind_int(s, 2, LIST_MAX);
    while (row(s, &err)) found_read(result_add(&op->result), s);
    struct result *r = &op->result;
    for (size_t i = 0; i < r->n && err == ERR_OK; i++) {
        err = members_read(db, r, i);
        if (r->name_count > NAMES_MAX && i > 0) r->n = i;
    }
    return err;
}

static void get_show(void *arg, const struct error *error, const struct chat_conversation *ok, size_t n) {
    struct get *op = arg;
    op->done_one(op->arg, NULL, ok);
}

static void get_answer(struct op *base, enum err err) {
    struct get *op = (struct get *)base;
    if (err == ERR_OK) show(&op->result, true, get_show, op);
    else op->done_one(op->arg, op_error(base, err), NULL);
}

static void list_answer(struct op *base, enum err err) {
    struct get *op = (struct get *)base;
    if (err == ERR_OK) show(&op->result, true, op->done, op->arg);
    else op->done(op->arg, op_error(base, err), NULL, 0);
}

static void get_release(struct op *base) { result_release(&((struct get *)base)->result); }

static struct get *get_new(struct chat *c, const struct chat_actor *who,
                           enum err (*run)(struct db *db, struct db_unit *u),
                           void (*answer)(struct op *op, enum err err), void *arg) {
    struct get *op = op_new(c, sizeof *op, run, answer);
    op->op.unit.read_only = true;
    op->op.release = get_release;
    op->uid = who->uid;
    op->arg = arg;
    return op;
}

void chat_conversation_get(struct chat *c, const struct chat_actor *who, const char *conversation_id,
                           chat_conversation_fn *done, void *arg) {
    struct get *op = get_new(c, who, get_run, get_answer, arg);
    op->done_one = done;
    if (conversation_id == NULL || !name_valid(conversation_id, strlen(conversation_id))) {
        op_finish(&op->op, error_set(&op->op.unit.error, ERR_NOT_FOUND, "no such conversation"));
        return;
    }
    snprintf(op->id.text, sizeof op->id.text, "%s", conversation_id);
    op_submit(&op->op);
}

void chat_conversation_list(struct chat *c, const struct chat_actor *who, chat_conversations_fn *done, void *arg) {
    struct get *op = get_new(c, who, list_run, list_answer, arg);
    op->done = done;
    op_submit(&op->op);
}
