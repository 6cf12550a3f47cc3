// Mailboxes in the database: a counter in the device's row, a row an entry (docs/decisions/0005).
#include "chat/entry.h"

#include "chat/box.h"
#include "chat/homes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct chat_entry entry_view(const struct entry *entry, uint64_t cursor) {
    struct chat_entry e = entry->e;
    e.cursor = cursor;
    e.conversation_id = entry->conversation_id;
    e.by_user_id = entry->by_user_id;
    return e;
}

void push_release(struct push *p) {
    free(p->targets);
    p->targets = NULL;
    p->n = p->cap = 0;
}

void push_clear(struct push *p) { p->n = 0; }

static struct target *push_add(struct push *p, int64_t did, uint64_t cursor) {
    p->targets = chat_room(p->targets, p->n, &p->cap, sizeof *p->targets);
    struct target *t = &p->targets[p->n++];
    *t = (struct target){.did = did, .cursor = cursor};
    return t;
}

enum err push_take(struct push *p, struct db_stmt *s) {
    enum err err = ERR_OK;
    while (row(s, &err)) {
        struct target *t = push_add(p, db_int(s, 0), (uint64_t)db_int(s, 1));
        t->home = db_int(s, 2);
        t->poll_home = db_int(s, 3);
    }
    return err;
}

enum err push_to(struct db *db, struct push *p, int64_t did, int64_t by_uid) {
    static struct db_sql advance = {
        .text = "update device set last_cursor = last_cursor + 1 where did = ?1 returning last_cursor"};
    static struct db_sql insert = {
        .text = "insert into mailbox (did, cursor, type, mid, by_uid, at) values (?1, ?2, ?3, ?4, ?5, ?6)"};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &advance);
    db_bind_int(s, 1, did);
    if (!row(s, &err)) return err != ERR_OK ? err : error_set(db_error(db), ERR_DATABASE, "the device is gone");
    int64_t cursor = db_int(s, 0);
    s = db_prepare(db, &insert);
    db_bind_int(s, 1, did);
    db_bind_int(s, 2, cursor);
    db_bind_int(s, 3, p->entry.e.type);
    db_bind_int(s, 4, p->entry.mid);
    db_bind_int(s, 5, by_uid);
    db_bind_int(s, 6, p->entry.e.at_ms);
    if ((err = db_run(s)) != ERR_OK) return err;
    push_add(p, did, (uint64_t)cursor);
    return ERR_OK;
}

// All devices at once, locked in their order.
static enum err push_to_all(struct db *db, struct push *p, int64_t uid, int64_t by_uid) {
    static struct db_sql entries = {
        .text = "with t as materialized (select did from device where uid = ?1 and token_hash is not null "
                "order by did for no key update), "
                "a as (update device d set last_cursor = d.last_cursor + 1 from t where d.did = t.did "
                "returning d.did, d.last_cursor, d.home, d.poll_home), "
                "b as (insert into mailbox (did, cursor, type, mid, by_uid, at) "
                "select did, last_cursor, ?2, ?3, ?4, ?5 from a) "
                "select did, last_cursor, home, poll_home from a"};
    struct db_stmt *s = db_prepare(db, &entries);
    db_bind_int(s, 1, uid);
    db_bind_int(s, 2, p->entry.e.type);
    db_bind_int(s, 3, p->entry.mid);
    db_bind_int(s, 4, by_uid);
    db_bind_int(s, 5, p->entry.e.at_ms);
    return push_take(p, s);
}

enum err push_to_user(struct db *db, struct push *p, int64_t uid, int64_t by_uid) {
    static struct db_sql devices = {.text = "select did from device where uid = ?1 and token_hash is not null"};
    if (db_kind(db) == DATABASE_POSTGRES) return push_to_all(db, p, uid, by_uid);
    struct push found = {0};
    enum err err = ERR_OK;
    struct db_stmt *s = db_prepare(db, &devices);
    db_bind_int(s, 1, uid);
    while (row(s, &err)) push_add(&found, db_int(s, 0), 0);
    for (size_t i = 0; i < found.n && err == ERR_OK; i++) err = push_to(db, p, found.targets[i].did, by_uid);
    push_release(&found);
    return err;
}

enum err push_take_many(struct push *const *p, size_t n, struct db_stmt *s) {
    enum err err = ERR_OK;
    while (row(s, &err)) {
        int64_t of = db_int(s, 0);
        ASSERT(of >= 1 && (size_t)of <= n);
        struct target *t = push_add(p[of - 1], db_int(s, 1), (uint64_t)db_int(s, 2));
        t->home = db_int(s, 3);
        t->poll_home = db_int(s, 4);
    }
    return err;
}

// The devices are locked in their order; a cursor goes on from what the device has once it is locked.
enum err push_to_users(struct db *db, const struct pushing *p, size_t n) {
    static struct db_sql entries = {
        .text = "select 1 where 0",
        .postgres =
            "with t as materialized (select d.did, d.last_cursor, d.home, d.poll_home, y.ns from "
            "(select uid, array_agg(n::int order by n) as ns from unnest(?1::bigint[]) with ordinality e (uid, n) "
            "group by uid) y join device d on d.uid = y.uid and d.token_hash is not null "
            "order by d.did for no key update of d), "
            "p as materialized (select i.n, t.did, t.home, t.poll_home, "
            "t.last_cursor + row_number() over (partition by t.did order by i.n) as cursor "
            "from t cross join unnest(t.ns) i (n)), "
            "a as (update device d set last_cursor = y.cursor from (select did, max(cursor) as cursor from p "
            "group by did) y where d.did = y.did), "
            "b as (insert into mailbox (did, cursor, type, mid, by_uid, at) select did, cursor, (?2::bigint[])[n], "
            "(?3::bigint[])[n], (?4::bigint[])[n], (?5::bigint[])[n] from p) "
            "select n, did, cursor, home, poll_home from p order by n, did"};
    int64_t columns[5][PUSHES_MAX];
    struct push *pushes[PUSHES_MAX];
    ASSERT(n <= PUSHES_MAX);
    if (n == 0) return ERR_OK;
    for (size_t i = 0; i < n; i++) {
        const struct entry *entry = &p[i].push->entry;
        pushes[i] = p[i].push;
        columns[0][i] = p[i].uid;
        columns[1][i] = entry->e.type;
        columns[2][i] = entry->mid;
        columns[3][i] = p[i].by_uid;
        columns[4][i] = entry->e.at_ms;
    }
    struct db_stmt *s = db_prepare(db, &entries);
    for (int c = 0; c < 5; c++) db_bind_ints(s, c + 1, columns[c], n);
    return push_take_many(pushes, n, s);
}

enum err push_tell(struct db *db, const struct push *p, int64_t server) { return push_tell_all(db, &p, 1, server); }

enum err push_tell_all(struct db *db, const struct push *const *p, size_t n, int64_t server) {
    if (server == 0) return ERR_OK;
    struct tell tell;
    tell_init(&tell, db);
    for (size_t k = 0; k < n; k++) {
        for (size_t i = 0; i < p[k]->n; i++) {
            const struct target *t = &p[k]->targets[i];
            if (t->home != server) tell_entry(&tell, t->home, t->did, t->cursor);
            if (t->poll_home != server && t->poll_home != t->home) tell_entry(&tell, t->poll_home, t->did, t->cursor);
        }
    }
    return tell_end(&tell);
}

void push_out(struct chat *c, const struct push *p) {
    for (size_t i = 0; i < p->n; i++) {
        struct box *box = box_find(c, p->targets[i].did);
        if (box != NULL) box_offer(box, &p->entry, p->targets[i].cursor);
    }
}

// ---- pages ----------------------------------------------------------------------------------------------

static struct entry *page_add(struct page *p) {
    p->entries = chat_room(p->entries, p->n, &p->cap, sizeof *p->entries);
    struct entry *e = &p->entries[p->n++];
    *e = (struct entry){0};
    return e;
}

static void entry_read(struct entry *out, struct db_stmt *s) {
    out->e.cursor = (uint64_t)db_int(s, 0);
    out->e.type = (enum chat_entry_type)db_int(s, 1);
    (void)db_id(s, 2, &out->e.message_id);
    out->e.seq = (uint64_t)db_int(s, 4);
    out->e.kind = (enum chat_kind)db_int(s, 6);
    out->e.bytes = (uint64_t)db_int(s, 7);
    out->e.at_ms = db_int(s, 8);
    out->mid = db_int(s, 9);
    snprintf(out->conversation_id, sizeof out->conversation_id, "%s", db_text(s, 3, NULL));
    snprintf(out->by_user_id, sizeof out->by_user_id, "%s", db_text(s, 5, NULL));
}

// A message that expired was withdrawn: its entry is passed over.
static enum err page_run(struct db *db, struct db_unit *u) {
    static struct db_sql device = {.text = "select last_cursor, token_hash is not null from device where did = ?1"};
    static struct db_sql entries = {
        .text = "select b.cursor, b.type, m.message_id, v.conversation_id, m.seq, a.user_id, m.kind, m.bytes, "
                "b.at, m.mid from mailbox b join message m on m.mid = b.mid "
                "join conversation v on v.cid = m.cid join account a on a.uid = b.by_uid "
                "where b.did = ?1 and b.cursor > ?2 and not (b.type = 0 and m.expired_at is not null) "
                "order by b.cursor limit ?3"};
    struct page *p = (struct page *)u;
    enum err err = ERR_OK;
    p->n = 0;
    p->live = false;
    p->after = p->asked;
    struct db_stmt *s = db_prepare(db, &device);
    db_bind_int(s, 1, p->did);
    if (!row(s, &err)) return err; // not live
    p->last_cursor = (uint64_t)db_int(s, 0);
    p->live = db_int(s, 1) != 0;
    if (!p->live) return ERR_OK;
    if (p->after > p->last_cursor) p->after = 0;
    s = db_prepare(db, &entries);
    db_bind_int(s, 1, p->did);
    db_bind_int(s, 2, (int64_t)p->after);
    db_bind_int(s, 3, p->limit);
    while (row(s, &err)) entry_read(page_add(p), s);
    // The second picture may be newer than the first.
    if (p->n > 0 && p->entries[p->n - 1].e.cursor > p->last_cursor) p->last_cursor = p->entries[p->n - 1].e.cursor;
    return err;
}

static void page_release(struct op *op) { free(((struct page *)op)->entries); }

struct page *page_new(struct chat *c, int64_t did, uint64_t after, uint32_t limit,
                      void (*answer)(struct op *op, enum err err), void *owner) {
    struct page *p = op_new(c, sizeof *p, page_run, answer);
    p->op.unit.read_only = true;
    p->op.release = page_release;
    p->did = did;
    p->asked = after > INT64_MAX ? INT64_MAX : after;
    p->limit = limit;
    p->owner = owner;
    return p;
}

uint64_t page_end(const struct page *p) {
    if (p->n == p->limit) return p->entries[p->n - 1].e.cursor;
    return p->last_cursor > p->after ? p->last_cursor : p->after;
}
