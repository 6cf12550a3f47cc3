// What comes at once: sends, receipts and what enters mailboxes, many of each, leave what they leave one by one. On
// PostgreSQL they gather (gather.h), which some tests make sure of: a unit of ours holds a lock for which the first one
// waits, until the others have come.
#include "chat/chat_fixture.h"

#include "base/test.h"

#include <semaphore.h>
#include <stdatomic.h>

#define MANY_MAX 2048

// ---- many calls under way -------------------------------------------------------------------------------

struct many;
struct one {
    struct many *many;
    struct id id;
    int conversation;
    enum err wanted, err;
    char text[ERROR_TEXT_MAX];
    uint64_t seq;
    bool duplicate, done;
};
struct many {
    struct fixture *f;
    size_t n, left;
    bool one_by_one;
    struct one ones[MANY_MAX];
};

static bool all_done(void *arg) { return ((struct many *)arg)->left == 0; }

static struct many *many_new(struct fixture *f) {
    struct many *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->f = f;
    return m;
}

static struct one *ask(struct many *m, const struct id *id) {
    assert_true(m->n < MANY_MAX);
    struct one *o = &m->ones[m->n++];
    *o = (struct one){.many = m, .id = *id};
    m->left++;
    return o;
}

static void asked(struct many *m) {
    if (m->one_by_one) run_until(m->f, all_done, m);
}

static void answered(struct one *o, const struct error *error) {
    assert_false(o->done);
    o->done = true;
    if (error != NULL) {
        o->err = error->code;
        snprintf(o->text, sizeof o->text, "%s", error->text);
    }
    o->many->left--;
    loop_stop(o->many->f->loop);
}

static void on_accepted(void *arg, const struct error *error, const struct chat_accepted *ok) {
    struct one *o = arg;
    if (ok != NULL) {
        o->seq = ok->seq;
        o->duplicate = ok->duplicate;
    }
    answered(o, error);
}

static void on_done(void *arg, const struct error *error) { answered(arg, error); }

static struct one *post(struct many *m, const struct chat_actor *who, const char *conversation, const struct id *id,
                        const char *text, const char *ticket) {
    struct one *o = ask(m, id);
    struct chat_send s = {.conversation_id = conversation,
                          .message_id = *id,
                          .by_user_id = who->user_id,
                          .text = text,
                          .text_length = text != NULL ? strlen(text) : 0,
                          .ticket = ticket,
                          .created_at_ms = 1};
    chat_send(m->f->chat, who, &s, on_accepted, o);
    asked(m);
    return o;
}

static void confirm(struct many *m, const struct chat_actor *who, const struct id *id, bool read, enum err wanted) {
    struct one *o = ask(m, id);
    o->wanted = wanted;
    if (read) chat_read(m->f->chat, who, id, on_done, o);
    else chat_received(m->f->chat, who, id, on_done, o);
    asked(m);
}

static void await_all(struct many *m) { run_until(m->f, all_done, m); }

static void assert_answers(const struct many *m) {
    for (size_t i = 0; i < m->n; i++)
        if (m->ones[i].err != m->ones[i].wanted) fail_msg("%zu: %s", i, m->ones[i].text);
}

static uint64_t units(struct fixture *f) {
    struct database_stats stats;
    database_stats(f->database, &stats);
    return stats.units;
}

struct queued {
    struct fixture *f, *other; // other: NULL, or a second server
    uint64_t n;
};
static bool is_queued(void *arg) {
    struct queued *q = arg;
    struct chat_stats mine, theirs = {0};
    chat_stats(q->f->chat, &mine);
    if (q->other != NULL) chat_stats(q->other->chat, &theirs);
    return mine.queued + theirs.queued >= q->n;
}
static void await_queued(struct fixture *f, struct fixture *other, uint64_t n) {
    struct queued q = {f, other, n};
    run_until(f, is_queued, &q);
}

// ---- what holds whatever happened -----------------------------------------------------------------------

// Nobody has acknowledged anything.
static void assert_sound(struct fixture *f) {
    static const char *const wrong[] = {
        "select count(*) from device d where d.token_hash is not null and (d.last_cursor <> (select count(*) from "
        "mailbox b where b.did = d.did) or d.last_cursor <> (select coalesce(max(b.cursor), 0) from mailbox b where "
        "b.did = d.did))",
        "select count(*) from message m where m.claims <> (select count(*) from device_delivery q where q.mid = m.mid "
        "and q.open = 1)",
        "select count(*) from message m where m.open <> (select count(*) from delivery x where x.mid = m.mid and "
        "x.received_at is null and x.expired_at is null)",
        "select count(*) from message m where (m.deleted_at is null) <> exists (select 1 from content t where t.mid = "
        "m.mid)",
        "select count(*) from message m where m.deleted_at is null and m.open = 0 and m.claims = 0",
        "select count(*) from conversation v where v.last_seq <> (select count(*) from message m where m.cid = v.cid) "
        "or v.last_seq <> (select coalesce(max(m.seq), 0) from message m where m.cid = v.cid)",
        // a device has an entry of a message once, the sender's devices one of each kind from each recipient
        "select count(*) from (select 1 from mailbox group by did, mid, type, by_uid having count(*) > 1) w",
        "select count(*) from mailbox a join mailbox b on b.did = a.did and b.cursor > a.cursor join message m on "
        "m.mid "
        "= a.mid join message n on n.mid = b.mid where a.type = 0 and b.type = 0 and m.cid = n.cid and n.seq < m.seq",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (count(f, wrong[i]) != 0) fail_msg("%s", wrong[i]);
}

// ---- a lock that is held --------------------------------------------------------------------------------

struct holder {
    struct db_unit unit;
    struct db_sql *first, *second;
    struct fixture *f;
    sem_t go;
    atomic_bool holds;
    bool done;
};

static enum err hold_run(struct db *db, struct db_unit *u) {
    struct holder *h = (struct holder *)u;
    enum err err = db_run(db_prepare(db, h->first));
    atomic_store(&h->holds, true);
    sem_wait(&h->go);
    sem_post(&h->go); // for a second run
    return err == ERR_OK && h->second != NULL ? db_run(db_prepare(db, h->second)) : err;
}

static void hold_done(struct db_unit *u, enum err err) {
    struct holder *h = (struct holder *)u;
    if (err != ERR_OK) fail_msg("%s", u->error.text);
    h->done = true;
    loop_stop(h->f->loop);
}

static bool is_held(void *arg) { return atomic_load(&((struct holder *)arg)->holds); }
static bool is_let_go(void *arg) { return ((struct holder *)arg)->done; }

static void hold(struct holder *h, struct fixture *f, struct db_sql *first, struct db_sql *second) {
    *h = (struct holder){
        .unit = {.run = hold_run, .done = hold_done}, .first = first, .second = second, .f = f, .done = false};
    sem_init(&h->go, 0, 0);
    assert_int_equal(database_submit(f->database, &h->unit), ERR_OK);
    run_until(f, is_held, h);
}

static void let_go(struct holder *h) {
    sem_post(&h->go);
    run_until(h->f, is_let_go, h);
    sem_destroy(&h->go);
}

static bool somebody_waits(void *arg) {
    return count(arg, "select count(*) from pg_stat_activity where datname = current_database() and "
                      "wait_event_type = 'Lock'") > 0;
}

// ---- everything at once, and one by one -----------------------------------------------------------------

enum { AB, ABC, SOLO, EVERYBODY, CONVERSATIONS };
static const char *const conversations[CONVERSATIONS] = {"ab", "abc", "solo", "everybody"};

struct people {
    struct chat_actor alice, bob, bob2, carol, dave, erin;
};

// Erin has no device, and dave two conversations fewer than he would like.
static struct people people_new(struct fixture *f) {
    struct people p = {.alice = join(f, "alice"), .bob = join(f, "bob"), .carol = join(f, "carol")};
    p.bob2 = login(f, "bob").actor;
    p.dave = join(f, "dave");
    p.erin = join(f, "erin");
    converse(f, &p.alice, "ab", "bob");
    converse(f, &p.alice, "abc", "bob carol");
    converse(f, &p.alice, "solo", "");
    converse(f, &p.alice, "everybody", "bob carol dave erin");
    assert_int_equal(logout(f, &p.erin), ERR_OK);
    return p;
}

#define SENDS 400

static struct id id_of(int i) {
    struct id id = {{0}};
    memcpy(id.b, &i, sizeof i);
    id.b[15] = 1;
    return id;
}

// The conversation of the nth, and who sends it there.
static int place(int i) { return i % 31 == 30 ? SOLO : i % 8 == 7 ? EVERYBODY : i % 3 == 0 ? ABC : AB; }

static const struct chat_actor *sender(const struct people *p, int i) {
    if (place(i) == SOLO) return &p->alice;
    return i % 5 == 4 ? &p->bob : &p->alice;
}

static void post_all(struct many *m, const struct people *p, const char *tickets, size_t ticket_size) {
    char text[32];
    for (int i = 0; i < SENDS; i++) {
        struct id id = id_of(i), other = id_of(i - 1);
        const struct chat_actor *who = sender(p, i), *before = sender(p, i - 1);
        snprintf(text, sizeof text, "text %d", i);
        if (i % 90 == 50) {
            post(m, who, conversations[place(i)], &id, NULL, tickets + (size_t)(i / 90) * ticket_size)->conversation =
                place(i);
        } else {
            post(m, who, conversations[place(i)], &id, text, NULL)->conversation = place(i);
        }
        if (i % 20 == 9) { // the one before again
            snprintf(text, sizeof text, "text %d", i - 1);
            post(m, before, conversations[place(i - 1)], &other, text, NULL)->conversation = place(i - 1);
        }
        if (i % 20 == 13) post(m, before, conversations[place(i - 1)], &other, "else", NULL)->wanted = ERR_CONFLICT;
        if (i % 40 == 17) post(m, &p->dave, "ab", &other, "not mine", NULL)->wanted = ERR_NOT_FOUND;
        if (i % 40 == 19) post(m, who, "nowhere", &id, "where", NULL)->wanted = ERR_NOT_FOUND;
    }
}

// Numbers in the order in which they were asked for, without gaps; what was there before has its own.
static uint64_t assert_numbers(const struct many *m) {
    uint64_t last[CONVERSATIONS] = {0}, total = 0;
    assert_answers(m);
    for (size_t i = 0; i < m->n; i++) {
        const struct one *o = &m->ones[i], *first = o;
        if (o->wanted != ERR_OK) continue;
        for (size_t k = 0; k < i && first == o; k++)
            if (id_equal(&m->ones[k].id, &o->id) && m->ones[k].wanted == ERR_OK) first = &m->ones[k];
        assert_int_equal(o->duplicate, first != o);
        if (first != o) {
            assert_int_equal(o->seq, first->seq);
            continue;
        }
        assert_int_equal(o->seq, ++last[o->conversation]);
        total++;
    }
    return total;
}

static void confirm_all(struct many *m, const struct people *p) {
    const struct chat_actor *devices[] = {&p->bob, &p->carol, &p->bob2, &p->dave, &p->alice};
    struct id nobody = id_of(SENDS + 1);
    for (int i = 0; i < SENDS; i++) {
        struct id id = id_of(i);
        for (int d = 0; d < 5; d++) {
            bool theirs = place(i) == EVERYBODY || (place(i) == ABC && d != 3) || (place(i) == AB && d != 1 && d != 3);
            if (sender(p, i) == &p->bob && (d == 0 || d == 2)) theirs = false;
            if (sender(p, i) == &p->alice && d == 4) theirs = false;
            if (place(i) == SOLO) theirs = false;
            if ((i + d) % 7 == 6) continue; // this one has yet to come
            if (!theirs && (i + d) % 4 != 0) continue;
            if (m->n + 4 > MANY_MAX) return;
            confirm(m, devices[d], &id, (i + d) % 3 == 0, theirs ? ERR_OK : ERR_NOT_FOUND);
            if ((i + d) % 11 == 5) confirm(m, devices[d], &id, true, theirs ? ERR_OK : ERR_NOT_FOUND);
            if ((i + d) % 13 == 5) confirm(m, devices[d], &id, false, theirs ? ERR_OK : ERR_NOT_FOUND);
        }
        if (i % 50 == 3) confirm(m, &p->bob, &nobody, false, ERR_NOT_FOUND);
    }
}

static void script(struct fixture *f, bool one_by_one) {
    struct people p = people_new(f);
    char tickets[8][CHAT_TOKEN_TEXT];
    for (int i = 0; i < 8; i++)
        assert_int_equal(upload(f, sender(&p, 90 * i + 50), &i, sizeof i, "image/png", "a.png", tickets[i]), ERR_OK);
    struct many *m = many_new(f);
    m->one_by_one = one_by_one;
    uint64_t before = units(f);
    post_all(m, &p, tickets[0], sizeof tickets[0]);
    await_all(m);
    if (on_postgres() && !one_by_one) assert_in_range(units(f) - before, 1, m->n * 2 / 3);
    uint64_t total = assert_numbers(m);
    free(m);
    await_queued(f, NULL, total);
    assert_sound(f);
    m = many_new(f);
    m->one_by_one = one_by_one;
    before = units(f);
    confirm_all(m, &p);
    size_t asked = m->n;
    await_all(m);
    if (on_postgres() && !one_by_one) assert_in_range(units(f) - before, 1, asked * 2 / 3);
    assert_answers(m);
    free(m);
    assert_sound(f);
}

static void test_all_at_once(void **state) {
    struct fixture *f = *state;
    script(f, false);
    // everybody told of what all have, and of who has read it; content gone of what has been received by all devices
    assert_true(count(f, "select count(*) from mailbox where type = 1") > 100);
    assert_true(count(f, "select count(*) from mailbox where type = 2") > 100);
    assert_true(count(f, "select count(*) from message where deleted_at is not null") > 100);
    assert_true(count(f, "select count(*) from message where deleted_at is null") > 100);
}

#define HASH(lines)                                                                                                    \
    "select ('x' || substr(md5(string_agg(w::text, ';' order by w::text)), 1, 15))::bit(60)::bigint from (" lines ") " \
    "w"
#define DEVICES                                                                                                        \
    "(select d.did, a.user_id || row_number() over (partition by d.uid order by d.did) as name from device d join "    \
    "account a on a.uid = d.uid union all select -uid, user_id from account) d"

// What it leaves is what the units of the ops leave by themselves.
static void test_at_once_as_one_by_one(void **state) {
    static const char *const tables[] = {
        // a ticket, and with it the digest of a media message, is another each time
        HASH("select m.message_id, v.conversation_id, m.seq, a.user_id, m.kind, m.bytes, case m.kind when 0 then "
             "m.digest end, m.created_at, "
             "m.open, "
             "m.claims, m.deleted_at is null, m.expired_at is null, m.published_at is null, m.media_hash from message "
             "m join conversation v on v.cid = m.cid join account a on a.uid = m.sender_uid"),
        HASH("select m.message_id, t.text from content t join message m on m.mid = t.mid"),
        HASH("select m.message_id, a.user_id, x.received_at is null, x.read_at is null, x.expired_at is null from "
             "delivery x join message m on m.mid = x.mid join account a on a.uid = x.uid"),
        HASH("select m.message_id, d.name, q.queued_at is null, q.received_at is null, q.notified_at is null, q.open "
             "from device_delivery q join message m on m.mid = q.mid join " DEVICES " on d.did = q.did"),
        HASH("select d.name, b.type, m.message_id, a.user_id, case b.type when 0 then row_number() over (partition by "
             "b.did, b.type, m.cid order by b.cursor) end from mailbox b join message m on m.mid = b.mid join account "
             "a on a.uid = b.by_uid join " DEVICES " on d.did = b.did"),
        HASH("select d.name, e.last_cursor, e.token_hash is null from device e join " DEVICES " on d.did = e.did"),
        HASH("select conversation_id, last_seq from conversation"),
        HASH("select event_id, consumer from inbox where consumer = 'mailbox'"),
        HASH("select a.user_id, q.held_bytes from quota q join account a on a.uid = q.uid"),
        HASH("select refs from media"),
    };
    struct fixture *f = *state, *other;
    assert_int_equal(fixture_setup((void **)&other), 0);
    script(f, false);
    script(other, true);
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        if (count(f, tables[i]) != count(other, tables[i])) fail_msg("%s", tables[i]);
    fixture_teardown((void **)&other);
}

// ---- what is out of the ordinary ------------------------------------------------------------------------

// The id that another server is just storing spoils the batch for itself alone.
static void test_an_id_that_appears_meanwhile(void **state) {
    static struct db_sql insert = {
        .text = "insert into message (message_id, cid, seq, sender_uid, sender_did, kind, bytes, digest, accepted_at, "
                "open) select '\\x07000000000000000000000000000001'::bytea, cid, 1, created_by, 1, 0, 1, '\\x00', 1, 0 "
                "from conversation where conversation_id = 'cd'"};
    struct pair p = pair_new(state);
    struct chat_actor carol = join(p.f, "carol");
    converse(p.f, &carol, "cd", "bob");
    struct holder h;
    hold(&h, p.f, &insert, NULL);
    struct many *m = many_new(p.f);
    for (int i = 0; i < 20; i++) {
        struct id id = id_of(i);
        post(m, &p.alice, "ab", &id, "hello", NULL)->wanted = i == 7 ? ERR_CONFLICT : ERR_OK;
    }
    run_until(p.f, somebody_waits, p.f);
    let_go(&h);
    await_all(m);
    assert_answers(m);
    assert_string_equal(m->ones[7].text, "the message id was used for another message");
    for (uint64_t i = 0; i < 19; i++) assert_int_equal(m->ones[i < 7 ? i : i + 1].seq, i + 1);
    await_queued(p.f, NULL, 19);
    free(m);
}

static uint64_t again(struct fixture *f) {
    struct database_stats stats;
    database_stats(f->database, &stats);
    return stats.again;
}

// What is too much for one statement is not too much for one message.
static void test_a_batch_that_takes_too_long(void **state) {
    struct pair p = pair_new(state);
    execute(p.f,
            "create function too_long() returns trigger language plpgsql as $$ begin if (select count(*) from n) > "
            "1 then raise exception 'too long' using errcode = 'query_canceled'; end if; return null; end $$");
    execute(p.f, "create trigger too_long after insert on message referencing new table as n for each statement "
                 "execute function too_long()");
    struct many *m = many_new(p.f);
    for (int i = 0; i < 20; i++) {
        struct id id = id_of(i);
        post(m, &p.alice, "ab", &id, "hello", NULL)->conversation = AB;
    }
    await_all(m);
    assert_int_equal(assert_numbers(m), 20);
    free(m);
}

static void test_a_connection_lost_under_a_batch(void **state) {
    static struct db_sql lock = {.text = "select 1 from conversation where conversation_id = 'ab' for update"};
    struct pair p = pair_new(state);
    converse(p.f, &p.alice, "first", "bob");
    struct holder h;
    hold(&h, p.f, &lock, NULL);
    struct many *m = many_new(p.f);
    struct id first = id_of(0);
    post(m, &p.alice, "first", &first, "hello", NULL)->conversation = SOLO;
    for (int i = 1; i < 20; i++) {
        struct id id = id_of(i);
        post(m, &p.alice, "ab", &id, "hello", NULL)->conversation = AB;
    }
    run_until(p.f, somebody_waits, p.f);
    execute(p.f, "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and "
                 "wait_event_type = 'Lock'");
    let_go(&h);
    await_all(m);
    assert_int_equal(assert_numbers(m), 20);
    assert_true(again(p.f) >= 1);
    await_queued(p.f, NULL, 20);
    assert_sound(p.f);
    free(m);
}

// While the first waits for bob's devices, others come: a redelivered one, one that has expired, one that is unknown.
static void test_into_the_mailboxes(void **state) {
    static struct db_sql lock = {.text = "select 1 from account where user_id = 'bob' for update"};
    struct pair p = pair_new(state);
    struct chat_actor bob2 = login(p.f, "bob").actor;
    struct id ids[9];
    struct holder h;
    struct chat_stats stats;
    converse(p.f, &p.alice, "first", "bob");
    hold(&h, p.f, &lock, NULL);
    for (int i = 0; i <= 8; i++) {
        clock_forward(p.f, 60000);
        ids[i] = id_of(i);
        assert_int_equal(send_text(p.f, &p.alice, i == 0 ? "first" : "ab", &ids[i], "hello").err, ERR_OK);
    }
    do {
        run_for(p.f, 5);
        chat_stats(p.f->chat, &stats);
    } while (stats.published < 9);
    execute(p.f, "insert into inbox (consumer, event_id, received_at) select 'mailbox', encode(message_id, "
                 "'hex')::uuid, now() from message where seq = 4");
    execute(p.f, "update delivery set expired_at = 1 where mid in (select mid from message where seq = 5)");
    execute(p.f, "update message set deleted_at = 1, expired_at = 1, open = 0 where seq = 5");
    execute(p.f, "delete from content where mid in (select mid from message where seq = 5)");
    execute(p.f, "delete from delivery where mid in (select mid from message where seq = 6)");
    execute(p.f, "delete from content where mid in (select mid from message where seq = 6)");
    execute(p.f, "delete from message where seq = 6");
    let_go(&h);
    await_queued(p.f, NULL, 7); // the expired one, too, which has no entry
    static const uint64_t there[] = {1, 1, 2, 3, 7, 8};
    const struct chat_actor *devices[] = {&p.bob, &bob2};
    for (int d = 0; d < 2; d++) {
        const struct page_seen *page = mailbox(p.f, devices[d], 0, 0, 0);
        assert_int_equal(page->n, 6);
        for (size_t i = 0; i < 6; i++) {
            assert_int_equal(page->entries[i].cursor, i + 1);
            assert_int_equal(page->entries[i].seq, there[i]);
        }
    }
    assert_int_equal(count(p.f, "select count(*) from device_delivery q join message m on m.mid = q.mid where "
                                "q.queued_at < m.accepted_at"),
                     0);
}

// Receipts lock the claims in the order of whoever notes that devices were shown something.
static void test_receipts_and_notes_wait_in_one_order(void **state) {
    static struct db_sql first = {.text =
                                      "select 1 from device_delivery where mid = (select mid from message where seq "
                                      "= 2) for update"},
                         second = {.text = "select 1 from device_delivery where mid = (select mid from message where "
                                           "seq = 3) for update"};
    struct pair p = pair_new(state);
    struct id ids[3];
    for (int i = 0; i < 3; i++) {
        ids[i] = id_of(i);
        assert_int_equal(send_text(p.f, &p.alice, "ab", &ids[i], "hello").err, ERR_OK);
    }
    await_queued(p.f, NULL, 3);
    struct holder h;
    hold(&h, p.f, &first, &second);
    struct many *m = many_new(p.f);
    confirm(m, &p.bob, &ids[0], false, ERR_OK); // by itself
    confirm(m, &p.bob, &ids[2], false, ERR_OK); // these two together
    confirm(m, &p.bob, &ids[1], false, ERR_OK);
    run_until(p.f, somebody_waits, p.f);
    let_go(&h);
    await_all(m);
    assert_answers(m);
    assert_int_equal(again(p.f), 0);
    free(m);
}

// An event comes to two servers: the one that is by itself locks in the order of the other, who has many.
static void test_mailboxes_and_inbox_wait_in_one_order(void **state) {
    static struct db_sql first = {.text = "select 1 from account where user_id = 'bob' for update"},
                         second = {.text = "insert into inbox (consumer, event_id, received_at) select 'mailbox', "
                                           "encode(message_id, 'hex')::uuid, now() from message"};
    struct pair p = pair_new(state);
    converse(p.f, &p.alice, "next", "bob");
    struct id id = id_of(0), next = id_of(1);
    struct holder h;
    hold(&h, p.f, &first, &second);
    assert_int_equal(send_text(p.f, &p.alice, "ab", &id, "hello").err, ERR_OK);
    run_until(p.f, somebody_waits, p.f);
    let_go(&h);
    assert_int_equal(send_text(p.f, &p.alice, "next", &next, "hello").err, ERR_OK);
    await_queued(p.f, NULL, 1);
    assert_int_equal(again(p.f), 0);
}

// Somebody holds a conversation and does not let go: the others go on, and what was sent to it keeps its order.
static void test_a_lock_that_is_held_for_long(void **state) {
    static struct db_sql lock = {.text = "select 1 from conversation where conversation_id = 'ab' for update"};
    struct pair p = pair_new(state);
    converse(p.f, &p.alice, "next", "bob");
    struct holder h;
    char ticket[CHAT_TOKEN_TEXT];
    assert_int_equal(upload(p.f, &p.alice, "x", 1, "image/png", "a.png", ticket), ERR_OK);
    hold(&h, p.f, &lock, NULL);
    struct many *held = many_new(p.f), *others = many_new(p.f);
    for (int i = 0; i < 40; i++) {
        struct id id = id_of(i);
        bool medium = i == 5, first = i == 0 || medium || (i >= 10 && i < 20); // by themselves, and in batches
        post(first ? held : others, &p.alice, first ? "ab" : "next", &id, medium ? NULL : "hello",
             medium ? ticket : NULL);
    }
    await_all(others);
    assert_int_equal(held->left, held->n);
    let_go(&h);
    await_all(held);
    for (size_t i = 0; i < held->n; i++) assert_int_equal(held->ones[i].seq, i + 1);
    for (size_t i = 0; i < others->n; i++) assert_int_equal(others->ones[i].seq, i + 1);
    free(held);
    free(others);
}

// A group of eight hundred gets more at once than one statement could take.
static void test_a_large_group(void **state) {
    struct pair p = pair_new(state);
    converse(p.f, &p.alice, "all", "bob");
    execute(p.f, "insert into account (user_id, password, created_at) select 'u' || i, 'x', 0 from generate_series(1, "
                 "798) i");
    execute(p.f, "insert into device (uid, device_id, token_hash, expires_at, created_at, seen_at) select uid, "
                 "decode(md5(user_id), 'hex'), decode(md5(user_id) || md5(user_id), 'hex'), 9000000000000, 0, 0 from "
                 "account where user_id like 'u%'");
    execute(p.f, "insert into member (cid, uid) select cid, uid from conversation, account where conversation_id = "
                 "'all' and user_id like 'u%'");
    execute(p.f, "update conversation set member_count = 800 where conversation_id = 'all'");
    struct many *m = many_new(p.f);
    for (int i = 0; i < 128; i++) {
        struct id id = id_of(i);
        post(m, &p.alice, "all", &id, "hello", NULL)->conversation = AB;
    }
    await_all(m);
    assert_int_equal(assert_numbers(m), 128);
    await_queued(p.f, NULL, 128);
    free(m);
    assert_int_equal(count(p.f, "select count(*) from mailbox"), 128 * 799);
    assert_sound(p.f);
}

static void test_devices_come_and_go_meanwhile(void **state) {
    struct fixture *f = *state;
    struct people p = people_new(f);
    struct many *m = many_new(f), *over = many_new(f);
    struct id ids[120];
    for (int i = 0; i < 120; i++) {
        ids[i] = id_of(i);
        post(m, &p.alice, "everybody", &ids[i], "hello", NULL);
        if (i == 60) chat_logout(f->chat, &p.carol, on_done, ask(over, &ids[0]));
    }
    await_all(m);
    struct login erin = login(f, "erin");
    await_queued(f, NULL, 120);
    for (int i = 0; i < 120; i++) {
        confirm(m, &p.bob, &ids[i], i % 2 == 0, ERR_OK);
        confirm(m, &erin.actor, &ids[i], false, ERR_OK);
        confirm(m, &p.dave, &ids[i], true, ERR_OK);
        if (i == 40) chat_logout(f->chat, &p.bob2, on_done, ask(over, &ids[0]));
        if (i == 60) chat_logout(f->chat, &p.dave, on_done, ask(over, &ids[0]));
        confirm(m, &p.bob2, &ids[i], false, ERR_OK);
    }
    await_all(m);
    await_all(over);
    assert_answers(m);
    assert_answers(over);
    assert_sound(f);
    assert_int_equal(count(f, "select count(*) from message where open <> 1"), 0); // carol
    struct login carol = login(f, "carol");
    for (int i = 0; i < 120; i++) confirm(m, &carol.actor, &ids[i], false, ERR_OK);
    await_all(m);
    assert_answers(m);
    assert_sound(f);
    assert_int_equal(count(f, "select count(*) from content"), 0);
    assert_int_equal(count(f, "select count(*) from mailbox b join device d on d.did = b.did join account a on a.uid = "
                              "d.uid where a.user_id = 'alice' and b.type = 1"),
                     120);
    free(m);
    free(over);
}

// Whoever waits is not answered any more; what was under way is there, or is not.
static void test_closed_meanwhile(void **state) {
    struct pair p = pair_new(state);
    struct many *m = many_new(p.f);
    struct id ids[200];
    for (int i = 0; i < 200; i++) {
        ids[i] = id_of(i);
        post(m, &p.alice, "ab", &ids[i], "hello", NULL);
    }
    fixture_close(p.f);
    fixture_open(p.f);
    uint64_t there = (uint64_t)count(p.f, "select count(*) from message");
    for (int i = 0; i < 200; i++) m->ones[i].many = NULL; // an answer would be one too many
    struct many *again = many_new(p.f);
    for (int i = 0; i < 200; i++) post(again, &p.alice, "ab", &ids[i], "hello", NULL);
    await_all(again);
    assert_answers(again);
    for (uint64_t i = 0; i < 200; i++) {
        assert_int_equal(again->ones[i].seq, i + 1);
        assert_int_equal(again->ones[i].duplicate, i < there);
    }
    free(again);
    free(m);
}

// ---- two servers ----------------------------------------------------------------------------------------

static void test_two_servers(void **state) {
    struct fixture *f = *state, *other = fixture_beside(f), *servers[] = {f, other};
    struct people p = people_new(f);
    struct many *m[] = {many_new(f), many_new(other)};
    char text[32];
    for (int i = 0; i < 300; i++) {
        for (int s = 0; s < 2; s++) {
            // every third on both, every sixth with another text
            struct id id = id_of(i % 3 == 0 ? i : 2 * i + s + 1000);
            snprintf(text, sizeof text, "text %d", i % 6 == 0 ? s : i);
            post(m[s], i % 2 ? &p.bob : &p.alice, conversations[(i / 3) % 3 == 2 ? EVERYBODY : (i / 3) % 3], &id, text,
                 NULL);
        }
    }
    await_all(m[0]);
    await_all(m[1]);
    for (int i = 0; i < 300; i++) {
        struct one *a = &m[0]->ones[i], *b = &m[1]->ones[i];
        if (i % 6 == 0) { // one of them, and the other is told
            assert_true((a->err == ERR_OK) != (b->err == ERR_OK));
            assert_int_equal(a->err != ERR_OK ? a->err : b->err, ERR_CONFLICT);
        } else {
            assert_int_equal(a->err, ERR_OK);
            assert_int_equal(b->err, ERR_OK);
            assert_int_equal(a->duplicate + b->duplicate, i % 3 == 0 ? 1 : 0);
            if (i % 3 == 0) assert_int_equal(a->seq, b->seq);
        }
    }
    assert_int_equal(count(f, "select count(*) from message"), 500);
    await_queued(f, other, 500);
    assert_sound(f);
    for (int s = 0; s < 2; s++) {
        free(m[s]);
        m[s] = many_new(servers[s]);
    }
    const struct chat_actor *devices[] = {&p.bob, &p.bob2, &p.carol, &p.dave, &p.alice};
    for (int i = 0; i < 300; i++) {
        for (int s = 0; s < 2; s++) {
            struct id id = id_of(i % 3 == 0 ? i : 2 * i + s + 1000);
            int place = (i / 3) % 3 == 2 ? EVERYBODY : (i / 3) % 3;
            for (int d = 0; d < 5; d++) {
                bool theirs = i % 2 ? d > 1 : d < 4;
                if (place == AB && (d == 2 || d == 3)) theirs = false;
                if (place == ABC && d == 3) theirs = false;
                if (theirs) confirm(m[(i + d + s) % 2], devices[d], &id, d % 2 == 0, ERR_OK);
            }
        }
    }
    await_all(m[0]);
    await_all(m[1]);
    for (int s = 0; s < 2; s++) {
        assert_answers(m[s]);
        free(m[s]);
    }
    assert_sound(f);
    assert_int_equal(count(f, "select count(*) from message where open > 0 and cid <> (select cid from conversation "
                              "where conversation_id = 'everybody')"),
                     0);
    assert_int_equal(count(f, "select count(*) from message where claims > 0 and cid <> (select cid from conversation "
                              "where conversation_id = 'everybody')"),
                     0);
    fixture_beside_free(other);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void) {
    if (fixture_missing()) return 77;
    cmocka_set_test_filter(getenv("ONLY")); // a pattern, by hand
    const struct CMUnitTest everywhere[] = {
        TEST(test_all_at_once),
        TEST(test_devices_come_and_go_meanwhile),
        TEST(test_closed_meanwhile),
    };
    const struct CMUnitTest batches[] = {
        TEST(test_at_once_as_one_by_one),
        TEST(test_an_id_that_appears_meanwhile),
        TEST(test_a_batch_that_takes_too_long),
        TEST(test_a_connection_lost_under_a_batch),
        TEST(test_into_the_mailboxes),
        TEST(test_receipts_and_notes_wait_in_one_order),
        TEST(test_mailboxes_and_inbox_wait_in_one_order),
        TEST(test_a_lock_that_is_held_for_long),
        TEST(test_a_large_group),
        TEST(test_two_servers),
    };
    int failed = cmocka_run_group_tests(everywhere, NULL, NULL);
    return failed + (on_postgres() ? cmocka_run_group_tests(batches, NULL, NULL) : 0); // SQLite has no batches
}
