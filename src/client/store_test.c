// The local store: what it keeps, in what order, and what two processes of one profile see of each other.
#include "base/test.h"
#include "client/store.h"
#include "client/store_inbox.h"
#include "client/store_outbox.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct fixture {
    char dir[64], path[96];
    struct store *store;
};

static int set_up(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    snprintf(f->dir, sizeof f->dir, "/tmp/barid-store-XXXXXX");
    if (!f || !mkdtemp(f->dir)) return -1;
    snprintf(f->path, sizeof f->path, "%s/client.db", f->dir);
    struct error e = {0};
    if (store_open(&f->store, f->path, &e)) return -1;
    *state = f;
    return 0;
}

static int tear_down(void **state) {
    struct fixture *f = *state;
    store_close(f->store);
    static const char *const ends[] = {"", "-wal", "-shm"};
    for (int i = 0; i < 3; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s%s", f->path, ends[i]);
        unlink(path);
    }
    rmdir(f->dir);
    free(f);
    return 0;
}

static void reopen(struct fixture *f) {
    store_close(f->store);
    f->store = NULL;
    assert_int_equal(store_open(&f->store, f->path, NULL), ERR_OK);
}

static const char *id_of(int n) {
    static char ids[8][ID_TEXT];
    char *id = ids[n % 8];
    snprintf(id, ID_TEXT, "01a1fca4-0000-7000-8000-%012d", n);
    return id;
}

static void put(struct fixture *f, int n, const char *conversation) {
    char text[32];
    snprintf(text, sizeof text, "text %d", n);
    struct out_message m = {.text = text, .created_at = 1000 + n};
    snprintf(m.message_id, sizeof m.message_id, "%.36s", id_of(n));
    snprintf(m.conversation_id, sizeof m.conversation_id, "%s", conversation);
    assert_int_equal(store_outbox_add(f->store, &m, NULL), ERR_OK);
}

static void assert_next(struct fixture *f, const char *conversation, int n) {
    struct out_message m;
    assert_int_equal(store_outbox_next(f->store, conversation, &m, NULL), ERR_OK);
    assert_string_equal(m.message_id, id_of(n));
    out_message_release(&m);
}

static enum out_state state_of(struct fixture *f, int n) {
    struct out_message m;
    assert_int_equal(store_outbox_get(f->store, id_of(n), &m, NULL), ERR_OK);
    enum out_state state = m.state;
    out_message_release(&m);
    return state;
}

static void a_conversation_goes_out_in_the_order_it_was_written(void **state) {
    struct fixture *f = *state;
    put(f, 3, "a");
    put(f, 1, "a");
    put(f, 2, "b");
    assert_next(f, "a", 3);
    assert_next(f, "b", 2);
    assert_int_equal(store_outbox_accepted(f->store, id_of(3), 1, 2000, NULL), ERR_OK);
    assert_next(f, "a", 1);
    struct out_message m;
    assert_int_equal(store_outbox_accepted(f->store, id_of(1), 2, 2000, NULL), ERR_OK);
    assert_int_equal(store_outbox_next(f->store, "a", &m, NULL), ERR_NOT_FOUND);
}

static void what_is_created_is_there_after_reopening(void **state) {
    struct fixture *f = *state;
    put(f, 1, "a");
    assert_int_equal(store_outbox_trying(f->store, id_of(1), NULL), ERR_OK);
    reopen(f);
    assert_next(f, "a", 1);
    assert_int_equal(state_of(f, 1), OUT_SENDING);
}

static void a_message_that_may_yet_succeed_holds_its_followers(void **state) {
    struct fixture *f = *state;
    put(f, 1, "a");
    put(f, 2, "a");
    assert_int_equal(store_outbox_later(f->store, id_of(1), 1500, "attempt 1: busy", 9000, 8000, NULL), ERR_OK);
    assert_next(f, "a", 1);
    struct out_message m;
    store_outbox_get(f->store, id_of(1), &m, NULL);
    assert_string_equal(m.error, "attempt 1: busy");
    assert_int_equal(m.next_at, 9000);
    assert_int_equal(m.floor_at, 8000);
    out_message_release(&m);
}

static void a_rejected_message_steps_aside(void **state) {
    struct fixture *f = *state;
    put(f, 1, "a");
    put(f, 2, "a");
    assert_int_equal(store_outbox_rejected(f->store, id_of(1), 1500, "must not be empty", NULL), ERR_OK);
    assert_next(f, "a", 2);
    assert_int_equal(state_of(f, 1), OUT_REJECTED);
}

static void a_receipt_proves_acceptance(void **state) {
    struct fixture *f = *state;
    bool fresh;
    put(f, 1, "a");
    store_outbox_trying(f->store, id_of(1), NULL);
    assert_int_equal(store_receipt_add(f->store, id_of(1), RECEIPT_DELIVERED, "bob", 0, 3000, &fresh, NULL), ERR_OK);
    assert_true(fresh);
    assert_int_equal(state_of(f, 1), OUT_ACCEPTED);
    // The late answer of a try in another process changes nothing.
    store_outbox_rejected(f->store, id_of(1), 4000, "late", NULL);
    store_outbox_later(f->store, id_of(1), 4000, "late", 5000, 0, NULL);
    assert_int_equal(state_of(f, 1), OUT_ACCEPTED);
    assert_int_equal(store_receipt_add(f->store, id_of(1), RECEIPT_DELIVERED, "bob", 0, 3001, &fresh, NULL), ERR_OK);
    assert_false(fresh);
}

static struct in_message message(int n, uint64_t seq) {
    struct in_message m = {.text = (char *)"salam", .seq = seq, .accepted_at = 1000, .received_at = 2000};
    snprintf(m.message_id, sizeof m.message_id, "%.36s", id_of(n));
    snprintf(m.conversation_id, sizeof m.conversation_id, "a");
    snprintf(m.by_user_id, sizeof m.by_user_id, "alice");
    return m;
}

static bool count(void *arg, const struct in_message *m) {
    (*(int *)arg)++;
    return true;
}

static void a_message_is_stored_once(void **state) {
    struct fixture *f = *state;
    struct in_message m = message(1, 1);
    bool fresh;
    assert_int_equal(store_message_add(f->store, &m, &fresh, NULL), ERR_OK);
    assert_true(fresh);
    m.text = (char *)"something else";
    assert_int_equal(store_message_add(f->store, &m, &fresh, NULL), ERR_OK);
    assert_false(fresh);
    struct in_message stored;
    store_message_get(f->store, id_of(1), &stored, NULL);
    assert_string_equal(stored.text, "salam");
    in_message_release(&stored);
    int n = 0;
    store_message_each(f->store, INBOX_ALL, NULL, count, &n, NULL);
    assert_int_equal(n, 1);
}

static bool take_seq(void *arg, const struct in_message *m) {
    uint64_t *last = arg;
    assert_true(m->seq > *last);
    *last = m->seq;
    return true;
}

static void messages_are_listed_by_seq_whatever_order_they_came_in(void **state) {
    struct fixture *f = *state;
    static const int order[] = {3, 1, 2};
    bool fresh;
    for (int i = 0; i < 3; i++) {
        struct in_message m = message(order[i], (uint64_t)order[i]);
        store_message_add(f->store, &m, &fresh, NULL);
    }
    uint64_t last = 0;
    store_message_each(f->store, INBOX_ALL, "a", take_seq, &last, NULL);
    assert_int_equal(last, 3);
}

static void reading_is_an_intent_until_it_is_told(void **state) {
    struct fixture *f = *state;
    struct in_message m = message(1, 1);
    char ids[4][ID_TEXT];
    bool fresh;
    store_message_add(f->store, &m, &fresh, NULL);
    assert_int_equal(store_read_untold(f->store, ids, 4), 0);
    store_message_read(f->store, id_of(1), 5000, NULL);
    store_message_read(f->store, id_of(1), 6000, NULL);
    reopen(f);
    assert_int_equal(store_read_untold(f->store, ids, 4), 1);
    assert_string_equal(ids[0], id_of(1));
    store_message_get(f->store, id_of(1), &m, NULL);
    assert_int_equal(m.read_at, 5000);
    in_message_release(&m);
    store_message_read_told(f->store, id_of(1), NULL);
    assert_int_equal(store_read_untold(f->store, ids, 4), 0);
    int n = 0;
    store_message_each(f->store, INBOX_UNREAD, NULL, count, &n, NULL);
    assert_int_equal(n, 0);
}

static struct account account(const char *device) {
    struct account a = {.server = "http://h", .user_id = "bob", .token = "t"};
    snprintf(a.device_id, sizeof a.device_id, "%s", device);
    return a;
}

static uint64_t cursor(struct fixture *f) {
    struct account a;
    assert_int_equal(store_account(f->store, &a, NULL), ERR_OK);
    return a.cursor;
}

static void the_cursor_goes_forward_and_belongs_to_the_device(void **state) {
    struct fixture *f = *state;
    struct account one = account("one"), two = account("two"), none;
    assert_int_equal(store_account(f->store, &none, NULL), ERR_NOT_FOUND);
    store_account_set(f->store, &one, NULL);
    store_cursor_set(f->store, 7, NULL);
    store_cursor_set(f->store, 5, NULL);
    assert_int_equal(cursor(f), 7);
    store_account_set(f->store, &one, NULL);
    assert_int_equal(cursor(f), 7);
    store_account_set(f->store, &two, NULL);
    assert_int_equal(cursor(f), 0);
}

static void an_end_of_an_id_finds_the_message(void **state) {
    struct fixture *f = *state;
    char id[ID_TEXT];
    put(f, 1111, "a");
    put(f, 2111, "a");
    assert_int_equal(store_resolve(f->store, "1111", id, NULL), ERR_OK);
    assert_string_equal(id, id_of(1111));
    assert_int_equal(store_resolve(f->store, "0111", id, NULL), ERR_NOT_FOUND);
    assert_int_equal(store_resolve(f->store, "01a1fca4", id, NULL), ERR_CONFLICT);
    assert_int_equal(store_resolve(f->store, "111", id, NULL), ERR_INVALID);
    assert_int_equal(store_resolve(f->store, "%1111", id, NULL), ERR_INVALID);
}

static void another_process_is_noticed(void **state) {
    struct fixture *f = *state;
    struct fixture other = *f;
    assert_int_equal(store_open(&other.store, f->path, NULL), ERR_OK);
    int64_t before = store_version(f->store);
    put(f, 1, "a");
    assert_int_equal(store_version(f->store), before);
    put(&other, 2, "a");
    assert_int_not_equal(store_version(f->store), before);
    assert_int_equal(state_of(f, 2), OUT_CREATED);
    store_close(other.store);
}

static void the_outbox_is_bounded(void **state) {
    struct fixture *f = *state;
    sqlite3 *db;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db,
                                  "with recursive n (i) as (select 1 union all select i + 1 from n where i < 10000)"
                                  " insert into outbox (message_id, conversation_id, message_text, created_at)"
                                  " select 'm' || i, 'a', 't', 1 from n",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    struct out_message m = {.text = (char *)"one too many", .created_at = 1};
    snprintf(m.message_id, sizeof m.message_id, "%.36s", id_of(1));
    snprintf(m.conversation_id, sizeof m.conversation_id, "a");
    assert_int_equal(store_outbox_add(f->store, &m, NULL), ERR_LIMIT);
    store_outbox_accepted(f->store, "m1", 1, 1, NULL);
    assert_int_equal(store_outbox_add(f->store, &m, NULL), ERR_OK);
}

static void a_newer_store_is_refused(void **state) {
    struct fixture *f = *state;
    sqlite3 *db;
    sqlite3_open(f->path, &db);
    sqlite3_exec(db, "pragma user_version = 1000", NULL, NULL, NULL);
    sqlite3_close(db);
    struct store *second;
    assert_int_equal(store_open(&second, f->path, NULL), ERR_VERSION);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_conversation_goes_out_in_the_order_it_was_written),
        TEST(what_is_created_is_there_after_reopening),
        TEST(a_message_that_may_yet_succeed_holds_its_followers),
        TEST(a_rejected_message_steps_aside),
        TEST(a_receipt_proves_acceptance),
        TEST(a_message_is_stored_once),
        TEST(messages_are_listed_by_seq_whatever_order_they_came_in),
        TEST(reading_is_an_intent_until_it_is_told),
        TEST(the_cursor_goes_forward_and_belongs_to_the_device),
        TEST(an_end_of_an_id_finds_the_message),
        TEST(another_process_is_noticed),
        TEST(the_outbox_is_bounded),
        TEST(a_newer_store_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
