// What time ends: undelivered messages, tombstones, and what must not end.
#include "chat/chat_fixture.h"

#include "base/test.h"

#include <string.h>

#define DAY INT64_C(86400000)

struct trio {
    struct fixture *f;
    struct chat_actor alice, bob, carol;
};
static struct trio trio_new(void **state) {
    struct trio t = {.f = *state};
    t.f->options.sweep_every_ms = 20;
    fixture_close(t.f);
    fixture_open(t.f);
    t.alice = join(t.f, "alice");
    t.bob = join(t.f, "bob");
    t.carol = join(t.f, "carol");
    converse(t.f, &t.alice, "abc", "bob carol");
    return t;
}

static void test_the_sender_is_told_of_what_expired(void **state) {
    struct trio t = trio_new(state);
    struct id m = new_id(t.f), young = new_id(t.f);
    send_text(t.f, &t.alice, "abc", &m, "hello");
    await_entry(t.f, &t.bob, 0, ENTRY_MESSAGE, &m);
    assert_int_equal(received(t.f, &t.bob, &m), ERR_OK);
    clock_forward(t.f, 29 * DAY);
    send_text(t.f, &t.alice, "abc", &young, "young");
    await_entry(t.f, &t.carol, 0, ENTRY_MESSAGE, &young);
    run_for(t.f, 60);
    assert_int_equal(get(t.f, &t.carol, &m).err, ERR_OK);
    clock_forward(t.f, 2 * DAY);
    uint64_t cursor = await_entry(t.f, &t.alice, 0, ENTRY_EXPIRED, &m);
    assert_string_equal(mailbox(t.f, &t.alice, cursor - 1, 1, 0)->entries[0].by_user_id, "carol");
    assert_int_equal(get(t.f, &t.carol, &m).err, ERR_GONE);
    assert_int_equal(get(t.f, &t.carol, &young).err, ERR_OK);
    // Carol's entry is withdrawn, and cursors go on after it.
    struct seen *carol = attach(t.f, &t.carol, 0);
    await_drained(carol);
    assert_int_equal(carol->n, 1);
    assert_int_equal(carol->entries[0].cursor, 2);
    detach(carol);
    // Late acks succeed and change nothing; the id stays used.
    assert_int_equal(read_it(t.f, &t.carol, &m), ERR_OK);
    assert_int_equal(mailbox(t.f, &t.alice, cursor, 0, 0)->n, 0);
    assert_true(send_text(t.f, &t.alice, "abc", &m, "hello").duplicate);
    assert_non_null(strstr(journey(t.f, &t.alice, &m), "expired:carol"));
    assert_null(strstr(journey(t.f, &t.alice, &m), "expired:bob"));
    assert_int_equal(
        count(t.f, "select count(*) from message where deleted_at is not null and (open <> 0 or claims <> 0)"), 0);
}

static bool nothing_kept(void *arg) { return count(arg, "select count(*) from content") == 0; }

// Delivered to everyone, but not to every device of everyone: goes without a word.
static void test_a_delivered_message_does_not_expire(void **state) {
    struct trio t = trio_new(state);
    struct chat_actor desk = login(t.f, "bob").actor;
    converse(t.f, &t.alice, "ab", "bob");
    struct id m = new_id(t.f);
    send_text(t.f, &t.alice, "ab", &m, "hello");
    await_entry(t.f, &t.bob, 0, ENTRY_MESSAGE, &m);
    assert_int_equal(received(t.f, &t.bob, &m), ERR_OK);
    assert_int_equal(get(t.f, &desk, &m).err, ERR_OK);
    clock_forward(t.f, 31 * DAY);
    run_until(t.f, nothing_kept, t.f);
    assert_int_equal(mailbox(t.f, &t.alice, 0, 0, 0)->n, 1); // delivered
    assert_null(strstr(journey(t.f, &t.alice, &m), "expired"));
    assert_int_equal(read_it(t.f, &t.bob, &m), ERR_OK); // it was received, and may still be read
    assert_int_equal(mailbox(t.f, &t.alice, 0, 0, 0)->n, 2);
}

struct left {
    struct fixture *f;
    int64_t messages;
};
static bool messages_left(void *arg) {
    struct left *l = arg;
    return count(l->f, "select count(*) from message") == l->messages;
}

static void test_tombstones_are_kept_and_end(void **state) {
    struct trio t = trio_new(state);
    struct id old = new_id(t.f), last = new_id(t.f);
    converse(t.f, &t.alice, "ab", "bob");
    send_text(t.f, &t.alice, "ab", &old, "old");
    await_entry(t.f, &t.bob, 0, ENTRY_MESSAGE, &old);
    assert_int_equal(read_it(t.f, &t.bob, &old), ERR_OK);
    for (int day = 0; day < 59; day += 10) // sessions live by use
        clock_forward(t.f, 10 * DAY - (day > 0 ? 0 : DAY));
    assert_true(send_text(t.f, &t.alice, "ab", &old, "old").duplicate);
    send_text(t.f, &t.alice, "ab", &last, "last");
    await_entry(t.f, &t.bob, 0, ENTRY_MESSAGE, &last);
    clock_forward(t.f, 2 * DAY);
    struct left l = {t.f, 1};
    run_until(t.f, messages_left, &l);
    assert_int_equal(count(t.f, "select count(*) from delivery"), 1);
    assert_int_equal(count(t.f, "select count(*) from device_delivery"), 1);
    assert_int_equal(get(t.f, &t.bob, &last).err, ERR_OK);
    assert_string_equal(journey(t.f, &t.alice, &old), "not_found");
}

static bool one_ended_left(void *arg) {
    return count(arg, "select count(*) from device where token_hash is null") == 1;
}

static void test_ended_devices_are_forgotten_after_their_messages(void **state) {
    struct trio t = trio_new(state);
    struct chat_actor gone = login(t.f, "bob").actor, recent = login(t.f, "bob").actor;
    assert_int_equal(logout(t.f, &gone), ERR_OK);
    clock_forward(t.f, 80 * DAY);
    assert_int_equal(logout(t.f, &recent), ERR_OK);
    run_for(t.f, 100);
    assert_int_equal(count(t.f, "select count(*) from device where token_hash is null"), 2);
    clock_forward(t.f, 11 * DAY);
    run_until(t.f, one_ended_left, t.f);
    // It comes back as a new one.
    struct login back = login_as(t.f, "bob", "password", &gone.device_id);
    assert_int_equal(back.err, ERR_OK);
    assert_false(id_equal(&back.actor.device_id, &gone.device_id));
}

static void test_a_backlog_expires_in_batches(void **state) {
    struct trio t = trio_new(state);
    for (int i = 0; i < 150; i++) {
        struct id m = new_id(t.f);
        assert_int_equal(send_text(t.f, &t.alice, "abc", &m, "x").err, ERR_OK);
    }
    clock_forward(t.f, 31 * DAY);
    run_until(t.f, nothing_kept, t.f);
    run_for(t.f, 30);
    const struct page_seen *page = mailbox(t.f, &t.alice, 0, 0, 0);
    assert_int_equal(page->n, 150);
    for (size_t i = 0; i < page->n; i++) assert_int_equal(page->entries[i].type, ENTRY_EXPIRED);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_the_sender_is_told_of_what_expired), T(test_a_delivered_message_does_not_expire),
        T(test_tombstones_are_kept_and_end),        T(test_ended_devices_are_forgotten_after_their_messages),
        T(test_a_backlog_expires_in_batches),
    };
    return fixture_missing() ? 77 : cmocka_run_group_tests(tests, NULL, NULL);
}
