// The journey of a text through every safe point, and what must hold when something is repeated, refused or late.
#include "chat/chat_fixture.h"

#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHOLE "created:alice accepted:alice published queued:bob notified:bob received:bob deleted read:bob"

static void test_a_text_from_alice_to_bobs_eye(void **state) {
    struct pair p = pair_new(state);
    struct fixture *f = p.f;
    struct seen *bob = attach(f, &p.bob, 0), *alice = attach(f, &p.alice, 0);
    await_drained(bob);
    await_drained(alice);
    struct id m = new_id(f);
    struct sent sent = send_text(f, &p.alice, "ab", &m, "hello");
    assert_int_equal(sent.err, ERR_OK);
    assert_int_equal(sent.seq, 1);
    assert_false(sent.duplicate);
    await_seen(bob, 1);
    assert_int_equal(bob->entries[0].type, ENTRY_MESSAGE);
    assert_int_equal(bob->entries[0].cursor, 1);
    assert_int_equal(bob->entries[0].seq, 1);
    assert_int_equal(bob->entries[0].bytes, 5);
    assert_true(id_equal(&bob->entries[0].message_id, &m));
    assert_string_equal(bob->entries[0].by_user_id, "alice");
    assert_string_equal(bob->entries[0].conversation_id, "ab");
    struct got got = get(f, &p.bob, &m);
    assert_int_equal(got.err, ERR_OK);
    assert_string_equal(got.text, "hello");
    assert_int_equal(received(f, &p.bob, &m), ERR_OK);
    await_seen(alice, 1);
    assert_int_equal(alice->entries[0].type, ENTRY_DELIVERED);
    assert_string_equal(alice->entries[0].by_user_id, "bob");
    assert_int_equal(read_it(f, &p.bob, &m), ERR_OK);
    await_seen(alice, 2);
    assert_int_equal(alice->entries[1].type, ENTRY_READ);
    assert_string_equal(journey(f, &p.alice, &m), WHOLE);
    assert_string_equal(journey(f, &p.bob, &m), WHOLE);
    detach(bob);
    detach(alice);
}

static void test_content_goes_and_the_tombstone_stays(void **state) {
    struct pair p = pair_new(state);
    struct id m = new_id(p.f);
    struct sent first = send_text(p.f, &p.alice, "ab", &m, "hello");
    await_entry(p.f, &p.bob, 0, ENTRY_MESSAGE, &m);
    assert_int_equal(get(p.f, &p.alice, &m).err, ERR_OK);
    assert_int_equal(received(p.f, &p.bob, &m), ERR_OK);
    assert_int_equal(get(p.f, &p.bob, &m).err, ERR_GONE);
    assert_int_equal(get(p.f, &p.alice, &m).err, ERR_GONE);
    assert_int_equal(count(p.f, "select count(*) from content"), 0);
    struct sent late = send_text(p.f, &p.alice, "ab", &m, "hello");
    assert_int_equal(late.err, ERR_OK);
    assert_true(late.duplicate);
    assert_int_equal(late.seq, first.seq);
    assert_int_equal(late.accepted_at, first.accepted_at);
    run_for(p.f, 50);
    assert_int_equal(mailbox(p.f, &p.bob, 0, 0, 0)->n, 1);
}

struct answers {
    struct fixture *f;
    int n, fresh;
    uint64_t seq;
};
static void answer(void *arg, const struct error *error, const struct chat_accepted *ok) {
    struct answers *a = arg;
    assert_null(error);
    if (!ok->duplicate) a->fresh++;
    assert_true(a->seq == 0 || a->seq == ok->seq);
    a->seq = ok->seq;
    a->n++;
    loop_stop(a->f->loop);
}
static bool all_answered(void *arg) { return ((struct answers *)arg)->n == 100; }

static void test_the_same_id_a_hundred_times_at_once(void **state) {
    struct pair p = pair_new(state);
    struct answers a = {.f = p.f};
    struct chat_send m = {
        .conversation_id = "ab", .message_id = new_id(p.f), .by_user_id = "alice", .text = "once", .text_length = 4};
    for (int i = 0; i < 100; i++) chat_send(p.f->chat, &p.alice, &m, answer, &a);
    run_until(p.f, all_answered, &a);
    assert_int_equal(a.fresh, 1);
    assert_int_equal(a.seq, 1);
    await_entry(p.f, &p.bob, 0, ENTRY_MESSAGE, &m.message_id);
    run_for(p.f, 50);
    assert_int_equal(mailbox(p.f, &p.bob, 0, 0, 0)->n, 1);
    assert_int_equal(count(p.f, "select count(*) from message"), 1);
    assert_int_equal(count(p.f, "select last_seq from conversation"), 1);
}

static void test_the_same_id_for_something_else(void **state) {
    struct pair p = pair_new(state);
    converse(p.f, &p.alice, "other", "bob");
    struct id m = new_id(p.f);
    assert_int_equal(send_text(p.f, &p.alice, "ab", &m, "hello").err, ERR_OK);
    assert_int_equal(send_text(p.f, &p.alice, "ab", &m, "goodbye").err, ERR_CONFLICT);
    assert_int_equal(send_text(p.f, &p.alice, "other", &m, "hello").err, ERR_CONFLICT);
    assert_int_equal(send_text(p.f, &p.bob, "ab", &m, "hello").err, ERR_CONFLICT);
    struct id next = new_id(p.f);
    assert_int_equal(send_text(p.f, &p.alice, "ab", &next, "hello").seq, 2); // refusals took no number
}

static void assert_invalid(struct fixture *f, const struct chat_actor *who, struct chat_send m, const char *field,
                           const char *text) {
    m.message_id = new_id(f);
    struct sent s = send_request(f, who, &m);
    assert_int_equal(s.err, ERR_INVALID);
    assert_string_equal(s.field, field);
    assert_string_equal(s.text, text);
}

static void test_what_is_not_valid(void **state) {
    struct pair p = pair_new(state);
    struct chat_send m = {.conversation_id = "ab", .by_user_id = "alice", .text = "x", .text_length = 1};
    struct chat_send bad = m;
    bad.text_length = 0;
    assert_invalid(p.f, &p.alice, bad, "message_text", "must not be empty");
    bad.text = NULL;
    assert_invalid(p.f, &p.alice, bad, "message_text", "must not be empty");
    bad = m;
    bad.by_user_id = NULL;
    assert_invalid(p.f, &p.alice, bad, "by_user_id", "must be set");
    bad.by_user_id = "bob";
    assert_invalid(p.f, &p.alice, bad, "by_user_id", "must be the caller");
    bad = m;
    bad.text = "\xff";
    assert_invalid(p.f, &p.alice, bad, "message_text", "must be UTF-8");
    char *large = calloc(1, CHAT_TEXT_MAX + 2);
    assert_non_null(large);
    memset(large, 'x', CHAT_TEXT_MAX + 1);
    struct id id = new_id(p.f);
    assert_int_equal(send_text(p.f, &p.alice, "ab", &id, large).err, ERR_TOO_LARGE);
    large[CHAT_TEXT_MAX] = '\0';
    assert_int_equal(send_text(p.f, &p.alice, "ab", &id, large).err, ERR_OK);
    free(large);
}

static void test_strangers_see_nothing(void **state) {
    struct pair p = pair_new(state);
    struct chat_actor eve = join(p.f, "eve");
    struct id m = new_id(p.f), hers = new_id(p.f);
    assert_int_equal(send_text(p.f, &p.alice, "ab", &m, "secret").err, ERR_OK);
    await_entry(p.f, &p.bob, 0, ENTRY_MESSAGE, &m);
    assert_int_equal(send_text(p.f, &eve, "ab", &hers, "hi").err, ERR_NOT_FOUND);
    assert_int_equal(send_text(p.f, &eve, "nowhere", &hers, "hi").err, ERR_NOT_FOUND);
    assert_int_equal(get(p.f, &eve, &m).err, ERR_NOT_FOUND);
    assert_int_equal(received(p.f, &eve, &m), ERR_NOT_FOUND);
    assert_int_equal(read_it(p.f, &eve, &m), ERR_NOT_FOUND);
    assert_int_equal(received(p.f, &p.alice, &m), ERR_NOT_FOUND); // the sender is no recipient
    assert_string_equal(journey(p.f, &eve, &m), "not_found");
    assert_int_equal(mailbox(p.f, &eve, 0, 0, 0)->n, 0);
}

static void test_receipts_are_monotonic_and_repeatable(void **state) {
    struct pair p = pair_new(state);
    struct id m = new_id(p.f);
    send_text(p.f, &p.alice, "ab", &m, "hello");
    await_entry(p.f, &p.bob, 0, ENTRY_MESSAGE, &m);
    for (int i = 0; i < 3; i++) assert_int_equal(read_it(p.f, &p.bob, &m), ERR_OK); // implies received
    for (int i = 0; i < 3; i++) assert_int_equal(received(p.f, &p.bob, &m), ERR_OK);
    const struct page_seen *page = mailbox(p.f, &p.alice, 0, 0, 0);
    assert_int_equal(page->n, 2);
    assert_int_equal(page->entries[0].type, ENTRY_DELIVERED);
    assert_int_equal(page->entries[1].type, ENTRY_READ);
    assert_int_equal(get(p.f, &p.bob, &m).err, ERR_GONE);
}

static void test_delivered_when_the_last_recipient_has_it(void **state) {
    struct pair p = pair_new(state);
    struct chat_actor carol = join(p.f, "carol");
    converse(p.f, &p.alice, "abc", "bob carol");
    struct id m = new_id(p.f);
    send_text(p.f, &p.alice, "abc", &m, "both");
    await_entry(p.f, &p.bob, 0, ENTRY_MESSAGE, &m);
    await_entry(p.f, &carol, 0, ENTRY_MESSAGE, &m);
    assert_int_equal(received(p.f, &carol, &m), ERR_OK);
    assert_int_equal(mailbox(p.f, &p.alice, 0, 0, 0)->n, 0);
    assert_int_equal(get(p.f, &p.bob, &m).err, ERR_OK);
    assert_int_equal(read_it(p.f, &p.bob, &m), ERR_OK);
    const struct page_seen *page = mailbox(p.f, &p.alice, 0, 0, 0);
    assert_int_equal(page->n, 2);
    assert_int_equal(page->entries[0].type, ENTRY_DELIVERED);
    assert_string_equal(page->entries[0].by_user_id, "bob");
    assert_int_equal(page->entries[1].type, ENTRY_READ);
    assert_int_equal(read_it(p.f, &carol, &m), ERR_OK);
    page = mailbox(p.f, &p.alice, 2, 0, 0);
    assert_int_equal(page->n, 1);
    assert_string_equal(page->entries[0].by_user_id, "carol");
}

static void test_alone_in_a_conversation(void **state) {
    struct pair p = pair_new(state);
    converse(p.f, &p.alice, "notes", "");
    struct id m = new_id(p.f);
    assert_int_equal(send_text(p.f, &p.alice, "notes", &m, "to myself").err, ERR_OK);
    assert_int_equal(get(p.f, &p.alice, &m).err, ERR_GONE);
    assert_true(send_text(p.f, &p.alice, "notes", &m, "to myself").duplicate);
}

static void test_seq_counts_a_conversation(void **state) {
    struct pair p = pair_new(state);
    converse(p.f, &p.bob, "second", "alice");
    for (uint64_t i = 1; i <= 5; i++) {
        struct id one = new_id(p.f), two = new_id(p.f);
        assert_int_equal(send_text(p.f, i % 2 ? &p.alice : &p.bob, "ab", &one, "x").seq, i);
        assert_int_equal(send_text(p.f, &p.alice, "second", &two, "y").seq, i);
    }
}

static void test_a_failing_mailbox_is_tried_again_then_parked(void **state) {
    struct pair p = pair_new(state);
    execute(p.f, on_postgres() ? "alter table mailbox add constraint boom check (mid < 0) not valid"
                               : "create trigger boom before insert on mailbox begin select raise(abort, 'no'); end");
    struct id m = new_id(p.f);
    assert_int_equal(send_text(p.f, &p.alice, "ab", &m, "hello").err, ERR_OK);
    const char *seen = "";
    for (int i = 0; i < 400 && strstr(seen, "parked") == NULL; i++) {
        run_for(p.f, 10);
        seen = journey(p.f, &p.alice, &m);
    }
    assert_string_equal(seen, "created:alice accepted:alice retried retried parked");
}

static void published_again(void *arg, enum err err, const char *why) {
    assert_int_equal(err, ERR_OK);
    loop_stop(((struct fixture *)arg)->loop);
}

// A bus delivers at least once: what was taken in already has no second effect.
static void test_an_event_that_comes_twice(void **state) {
    struct pair p = pair_new(state);
    struct id m = new_id(p.f);
    send_text(p.f, &p.alice, "ab", &m, "hello");
    await_entry(p.f, &p.bob, 0, ENTRY_MESSAGE, &m);
    struct chat_actor desk = login(p.f, "bob").actor;
    assert_int_equal(mailbox(p.f, &desk, 0, 0, 0)->n, 1);
    struct error e = {0};
    struct bus_event again = {
        .event_id = m, .topic = "message_send", .key = "ab", .payload = "{}", .payload_length = 2};
    assert_int_equal(bus_publish(p.f->bus, &again, published_again, p.f, &e), ERR_OK);
    run_for(p.f, 150);
    assert_int_equal(mailbox(p.f, &p.bob, 0, 0, 0)->n, 1);
    assert_int_equal(mailbox(p.f, &desk, 0, 0, 0)->n, 1);
    struct chat_stats stats;
    chat_stats(p.f->chat, &stats);
    assert_int_equal(stats.queued, 1);
}

// The process goes away right after the answer: what was accepted arrives.
static void test_accepted_survives_a_restart(void **state) {
    struct pair p = pair_new(state);
    struct id m = new_id(p.f);
    assert_int_equal(send_text(p.f, &p.alice, "ab", &m, "hello").err, ERR_OK);
    fixture_close(p.f);
    fixture_open(p.f);
    await_entry(p.f, &p.bob, 0, ENTRY_MESSAGE, &m);
    run_for(p.f, 50);
    assert_int_equal(mailbox(p.f, &p.bob, 0, 0, 0)->n, 1);
    assert_string_equal(get(p.f, &p.bob, &m).text, "hello");
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_a_text_from_alice_to_bobs_eye),
        T(test_content_goes_and_the_tombstone_stays),
        T(test_the_same_id_a_hundred_times_at_once),
        T(test_the_same_id_for_something_else),
        T(test_what_is_not_valid),
        T(test_strangers_see_nothing),
        T(test_receipts_are_monotonic_and_repeatable),
        T(test_delivered_when_the_last_recipient_has_it),
        T(test_alone_in_a_conversation),
        T(test_seq_counts_a_conversation),
        T(test_a_failing_mailbox_is_tried_again_then_parked),
        T(test_an_event_that_comes_twice),
        T(test_accepted_survives_a_restart),
    };
    return fixture_missing() ? 77 : cmocka_run_group_tests(tests, NULL, NULL);
}
