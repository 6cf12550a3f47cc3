// barid_outbox_store in an application's transaction. BARID_TEST_OUTBOX is the URL of a database with barid's schema
// (tests/outbox/test_store.py makes one); without it every test but the first is skipped by name.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "barid.h"
#include "lib/event.h"

#include <libpq-fe.h>

struct rig {
    PGconn *c, *other;
    barid_outbox *o;
    char topic[32];
};

static const char *server(void) { return getenv("BARID_TEST_OUTBOX"); }

static PGconn *dial(void) {
    PGconn *c = PQconnectdb(server());
    if (PQstatus(c) != CONNECTION_OK) fail_msg("%s", PQerrorMessage(c));
    return c;
}

static void run(PGconn *c, const char *sql) {
    PGresult *r = PQexec(c, sql);
    if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(c));
    PQclear(r);
}

// The first column of the first row, good until the next call; "" for none.
static const char *ask(PGconn *c, const char *sql) {
    static char out[512];
    PGresult *r = PQexec(c, sql);
    if (PQresultStatus(r) != PGRES_TUPLES_OK) fail_msg("%s: %s", sql, PQerrorMessage(c));
    snprintf(out, sizeof out, "%s", PQntuples(r) > 0 ? PQgetvalue(r, 0, 0) : "");
    PQclear(r);
    return out;
}

static int setup(void **state) {
    struct rig *r = calloc(1, sizeof *r);
    r->c = dial();
    r->other = dial();
    r->o = barid_outbox_new();
    run(r->c, "set client_min_messages = warning");
    run(r->c, "drop table if exists orders");
    run(r->c, "create table orders (n int)");
    run(r->c, "truncate barid.outbox");
    run(r->c, "begin");
    run(r->c, "insert into orders values (1)");
    *state = r;
    return 0;
}

static int teardown(void **state) {
    struct rig *r = *state;
    PQfinish(r->c);
    PQfinish(r->other);
    barid_outbox_free(r->o);
    free(r);
    return 0;
}

static barid_result store(struct rig *r, const char *topic, const char *key, const char *id) {
    barid_event *e = barid_event_new(topic, key, "{\"n\":1}", 7);
    if (id) assert_int_equal(barid_event_id(e, id), BARID_STORED);
    barid_result result = barid_outbox_store(r->o, r->c, e);
    barid_event_free(e);
    return result;
}

static void assert_orders(struct rig *r, const char *n) {
    run(r->c, "commit");
    assert_string_equal(ask(r->other, "select count(*) from orders"), n);
}

static void headers_become_json(void **state) {
    int none;
    barid_event *e = barid_event_new("t", NULL, "", 0);
    assert_null(event_headers_json(e, &none));
    assert_true(none);
    barid_event_header(e, "a", "old");
    barid_event_header(e, "b\"\\", "line\n\x01 é");
    barid_event_header(e, "a", "new");
    char *json = event_headers_json(e, &none);
    assert_string_equal(json, "{\"a\":\"new\",\"b\\\"\\\\\":\"line\\u000a\\u0001 é\"}");
    free(json);
    assert_int_equal(barid_event_header(e, "", "x"), BARID_INVALID);
    barid_event_free(e);
}

static void an_event_is_stored_with_the_change_it_tells_of(void **state) {
    struct rig *r = *state;
    char id[64];
    barid_event *e = barid_event_new("orders", "order-1", "\0\1\2", 3);
    barid_event_header(e, "traceparent", "00-\"abc\"");
    assert_int_equal(barid_outbox_store(r->o, r->c, e), BARID_STORED);
    barid_event_free(e);
    assert_string_equal(barid_outbox_error(r->o), "");
    snprintf(id, sizeof id, "%s", barid_outbox_event_id(r->o));
    assert_string_equal(ask(r->other, "select count(*) from barid.outbox"), "0");
    assert_orders(r, "1");
    assert_string_equal(
        ask(r->c, "select event_id from barid.outbox where topic = 'orders' and key = 'order-1' and state = 0"), id);
    assert_string_equal(ask(r->c, "select encode(payload, 'hex') from barid.outbox"), "000102");
    assert_string_equal(ask(r->c, "select headers->>'traceparent' from barid.outbox"), "00-\"abc\"");
}

static void an_event_goes_with_a_rollback(void **state) {
    struct rig *r = *state;
    assert_int_equal(store(r, "orders", NULL, NULL), BARID_STORED);
    run(r->c, "rollback");
    assert_string_equal(ask(r->c, "select count(*) from barid.outbox"), "0");
}

static void an_id_of_the_callers_is_kept(void **state) {
    struct rig *r = *state;
    assert_int_equal(store(r, "orders", NULL, "0190f3a0-0000-7000-8000-000000000001"), BARID_STORED);
    assert_string_equal(barid_outbox_event_id(r->o), "0190f3a0-0000-7000-8000-000000000001");
}

static void an_invalid_event_is_refused_and_the_transaction_lives(void **state) {
    struct rig *r = *state;
    char key[300];
    memset(key, 'k', sizeof key - 1);
    key[sizeof key - 1] = 0;
    assert_int_equal(store(r, "no topic", NULL, NULL), BARID_INVALID);
    assert_non_null(strstr(barid_outbox_error(r->o), "a topic has 1 to 249"));
    assert_string_equal(barid_outbox_event_id(r->o), "");
    assert_int_equal(store(r, "t", key, NULL), BARID_INVALID);
    assert_int_equal(store(r, "t", "\xff", NULL), BARID_INVALID);
    assert_int_equal(store(r, "t", NULL, "no uuid"), BARID_INVALID);
    assert_int_equal(store(r, "orders", NULL, NULL), BARID_STORED);
    assert_orders(r, "1");
    assert_string_equal(ask(r->c, "select count(*) from barid.outbox"), "1");
}

static void an_invalid_event_is_marked_when_asked_and_never_picked(void **state) {
    struct rig *r = *state;
    char id[64];
    barid_outbox_mark_invalid(r->o, 1);
    assert_int_equal(store(r, "no topic", "k", "0190f3a0-0000-7000-8000-000000000002"), BARID_MARKED);
    snprintf(id, sizeof id, "%s", barid_outbox_event_id(r->o));
    assert_string_equal(id, "0190f3a0-0000-7000-8000-000000000002");
    assert_non_null(strstr(barid_outbox_error(r->o), "a topic has"));
    assert_orders(r, "1");
    assert_string_equal(ask(r->c, "select event_id from barid.outbox where state = 1 and parked_at is not null "
                                  "and error like '%a topic has%' and topic = 'no topic' and key = 'k'"),
                        id);
    assert_string_equal(ask(r->c, "select count(*) from barid.outbox where state = 0"), "0");
}

static void what_the_database_cannot_hold_is_marked_without_it(void **state) {
    struct rig *r = *state;
    barid_outbox_mark_invalid(r->o, 1);
    assert_int_equal(store(r, "orders", "\xff", NULL), BARID_MARKED);
    assert_int_equal(store(r, "orders", NULL, "no uuid"), BARID_MARKED);
    assert_orders(r, "1");
    assert_string_equal(ask(r->c, "select count(*) from barid.outbox where state = 1"), "2");
    assert_string_equal(ask(r->c, "select count(*) from barid.outbox where state = 1 and key = '?'"), "1");
}

static void what_passes_is_tried_so_often_and_then_said(void **state) {
    struct rig *r = *state;
    barid_outbox_attempts(r->o, 3);
    barid_outbox_backoff_ms(r->o, 1);
    barid_outbox_mark_invalid(r->o, 1);
    run(r->c, "set local lock_timeout = '20ms'");
    run(r->other, "begin");
    run(r->other, "lock table barid.outbox in access exclusive mode");
    assert_int_equal(store(r, "orders", NULL, NULL), BARID_FAILED);
    assert_non_null(strstr(barid_outbox_error(r->o), "lock timeout"));
    run(r->other, "rollback");
    assert_int_equal(store(r, "orders", NULL, NULL), BARID_STORED);
    assert_orders(r, "1");
}

// It fails twice and then goes: a sequence counts, which no rollback takes back.
static void the_third_attempt_may_do_it(void **state) {
    struct rig *r = *state;
    run(r->other, "drop sequence if exists tries; create sequence tries");
    run(r->other,
        "create or replace function busy() returns trigger language plpgsql as $$ begin "
        "if nextval('tries') < 3 then raise exception 'busy' using errcode = '55P03'; end if; return new; end $$");
    run(r->other, "create or replace trigger busy before insert on barid.outbox for each row execute function busy()");
    barid_outbox_backoff_ms(r->o, 1);
    barid_outbox_attempts(r->o, 2);
    assert_int_equal(store(r, "orders", NULL, NULL), BARID_FAILED);
    run(r->other, "select setval('tries', 1, false)");
    barid_outbox_attempts(r->o, 3);
    assert_int_equal(store(r, "orders", NULL, NULL), BARID_STORED);
    assert_string_equal(ask(r->other, "select last_value from tries"), "3");
    assert_orders(r, "1");
    run(r->other, "drop trigger busy on barid.outbox");
}

static void without_a_transaction_nothing_is_done(void **state) {
    struct rig *r = *state;
    run(r->c, "commit");
    assert_int_equal(store(r, "orders", NULL, NULL), BARID_NO_TRANSACTION);
    run(r->c, "begin");
    PQclear(PQexec(r->c, "select 1/0"));
    assert_int_equal(store(r, "orders", NULL, NULL), BARID_BROKEN);
    run(r->c, "rollback");
}

static void a_lost_connection_is_said(void **state) {
    struct rig *r = *state;
    char sql[64];
    snprintf(sql, sizeof sql, "select pg_terminate_backend(%d)", PQbackendPID(r->c));
    run(r->other, sql);
    assert_int_equal(store(r, "orders", NULL, NULL), BARID_BROKEN);
    assert_true(barid_outbox_error(r->o)[0] != 0);
}

static void a_database_without_the_outbox_is_said(void **state) {
    struct rig *r = *state;
    run(r->c, "rollback");
    run(r->c, "begin");
    run(r->c, "alter schema barid rename to elsewhere");
    assert_int_equal(store(r, "orders", NULL, NULL), BARID_NOT_MIGRATED);
    run(r->c, "rollback");
}

static void in_sql_an_event_is_published_or_parked(void **state) {
    struct rig *r = *state;
    assert_string_equal(
        ask(r->c,
            "select error is null and event_id is not null from barid.publish_or_park('orders', 'k', '{}'::jsonb)"),
        "t");
    assert_string_equal(ask(r->c, "select error from barid.publish_or_park('orders', repeat('k', 256), 'text'::text)"),
                        "barid.publish: a key has at most 255 bytes");
    assert_string_equal(ask(r->c, "select event_id from barid.publish_or_park(null, null, null::bytea, null, "
                                  "'0190f3a0-0000-7000-8000-000000000003')"),
                        "0190f3a0-0000-7000-8000-000000000003");
    assert_orders(r, "1");
    assert_string_equal(ask(r->c, "select string_agg(state::text, '' order by id) from barid.outbox"), "011");
}

static void no_database(void **state) { skip(); }

int main(void) {
    int there = server() != NULL;
#define STORE_TEST(f)                                                                                                  \
    {                                                                                                                  \
        .name = #f, .test_func = there ? f : no_database, .setup_func = there ? setup : NULL,                          \
        .teardown_func = there ? teardown : NULL                                                                       \
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_become_json),
        STORE_TEST(an_event_is_stored_with_the_change_it_tells_of),
        STORE_TEST(an_event_goes_with_a_rollback),
        STORE_TEST(an_id_of_the_callers_is_kept),
        STORE_TEST(an_invalid_event_is_refused_and_the_transaction_lives),
        STORE_TEST(an_invalid_event_is_marked_when_asked_and_never_picked),
        STORE_TEST(what_the_database_cannot_hold_is_marked_without_it),
        STORE_TEST(what_passes_is_tried_so_often_and_then_said),
        STORE_TEST(the_third_attempt_may_do_it),
        STORE_TEST(without_a_transaction_nothing_is_done),
        STORE_TEST(a_lost_connection_is_said),
        STORE_TEST(a_database_without_the_outbox_is_said),
        STORE_TEST(in_sql_an_event_is_published_or_parked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
