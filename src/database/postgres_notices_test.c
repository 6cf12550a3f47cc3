// Notices over a real PostgreSQL: when they are told, when they are not, and what a lost connection changes.
#include "database/postgres_fixture.h"

#include <limits.h>

static const struct migration shape[] = {
    {.number = 1, .name = "things", .sql = "create table things (id bigint primary key)"},
    {.number = 0},
};

struct heard {
    struct test_db *t;
    int nulls, notices;
    char last[64];
    int until_nulls, until_notices; // the loop stops there
};

static void hear(void *arg, const char *payload) {
    struct heard *h = arg;
    if (payload) h->notices++;
    else h->nulls++;
    if (payload) snprintf(h->last, sizeof h->last, "%s", payload);
    if (h->nulls >= h->until_nulls && h->notices >= h->until_notices) loop_stop(h->t->loop);
}

static void wait_until(struct heard *h, int nulls, int notices) {
    h->until_nulls = nulls;
    h->until_notices = notices;
    if (h->nulls < nulls || h->notices < notices) test_db_loop(h->t);
    h->until_nulls = INT_MAX; // others run the loop, too
}

// Until the probe has come through: one NULL for the channel, one for the state.
static void listen_well(struct test_postgres *p, struct heard *h, const char *channel) {
    struct error e = {0};
    *h = (struct heard){.t = &p->t, .until_nulls = INT_MAX};
    if (database_listen(p->t.d, channel, hear, h, &e)) fail_msg("%s", e.text);
    for (int i = 1; database_notices(p->t.d) != NOTICES_ARRIVE; i++) wait_until(h, i, 0);
}

struct saying {
    const char *payload;
    enum err err; // of the unit
};

static enum err say(struct db *db, void *arg) {
    struct saying *s = arg;
    enum err err = db_notify(db, "test_channel", s->payload);
    return err ? err : s->err;
}

static void test_a_notice_comes_with_the_commit_and_not_without(void **state) {
    struct test_postgres p;
    struct heard h, other;
    test_pg_open(&p, shape);
    listen_well(&p, &h, "test_channel");
    listen_well(&p, &other, "other_channel");
    struct saying never = {"never", ERR_FORBIDDEN}, first = {"first", ERR_OK}, empty = {"", ERR_OK};
    assert_int_equal(test_db_do(&p.t, say, &never, false), ERR_FORBIDDEN);
    assert_int_equal(test_db_do(&p.t, say, &first, false), ERR_OK);
    wait_until(&h, 0, 1);
    assert_string_equal(h.last, "first");
    assert_int_equal(test_db_do(&p.t, say, &empty, false), ERR_OK);
    wait_until(&h, 0, 2);
    assert_string_equal(h.last, "");
    assert_int_equal(h.notices, 2);
    assert_int_equal(other.notices, 0);
    test_pg_sql(p.url, "notify test_channel, 'from outside'");
    wait_until(&h, 0, 3);
    assert_string_equal(h.last, "from outside");
    test_pg_close(&p);
}

static void test_who_does_not_listen_any_more_hears_nothing(void **state) {
    struct test_postgres p;
    struct heard h, stays;
    struct saying s = {"news", ERR_OK};
    test_pg_open(&p, shape);
    listen_well(&p, &h, "test_channel");
    listen_well(&p, &stays, "test_channel");
    database_unlisten(p.t.d, "test_channel", hear, &h);
    assert_int_equal(test_db_do(&p.t, say, &s, false), ERR_OK);
    wait_until(&stays, 0, 1);
    assert_int_equal(h.notices, 0);
    struct error e = {0};
    assert_int_equal(database_listen(p.t.d, "drop table", hear, &h, &e), ERR_INVALID);
    test_pg_close(&p);
}

static void test_a_listening_connection_that_is_cut_comes_back(void **state) {
    struct test_postgres p;
    struct heard h;
    struct saying s = {"after", ERR_OK};
    test_pg_open(&p, shape);
    listen_well(&p, &h, "test_channel");
    int nulls = h.nulls;
    test_pg_sql(p.url, "select count(pg_terminate_backend(pid)) from pg_stat_activity "
                       "where datname = current_database() and pid <> pg_backend_pid()");
    do wait_until(&h, ++nulls, 0);
    while (database_notices(p.t.d) != NOTICES_ARRIVE);
    assert_int_equal(test_db_do(&p.t, say, &s, false), ERR_OK);
    wait_until(&h, 0, 1);
    assert_string_equal(h.last, "after");
    test_pg_close(&p);
}

static enum err say_many(struct db *db, void *arg) {
    char payload[32];
    int64_t n = *(int64_t *)arg;
    enum err err = ERR_OK;
    for (int64_t i = 0; i < n && !err; i++) {
        snprintf(payload, sizeof payload, "%d", (int)(i / 2)); // each twice
        err = db_notify(db, "test_channel", payload);
    }
    return err;
}

static void test_notices_of_a_unit_are_bounded_and_not_repeated(void **state) {
    struct test_postgres p;
    struct heard h;
    int64_t many = 120, too_many = 410;
    test_pg_open(&p, shape);
    listen_well(&p, &h, "test_channel");
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(test_db_do(&p.t, say_many, &too_many, false), ERR_LIMIT);
        assert_int_equal(test_db_do(&p.t, say_many, &many, false), ERR_OK);
        wait_until(&h, 0, 60 * i);
        assert_string_equal(h.last, "59");
        assert_int_equal(h.notices, 60 * i);
    }
    test_pg_close(&p);
}

static void test_closing_while_notices_wait_is_fine(void **state) {
    struct test_postgres p;
    struct heard h;
    test_pg_open(&p, shape);
    listen_well(&p, &h, "test_channel");
    test_pg_sql(p.url, "select count(pg_notify('test_channel', i::text)) from generate_series(1, 10000) i");
    wait_until(&h, 0, 1);
    test_pg_close(&p);
}

// ---- the keeper, beside a connection that listens

static enum err ask(struct db *db, void *arg) {
    static struct db_sql sql = {.text = "select 1"};
    int row = db_step(db_prepare(db, &sql));
    return row < 0 ? (enum err) - row : ERR_OK;
}

static void admin(struct test_postgres *p, const char *format) {
    char sql[256];
    snprintf(sql, sizeof sql, format, p->name);
    test_pg_sql(p->admin, sql);
}

// Superusers are above the limit.
static void test_a_refused_connection_is_tried_again_beside_one_that_listens(void **state) {
    struct test_postgres p;
    struct heard h;
    struct error e = {0};
    char url[700];
    test_pg_prepare(&p);
    admin(&p, "create role %s login");
    snprintf(url, sizeof url, "%s%cuser=%s", p.url, strchr(p.url, '?') ? '&' : '?', p.name);
    if (test_pg_open_with(&p, (struct database_options){.url = url}, NULL, &e)) fail_msg("%s", e.text);
    listen_well(&p, &h, "test_channel");
    admin(&p, "alter role %s connection limit 2"); // they stand: one to write, one to listen
    assert_int_equal(test_db_do(&p.t, ask, NULL, true), ERR_UNAVAILABLE);
    admin(&p, "alter role %s connection limit -1");
    uint64_t until = loop_now_ms(p.t.loop) + 10000;
    enum err err;
    do err = test_db_do(&p.t, ask, NULL, true);
    while (err && loop_now_ms(p.t.loop) < until);
    assert_int_equal(err, ERR_OK);
    test_pg_close(&p);
    admin(&p, "drop role %s");
}

// As of a standby, which connects, and then does not let us listen.
static void test_a_server_that_ends_sessions_is_not_besieged(void **state) {
    struct test_postgres p;
    struct heard h;
    test_pg_open(&p, shape);
    if (test_pg_sql(p.admin, "show server_version_num") < 140000) { // which ends idle sessions, and counts sessions
        test_pg_close(&p);
        skip();
    }
    listen_well(&p, &h, "test_channel");
    admin(&p, "alter database %s set idle_session_timeout = 20");
    admin(&p, "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = '%s'");
    test_pg_sql(p.admin, "select pg_sleep(3)");
    char sql[128];
    snprintf(sql, sizeof sql, "select sessions from pg_stat_database where datname = '%s'", p.name);
    assert_in_range(test_pg_sql(p.admin, sql), 1, 24);
    test_pg_close(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_notice_comes_with_the_commit_and_not_without),
        cmocka_unit_test(test_who_does_not_listen_any_more_hears_nothing),
        cmocka_unit_test(test_a_listening_connection_that_is_cut_comes_back),
        cmocka_unit_test(test_notices_of_a_unit_are_bounded_and_not_repeated),
        cmocka_unit_test(test_a_refused_connection_is_tried_again_beside_one_that_listens),
        cmocka_unit_test(test_a_server_that_ends_sessions_is_not_besieged),
        cmocka_unit_test(test_closing_while_notices_wait_is_fine),
    };
    return test_pg_main(tests);
}
