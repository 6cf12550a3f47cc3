// Mailboxes: replay, drained, live; the window; slow peers; long polls; acks.
#include "chat/chat_fixture.h"

#include "base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct burst {
    struct fixture *f;
    size_t left;
};
static void sent_one(void *arg, const struct error *error, const struct chat_accepted *ok) {
    struct burst *b = arg;
    if (error != NULL) fail_msg("%s", error->text);
    b->left--;
    loop_stop(b->f->loop);
}
static bool all_sent(void *arg) { return ((struct burst *)arg)->left == 0; }

// Many messages at once.
static void send_many(struct pair *p, size_t n) {
    struct burst b = {.f = p->f, .left = n};
    for (size_t i = 0; i < n; i++) {
        struct chat_send m = {.conversation_id = "ab",
                              .message_id = new_id(p->f),
                              .by_user_id = "alice",
                              .text = "hello",
                              .text_length = 5};
        chat_send(p->f->chat, &p->alice, &m, sent_one, &b);
    }
    run_until(p->f, all_sent, &b);
}

struct queued {
    struct pair *p;
    size_t n;
};
static bool is_queued(void *arg) {
    struct queued *q = arg;
    struct chat_stats stats;
    chat_stats(q->p->f->chat, &stats);
    return stats.queued >= q->n;
}
// … and they are in bob's mailbox.
static void queue_many(struct pair *p, size_t n) {
    struct chat_stats stats;
    chat_stats(p->f->chat, &stats);
    struct queued q = {p, stats.queued + n};
    send_many(p, n);
    run_until(p->f, is_queued, &q);
}

static void assert_gapless(const struct seen *s, uint64_t from) {
    for (size_t i = 0; i < s->n; i++) assert_int_equal(s->entries[i].cursor, from + i);
}

static void test_replay_then_drained_then_live(void **state) {
    struct pair p = pair_new(state);
    queue_many(&p, 150); // more than a page
    struct seen *bob = attach(p.f, &p.bob, 0);
    bob->acks = true;
    await_drained(bob);
    assert_int_equal(bob->drained_at, 150);
    send_many(&p, 20);
    await_seen(bob, 170);
    assert_gapless(bob, 1);
    detach(bob);
}

// Messages that come while the replay is going on are neither lost nor shown twice nor out of order.
static void test_live_during_replay(void **state) {
    struct pair p = pair_new(state);
    queue_many(&p, 100);
    for (int round = 0; round < 5; round++) {
        struct seen *bob = attach(p.f, &p.bob, 0);
        bob->acks = false;
        send_many(&p, 10);
        await_seen(bob, 110 + 10 * (size_t)round);
        await_drained(bob);
        assert_gapless(bob, 1);
        detach(bob);
    }
}

static int64_t entries_of_bob(struct fixture *f) {
    return count(f, "select count(*) from mailbox b join device d on d.did = b.did "
                    "join account a on a.uid = d.uid where a.user_id = 'bob'");
}
static bool is_empty(void *arg) { return entries_of_bob(arg) == 0; }
static bool has_twenty(void *arg) { return entries_of_bob(arg) == 20; }

static void test_from_a_cursor(void **state) {
    struct pair p = pair_new(state);
    queue_many(&p, 10);
    struct seen *bob = attach(p.f, &p.bob, 7);
    await_drained(bob);
    assert_int_equal(bob->n, 3);
    assert_gapless(bob, 8);
    detach(bob);
    assert_int_equal(ack(p.f, &p.bob, 8), ERR_OK);
    bob = attach(p.f, &p.bob, 2); // what was let go of does not come back
    await_drained(bob);
    assert_int_equal(bob->n, 2);
    assert_gapless(bob, 9);
    detach(bob);
    bob = attach(p.f, &p.bob, 1000); // from a future that has not been: what is there
    await_drained(bob);
    assert_int_equal(bob->n, 2);
    send_many(&p, 1);
    await_seen(bob, 3);
    assert_gapless(bob, 9);
    chat_link_ack(bob->link, 11);
    run_until(p.f, is_empty, p.f);
    detach(bob);
}

static void test_the_window(void **state) {
    struct pair p = pair_new(state);
    queue_many(&p, 300);
    struct seen *bob = attach(p.f, &p.bob, 0);
    await_seen(bob, 256);
    send_many(&p, 5);
    run_for(p.f, 50);
    assert_int_equal(bob->n, 256);
    assert_false(bob->drained);
    chat_link_ack(bob->link, 255);
    await_seen(bob, 305);
    await_drained(bob);
    assert_gapless(bob, 1);
    detach(bob);
}

static void test_bytes_in_flight_hold_the_link(void **state) {
    struct pair p = pair_new(state);
    struct seen *bob = attach(p.f, &p.bob, 0);
    await_drained(bob);
    bob->in_flight = 2 * 1024 * 1024;
    queue_many(&p, 3);
    run_for(p.f, 150);
    assert_int_equal(bob->n, 0);
    bob->in_flight = 0;
    await_seen(bob, 3);
    assert_gapless(bob, 1);
    detach(bob);
}

static void reopen(struct fixture *f) {
    fixture_close(f);
    fixture_open(f);
}

static void test_a_slow_link_is_closed_and_drains_later(void **state) {
    struct pair p = pair_new(state);
    p.f->options.slow_link_ms = 100;
    reopen(p.f);
    queue_many(&p, 300);
    struct seen *bob = attach(p.f, &p.bob, 0);
    await_closed(bob, "slow");
    assert_int_equal(bob->n, 256);
    detach(bob);
    bob = attach(p.f, &p.bob, 0);
    bob->acks = true;
    await_drained(bob);
    assert_int_equal(bob->n, 300);
    detach(bob);
}

static void test_a_link_that_makes_progress_stays(void **state) {
    struct pair p = pair_new(state);
    p.f->options.slow_link_ms = 200;
    reopen(p.f);
    queue_many(&p, 300);
    struct seen *bob = attach(p.f, &p.bob, 0);
    await_seen(bob, 256);
    for (int i = 0; i < 5; i++) { // it acknowledges one every 100 ms: still waiting, but moving
        run_for(p.f, 100);
        assert_string_equal(bob->closed, "");
        chat_link_ack(bob->link, (uint64_t)i + 1);
    }
    detach(bob);
}

static void test_one_link_a_device(void **state) {
    struct pair p = pair_new(state);
    struct seen *first = attach(p.f, &p.bob, 0);
    await_drained(first);
    struct seen *second = attach(p.f, &p.bob, 0);
    assert_string_equal(first->closed, "replaced");
    queue_many(&p, 1);
    await_seen(second, 1);
    assert_int_equal(first->n, 0);
    detach(first);
    detach(second);
}

static void test_acks_let_go_of_entries(void **state) {
    struct pair p = pair_new(state);
    struct seen *bob = attach(p.f, &p.bob, 0);
    queue_many(&p, 50);
    await_seen(bob, 50);
    chat_link_ack(bob->link, 51); // beyond what was sent: ignored
    for (uint64_t cursor = 1; cursor <= 30; cursor++) chat_link_ack(bob->link, cursor);
    chat_link_ack(bob->link, 5); // late: changes nothing
    run_until(p.f, has_twenty, p.f);
    run_for(p.f, 50);
    assert_int_equal(entries_of_bob(p.f), 20);
    chat_link_ack(bob->link, 50);
    detach(bob); // the ack counts although the link is gone
    run_until(p.f, is_empty, p.f);
}

static void test_many_acks_are_few_transactions(void **state) {
    struct pair p = pair_new(state);
    struct seen *bob = attach(p.f, &p.bob, 0);
    queue_many(&p, 200);
    await_seen(bob, 200);
    struct database_stats before, after;
    database_stats(p.f->database, &before);
    for (uint64_t cursor = 1; cursor <= 200; cursor++) chat_link_ack(bob->link, cursor);
    while (entries_of_bob(p.f) > 0) {
    }
    database_stats(p.f->database, &after);
    assert_true(after.commits - before.commits < 50);
    detach(bob);
}

static void test_ack_by_request(void **state) {
    struct pair p = pair_new(state);
    queue_many(&p, 3);
    assert_int_equal(ack(p.f, &p.bob, 4), ERR_INVALID);
    assert_int_equal(ack(p.f, &p.bob, 2), ERR_OK);
    assert_int_equal(ack(p.f, &p.bob, 1), ERR_OK);
    const struct page_seen *page = mailbox(p.f, &p.bob, 0, 0, 0);
    assert_int_equal(page->n, 1);
    assert_int_equal(page->entries[0].cursor, 3);
    assert_true(page->drained);
}

static void test_pages(void **state) {
    struct pair p = pair_new(state);
    queue_many(&p, 5);
    const struct page_seen *page = mailbox(p.f, &p.bob, 0, 3, 0);
    assert_int_equal(page->n, 3);
    assert_false(page->drained);
    page = mailbox(p.f, &p.bob, 3, 3, 0);
    assert_int_equal(page->n, 2);
    assert_true(page->drained);
    page = mailbox(p.f, &p.bob, 5, 3, 0);
    assert_int_equal(page->n, 0);
    assert_true(page->drained);
}

struct poll_seen {
    struct fixture *f;
    bool done;
    enum err err;
    size_t n;
};
static void polled(void *arg, const struct error *error, const struct chat_entry *entries, size_t n, bool drained) {
    struct poll_seen *s = arg;
    assert_false(s->done);
    s->done = true;
    s->err = error != NULL ? error->code : ERR_OK;
    s->n = n;
    loop_stop(s->f->loop);
}
static bool is_polled(void *arg) { return ((struct poll_seen *)arg)->done; }

static void test_a_poll_waits_for_an_entry(void **state) {
    struct pair p = pair_new(state);
    struct poll_seen s = {.f = p.f};
    chat_mailbox(p.f->chat, &p.bob, 0, 0, 30000, polled, &s);
    run_for(p.f, 50);
    assert_false(s.done);
    send_many(&p, 1);
    run_until(p.f, is_polled, &s);
    assert_int_equal(s.n, 1);
}

static void test_polls_end(void **state) {
    struct pair p = pair_new(state);
    const struct page_seen *page = mailbox(p.f, &p.bob, 0, 0, 30); // by time
    assert_int_equal(page->err, ERR_OK);
    assert_int_equal(page->n, 0);
    assert_true(page->drained);
    struct poll_seen cancelled = {.f = p.f}, closed = {.f = p.f};
    chat_poll_cancel(chat_mailbox(p.f->chat, &p.bob, 0, 0, 30000, polled, &cancelled));
    chat_mailbox(p.f->chat, &p.bob, 0, 0, 30000, polled, &closed);
    run_for(p.f, 20);
    assert_int_equal(logout(p.f, &p.bob), ERR_OK);
    run_until(p.f, is_polled, &closed);
    assert_int_equal(closed.err, ERR_UNAUTHORIZED);
    assert_false(cancelled.done);
}

static void test_polls_of_a_device_are_bounded(void **state) {
    struct pair p = pair_new(state);
    struct poll_seen polls[12];
    for (size_t i = 0; i < 12; i++) {
        polls[i] = (struct poll_seen){.f = p.f};
        chat_mailbox(p.f->chat, &p.bob, 0, 0, 30000, polled, &polls[i]);
    }
    run_until(p.f, is_polled, &polls[0]);
    run_for(p.f, 50);
    size_t waiting = 0;
    for (size_t i = 0; i < 12; i++) waiting += polls[i].done ? 0 : 1;
    assert_int_equal(waiting, 8);
}

// Whoever was away gets his receipts as he gets his messages.
static void test_receipts_for_a_sender_who_was_away(void **state) {
    struct pair p = pair_new(state);
    struct id m = new_id(p.f);
    send_text(p.f, &p.alice, "ab", &m, "hello");
    await_entry(p.f, &p.bob, 0, ENTRY_MESSAGE, &m);
    assert_int_equal(read_it(p.f, &p.bob, &m), ERR_OK);
    reopen(p.f);
    struct seen *alice = attach(p.f, &p.alice, 0);
    await_drained(alice);
    assert_int_equal(alice->n, 2);
    assert_int_equal(alice->entries[0].type, ENTRY_DELIVERED);
    assert_int_equal(alice->entries[1].type, ENTRY_READ);
    detach(alice);
}

static void each_link(void *arg, const struct chat_actor *who, const char *address, uint64_t unacked) {
    snprintf(arg, 128, "%s %s %d", who->user_id, address, (int)unacked);
}

static void test_presence(void **state) {
    struct pair p = pair_new(state);
    char line[128] = "";
    struct seen *bob = attach(p.f, &p.bob, 0);
    queue_many(&p, 2);
    await_seen(bob, 2);
    chat_each_link(p.f->chat, each_link, line);
    assert_string_equal(line, "bob 127.0.0.1:1 2");
    struct chat_stats stats;
    chat_stats(p.f->chat, &stats);
    assert_int_equal(stats.links, 1);
    detach(bob);
    chat_stats(p.f->chat, &stats);
    assert_int_equal(stats.links, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        T(test_replay_then_drained_then_live),
        T(test_live_during_replay),
        T(test_from_a_cursor),
        T(test_the_window),
        T(test_bytes_in_flight_hold_the_link),
        T(test_a_slow_link_is_closed_and_drains_later),
        T(test_a_link_that_makes_progress_stays),
        T(test_one_link_a_device),
        T(test_acks_let_go_of_entries),
        T(test_many_acks_are_few_transactions),
        T(test_ack_by_request),
        T(test_pages),
        T(test_a_poll_waits_for_an_entry),
        T(test_polls_end),
        T(test_polls_of_a_device_are_bounded),
        T(test_receipts_for_a_sender_who_was_away),
        T(test_presence),
    };
    return fixture_missing() ? 77 : cmocka_run_group_tests(tests, NULL, NULL);
}
