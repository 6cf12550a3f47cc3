// Accounts and devices: registration, log-in and its limits, and what devices coming and going means for messages.
#include "chat/chat_fixture.h"

#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DAY INT64_C(86400000)

static void reopen(struct fixture *f) {
    fixture_close(f);
    fixture_open(f);
}

static void test_registration(void **state) {
    struct fixture *f = *state;
    assert_int_equal(user_add(f, "alice"), ERR_OK);
    assert_int_equal(user_add(f, "alice"), ERR_CONFLICT);
    assert_int_equal(user_add(f, "Alice"), ERR_INVALID);
    assert_int_equal(user_add(f, ""), ERR_INVALID);
    f->options.registration_closed = true;
    reopen(f);
    assert_int_equal(user_add(f, "bob"), ERR_FORBIDDEN);
    assert_int_equal(login_as(f, "alice", "password", NULL).err, ERR_OK);
}

static void test_login(void **state) {
    struct fixture *f = *state;
    struct chat_actor alice = join(f, "alice"), found;
    assert_string_equal(alice.user_id, "alice");
    assert_int_equal(login_as(f, "alice", "passwort", NULL).err, ERR_UNAUTHORIZED);
    assert_int_equal(login_as(f, "nobody", "password", NULL).err, ERR_UNAUTHORIZED);
    assert_int_equal(auth(f, "0123", &found), ERR_UNAUTHORIZED);
    char token[CHAT_TOKEN_TEXT];
    memset(token, 'a', sizeof token - 1);
    token[sizeof token - 1] = '\0';
    assert_int_equal(auth(f, token, &found), ERR_UNAUTHORIZED);
    assert_int_equal(count(f, "select count(*) from device where length(token_hash) <> 32"), 0);
}

static void test_failed_logins_are_limited(void **state) {
    struct fixture *f = *state;
    user_add(f, "alice");
    user_add(f, "bob");
    for (int i = 0; i < 10; i++) assert_int_equal(login_as(f, "alice", "passwort", NULL).err, ERR_UNAUTHORIZED);
    struct login limited = login_as(f, "alice", "password", NULL);
    assert_int_equal(limited.err, ERR_RATE);
    assert_in_range(strtol(limited.field, NULL, 10), 200, 300); // seconds to wait
    assert_int_equal(login_as(f, "bob", "password", NULL).err, ERR_OK);
}

struct many {
    struct fixture *f;
    int answered, busy, limited, wrong, right;
};
static void many_login(void *arg, const struct error *error, const struct chat_session *ok) {
    struct many *m = arg;
    m->answered++;
    if (ok != NULL) m->right++;
    else if (error->code == ERR_BUSY) m->busy++;
    else if (error->code == ERR_RATE) m->limited++;
    else if (error->code == ERR_UNAUTHORIZED) m->wrong++;
    loop_stop(m->f->loop);
}
static bool all_answered(void *arg) { return ((struct many *)arg)->answered == 100; }

static void test_a_flood_of_logins_is_bounded(void **state) {
    struct fixture *f = *state;
    struct many m = {.f = f};
    for (int i = 0; i < 100; i++) {
        char user_id[16];
        snprintf(user_id, sizeof user_id, "user%d", i);
        chat_login(f->chat, user_id, "password", NULL, NULL, "127.0.0.1", many_login, &m);
    }
    run_until(f, all_answered, &m);
    assert_in_range(m.busy, 20, 40); // 2 at work and 64 waiting
}

static void test_trying_passwords_at_once_is_no_way_around_the_limit(void **state) {
    struct fixture *f = *state;
    user_add(f, "alice");
    struct many m = {.f = f};
    for (int i = 0; i < 100; i++) chat_login(f->chat, "alice", "passwort", NULL, NULL, "127.0.0.1", many_login, &m);
    run_until(f, all_answered, &m);
    assert_int_equal(m.wrong, 10);
    assert_int_equal(m.limited, 90);
}

static void test_a_guesser_does_not_lock_out_whose_password_it_is(void **state) {
    struct fixture *f = *state;
    user_add(f, "alice");
    for (int i = 0; i < 10; i++) assert_int_equal(login_as(f, "alice", "passwort", NULL).err, ERR_UNAUTHORIZED);
    assert_int_equal(login_as(f, "alice", "password", NULL).err, ERR_RATE);
    struct many m = {.f = f, .answered = 99};
    chat_login(f->chat, "alice", "password", NULL, NULL, "127.0.0.2", many_login, &m);
    run_until(f, all_answered, &m);
    assert_int_equal(m.right, 1);
}

static void test_logout(void **state) {
    struct fixture *f = *state;
    user_add(f, "alice");
    struct login l = login(f, "alice");
    struct chat_actor found;
    struct seen *link = attach(f, &l.actor, 0);
    await_drained(link);
    assert_true(chat_auth_cached(f->chat, l.token, strlen(l.token), &found));
    assert_int_equal(logout(f, &l.actor), ERR_OK);
    assert_string_equal(link->closed, "logged_out");
    assert_false(chat_auth_cached(f->chat, l.token, strlen(l.token), &found));
    assert_int_equal(auth(f, l.token, &found), ERR_UNAUTHORIZED);
    detach(link);
}

// Whoever ended it on another server died before it could tell anybody.
static void test_a_session_that_ended_unheard_ends_here_too(void **state) {
    struct fixture *f = *state;
    struct chat_actor actor;
    if (!on_postgres()) return;
    f->options.look_every_ms = 1;
    reopen(f);
    user_add(f, "alice");
    struct login out = login(f, "alice"), changed = login(f, "alice"), stays = login(f, "alice");
    assert_int_equal(auth(f, out.token, &actor), ERR_OK);
    assert_int_equal(auth(f, changed.token, &actor), ERR_OK);
    execute(f, "update device set token_hash = case when did = (select min(did) from device) then null "
               "else substring(token_hash from 2) || '\\x00'::bytea end where did < (select max(did) from device)");
    run_for(f, 2500);
    assert_int_equal(auth(f, out.token, &actor), ERR_UNAUTHORIZED);
    assert_int_equal(auth(f, changed.token, &actor), ERR_UNAUTHORIZED);
    assert_int_equal(auth(f, stays.token, &actor), ERR_OK);
}

static void test_sessions_expire_and_use_renews_them(void **state) {
    struct fixture *f = *state;
    f->options.session_ttl_ms = 10 * DAY;
    f->options.sweep_every_ms = 20;
    reopen(f);
    user_add(f, "alice");
    struct login used = login(f, "alice"), unused = login(f, "alice");
    struct chat_actor found;
    for (int i = 0; i < 4; i++) {
        clock_forward(f, 3 * DAY);
        assert_int_equal(auth(f, used.token, &found), ERR_OK);
        run_for(f, 30);
    }
    assert_int_equal(auth(f, unused.token, &found), ERR_UNAUTHORIZED);
    reopen(f); // nothing of it was only in memory
    assert_int_equal(auth(f, used.token, &found), ERR_OK);
    assert_int_equal(auth(f, unused.token, &found), ERR_UNAUTHORIZED);
}

static void test_a_device_that_logs_in_again_keeps_its_mailbox(void **state) {
    struct fixture *f = *state;
    struct chat_actor alice = join(f, "alice"), bob = join(f, "bob"), found;
    converse(f, &alice, "ab", "bob");
    struct id m = new_id(f);
    send_text(f, &alice, "ab", &m, "hello");
    uint64_t cursor = await_entry(f, &bob, 0, ENTRY_MESSAGE, &m);
    struct login again = login_as(f, "bob", "password", &bob.device_id);
    assert_int_equal(again.actor.did, bob.did);
    assert_int_equal(auth(f, again.token, &found), ERR_OK);
    assert_int_equal(await_entry(f, &again.actor, 0, ENTRY_MESSAGE, &m), cursor);
    // Somebody else's device is not taken over.
    struct login other = login_as(f, "alice", "password", &bob.device_id);
    assert_int_equal(other.err, ERR_OK);
    assert_false(id_equal(&other.actor.device_id, &bob.device_id));
}

static void test_the_device_unused_longest_gives_way(void **state) {
    struct fixture *f = *state;
    f->options.devices_max = 2;
    reopen(f);
    user_add(f, "alice");
    struct login first = login(f, "alice");
    clock_forward(f, 1000);
    struct login second = login(f, "alice");
    clock_forward(f, 1000);
    struct seen *link = attach(f, &first.actor, 0);
    await_drained(link);
    struct login third = login(f, "alice");
    struct chat_actor found;
    assert_string_equal(link->closed, "logged_out");
    assert_int_equal(auth(f, first.token, &found), ERR_UNAUTHORIZED);
    assert_int_equal(auth(f, second.token, &found), ERR_OK);
    assert_int_equal(auth(f, third.token, &found), ERR_OK);
    detach(link);
}

// ---- messages and devices -------------------------------------------------------------------------------

static bool is_complete(void *arg) { return count(arg, "select count(*) from outbox where state = 0") == 0; }
static void settle(struct fixture *f) {
    run_until(f, is_complete, f);
    run_for(f, 30);
}

static void test_messages_wait_for_the_first_device(void **state) {
    struct fixture *f = *state;
    struct chat_actor alice = join(f, "alice");
    user_add(f, "bob");
    converse(f, &alice, "ab", "bob");
    struct id one = new_id(f), two = new_id(f);
    send_text(f, &alice, "ab", &one, "one");
    send_text(f, &alice, "ab", &two, "two");
    settle(f);
    assert_string_equal(journey(f, &alice, &one), "created:alice accepted:alice published");
    struct chat_actor bob = login(f, "bob").actor;
    const struct page_seen *page = mailbox(f, &bob, 0, 0, 0);
    assert_int_equal(page->n, 2);
    assert_true(id_equal(&page->entries[0].message_id, &one));
    assert_true(id_equal(&page->entries[1].message_id, &two));
    assert_string_equal(page->entries[0].by_user_id, "alice");
    assert_int_equal(received(f, &bob, &one), ERR_OK);
    assert_int_equal(get(f, &bob, &one).err, ERR_GONE);
    assert_int_equal(get(f, &bob, &two).err, ERR_OK);
}

static void test_every_device_gets_it_before_it_goes(void **state) {
    struct fixture *f = *state;
    struct chat_actor alice = join(f, "alice"), phone = join(f, "bob"), desk = login(f, "bob").actor;
    converse(f, &alice, "ab", "bob");
    struct id m = new_id(f);
    send_text(f, &alice, "ab", &m, "hello");
    await_entry(f, &phone, 0, ENTRY_MESSAGE, &m);
    await_entry(f, &desk, 0, ENTRY_MESSAGE, &m);
    assert_int_equal(read_it(f, &phone, &m), ERR_OK);
    await_entry(f, &alice, 0, ENTRY_READ, &m); // delivered and read
    assert_int_equal(get(f, &desk, &m).err, ERR_OK);
    assert_int_equal(read_it(f, &desk, &m), ERR_OK);
    assert_int_equal(get(f, &desk, &m).err, ERR_GONE);
    assert_int_equal(mailbox(f, &alice, 0, 0, 0)->n, 2); // told once
}

static void test_a_device_that_logs_out_has_no_claim(void **state) {
    struct fixture *f = *state;
    struct chat_actor alice = join(f, "alice"), phone = join(f, "bob"), desk = login(f, "bob").actor;
    converse(f, &alice, "ab", "bob");
    struct id m = new_id(f);
    send_text(f, &alice, "ab", &m, "hello");
    await_entry(f, &phone, 0, ENTRY_MESSAGE, &m);
    await_entry(f, &desk, 0, ENTRY_MESSAGE, &m);
    assert_int_equal(received(f, &phone, &m), ERR_OK);
    assert_int_equal(get(f, &phone, &m).err, ERR_OK);
    assert_int_equal(logout(f, &desk), ERR_OK);
    assert_int_equal(get(f, &phone, &m).err, ERR_GONE);
}

static void test_the_last_device_leaves_its_messages_to_the_next(void **state) {
    struct fixture *f = *state;
    struct chat_actor alice = join(f, "alice"), bob = join(f, "bob");
    converse(f, &alice, "ab", "bob");
    struct id had = new_id(f), pending = new_id(f);
    send_text(f, &alice, "ab", &had, "had");
    send_text(f, &alice, "ab", &pending, "pending");
    await_entry(f, &bob, 0, ENTRY_MESSAGE, &pending);
    assert_int_equal(received(f, &bob, &had), ERR_OK);
    assert_int_equal(logout(f, &bob), ERR_OK);
    assert_int_equal(get(f, &alice, &pending).err, ERR_OK);
    struct login back = login_as(f, "bob", "password", &bob.device_id);
    assert_int_equal(back.actor.did, bob.did);
    const struct page_seen *page = mailbox(f, &back.actor, 2, 0, 0); // its cursors go on
    assert_int_equal(page->n, 1);
    assert_int_equal(page->entries[0].cursor, 3);
    assert_true(id_equal(&page->entries[0].message_id, &pending));
    assert_int_equal(received(f, &back.actor, &pending), ERR_OK);
    assert_int_equal(get(f, &alice, &pending).err, ERR_GONE);
    assert_int_equal(count(f, "select count(*) from device_delivery where open = 1"), 0);
    assert_int_equal(count(f, "select count(*) from message where claims <> 0 or open <> 0"), 0);
}

// As when a request to log out is repeated because its answer was lost, or the session ran out meanwhile.
static void test_logging_out_twice_is_logging_out_once(void **state) {
    struct fixture *f = *state;
    struct chat_actor alice = join(f, "alice"), bob = join(f, "bob");
    converse(f, &alice, "ab", "bob");
    struct id m = new_id(f);
    send_text(f, &alice, "ab", &m, "hello");
    await_entry(f, &bob, 0, ENTRY_MESSAGE, &m);
    assert_int_equal(logout(f, &bob), ERR_OK);
    assert_int_equal(logout(f, &bob), ERR_OK);
    assert_int_equal(count(f, "select claims from message"), 1);
    struct chat_actor back = login(f, "bob").actor;
    assert_int_equal(received(f, &back, &m), ERR_OK);
    assert_int_equal(get(f, &alice, &m).err, ERR_GONE);
}

// What the device says may come after its log-out was stored: its user has the message all the same.
static void test_a_receipt_that_comes_after_the_log_out_counts(void **state) {
    struct fixture *f = *state;
    struct chat_actor alice = join(f, "alice"), bob = join(f, "bob");
    converse(f, &alice, "ab", "bob");
    struct id m = new_id(f);
    send_text(f, &alice, "ab", &m, "hello");
    await_entry(f, &bob, 0, ENTRY_MESSAGE, &m);
    assert_int_equal(logout(f, &bob), ERR_OK);
    assert_int_equal(received(f, &bob, &m), ERR_OK);
    await_entry(f, &alice, 0, ENTRY_DELIVERED, &m);
    assert_int_equal(get(f, &alice, &m).err, ERR_GONE);
    assert_int_equal(count(f, "select count(*) from device_delivery where open = 1"), 0);
}

static void test_a_second_device_gets_what_is_still_pending(void **state) {
    struct fixture *f = *state;
    struct chat_actor alice = join(f, "alice"), bob = join(f, "bob");
    converse(f, &alice, "ab", "bob");
    struct id had = new_id(f), pending = new_id(f);
    send_text(f, &alice, "ab", &had, "had");
    send_text(f, &alice, "ab", &pending, "pending");
    await_entry(f, &bob, 0, ENTRY_MESSAGE, &pending);
    assert_int_equal(received(f, &bob, &had), ERR_OK);
    struct chat_actor desk = login(f, "bob").actor;
    const struct page_seen *page = mailbox(f, &desk, 0, 0, 0);
    assert_int_equal(page->n, 1);
    assert_true(id_equal(&page->entries[0].message_id, &pending));
    assert_int_equal(received(f, &bob, &pending), ERR_OK);
    assert_int_equal(get(f, &desk, &pending).err, ERR_OK); // it has a claim of its own
    assert_int_equal(received(f, &desk, &pending), ERR_OK);
    assert_int_equal(get(f, &desk, &pending).err, ERR_GONE);
}

// ---- people and conversations ---------------------------------------------------------------------------

struct shown {
    struct fixture *f;
    bool done, existed, online;
    enum err err;
    char field[48], text[256];
};
static bool is_shown(void *arg) { return ((struct shown *)arg)->done; }
static void shown_done(struct shown *s, const struct error *error) {
    s->done = true;
    s->err = error != NULL ? error->code : ERR_OK;
    snprintf(s->field, sizeof s->field, "%s", error != NULL ? error->field : "");
    loop_stop(s->f->loop);
}
static void show_conversations(void *arg, const struct error *error, const struct chat_conversation *ok, size_t n) {
    struct shown *s = arg;
    size_t at = 0;
    s->text[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        at += (size_t)snprintf(s->text + at, sizeof s->text - at, "%s%s(", i > 0 ? " " : "", ok[i].conversation_id);
        for (size_t j = 0; j < ok[i].member_count; j++)
            at += (size_t)snprintf(s->text + at, sizeof s->text - at, "%s%s", j > 0 ? "," : "", ok[i].members[j]);
        at += (size_t)snprintf(s->text + at, sizeof s->text - at, ")");
        s->existed = ok[i].existed;
    }
    shown_done(s, error);
}
static void show_conversation(void *arg, const struct error *error, const struct chat_conversation *ok) {
    show_conversations(arg, error, ok, ok != NULL);
}

static struct shown add(struct fixture *f, const struct chat_actor *who, const char *id, const char *const *members,
                        size_t n) {
    struct shown s = {.f = f};
    chat_conversation_add(f->chat, who, id, "title", members, n, show_conversation, &s);
    run_until(f, is_shown, &s);
    return s;
}

static void test_conversations(void **state) {
    struct fixture *f = *state;
    struct chat_actor alice = join(f, "alice"), bob = join(f, "bob"), eve = join(f, "eve");
    const char *const both[] = {"bob", "alice", "bob"}, *const unknown[] = {"bob", "zoe"}, *const one[] = {"eve"};
    struct shown s = add(f, &alice, "ab", both, 3);
    assert_int_equal(s.err, ERR_OK);
    assert_false(s.existed);
    assert_string_equal(s.text, "ab(alice,bob)");
    assert_true(add(f, &bob, "ab", both, 3).existed);
    assert_int_equal(add(f, &alice, "ab", one, 1).err, ERR_CONFLICT);
    const char *const three[] = {"bob", "eve"};
    assert_int_equal(add(f, &alice, "ab", three, 2).err, ERR_CONFLICT);
    assert_int_equal(add(f, &alice, "ab", NULL, 0).err, ERR_CONFLICT);
    assert_int_equal(add(f, &eve, "ab", both, 3).err, ERR_CONFLICT);
    s = add(f, &alice, "more", unknown, 2);
    assert_int_equal(s.err, ERR_INVALID);
    assert_string_equal(s.field, "members");
    assert_int_equal(add(f, &alice, "../x", one, 1).err, ERR_INVALID);
    assert_int_equal(add(f, &alice, NULL, one, 1).err, ERR_OK); // an id of the service's
    s = (struct shown){.f = f};
    chat_conversation_list(f->chat, &bob, show_conversations, &s);
    run_until(f, is_shown, &s);
    assert_string_equal(s.text, "ab(alice,bob)");
    s = (struct shown){.f = f};
    chat_conversation_get(f->chat, &eve, "ab", show_conversation, &s);
    run_until(f, is_shown, &s);
    assert_int_equal(s.err, ERR_NOT_FOUND);
}

static void count_conversations(void *arg, const struct error *error, const struct chat_conversation *ok, size_t n) {
    struct shown *s = arg;
    assert_null(error);
    assert_string_equal(ok[0].conversation_id, "c40");
    snprintf(s->text, sizeof s->text, "%zu %zu", n, ok[n - 1].member_count);
    shown_done(s, NULL);
}

static void test_a_list_of_conversations_is_bounded(void **state) {
    struct fixture *f = *state;
    struct chat_actor alice = join(f, "alice");
    execute(f, "with recursive n (i) as (select 1 union all select i + 1 from n where i < 999) "
               "insert into account (user_id, password, created_at) select 'user' || i, '', 0 from n");
    execute(f, "with recursive n (i) as (select 1 union all select i + 1 from n where i < 40) insert into conversation "
               "(conversation_id, created_by, created_at, member_count) select 'c' || i, 1, 0, 1000 from n");
    execute(f, "insert into member (cid, uid) select cid, uid from conversation, account");
    struct shown s = {.f = f};
    chat_conversation_list(f->chat, &alice, count_conversations, &s);
    run_until(f, is_shown, &s);
    assert_string_equal(s.text, "20 1000"); // the newest whose members fit
}

static void show_user(void *arg, const struct error *error, const struct chat_user *ok) {
    struct shown *s = arg;
    if (ok != NULL) s->online = ok->online;
    shown_done(s, error);
}
static struct shown look(struct fixture *f, const struct chat_actor *who, const char *user_id) {
    struct shown s = {.f = f};
    chat_user_get(f->chat, who, user_id, show_user, &s);
    run_until(f, is_shown, &s);
    return s;
}

static void test_people_are_seen_by_those_they_talk_to(void **state) {
    struct fixture *f = *state;
    struct chat_actor alice = join(f, "alice"), bob = join(f, "bob"), eve = join(f, "eve");
    converse(f, &alice, "ab", "bob");
    converse(f, &eve, "notes", "");
    assert_int_equal(look(f, &eve, "bob").err, ERR_NOT_FOUND);
    assert_int_equal(look(f, &alice, "nobody").err, ERR_NOT_FOUND);
    assert_int_equal(look(f, &eve, "eve").err, ERR_OK);
    assert_int_equal(look(f, &alice, "bob").err, ERR_OK);
    assert_false(look(f, &alice, "bob").online);
    struct seen *link = attach(f, &bob, 0);
    assert_true(look(f, &alice, "bob").online);
    detach(link);
    assert_false(look(f, &alice, "bob").online);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_registration),
        T(test_login),
        T(test_failed_logins_are_limited),
        T(test_a_flood_of_logins_is_bounded),
        T(test_trying_passwords_at_once_is_no_way_around_the_limit),
        T(test_a_guesser_does_not_lock_out_whose_password_it_is),
        T(test_logout),
        T(test_a_session_that_ended_unheard_ends_here_too),
        T(test_sessions_expire_and_use_renews_them),
        T(test_a_device_that_logs_in_again_keeps_its_mailbox),
        T(test_the_device_unused_longest_gives_way),
        T(test_messages_wait_for_the_first_device),
        T(test_every_device_gets_it_before_it_goes),
        T(test_a_device_that_logs_out_has_no_claim),
        T(test_the_last_device_leaves_its_messages_to_the_next),
        T(test_logging_out_twice_is_logging_out_once),
        T(test_a_receipt_that_comes_after_the_log_out_counts),
        T(test_a_second_device_gets_what_is_still_pending),
        T(test_conversations),
        T(test_a_list_of_conversations_is_bounded),
        T(test_people_are_seen_by_those_they_talk_to),
    };
    return fixture_missing() ? 77 : cmocka_run_group_tests(tests, NULL, NULL);
}
