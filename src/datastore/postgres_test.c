// What PostgreSQL adds: several servers on the same contents, a database that goes away, uploads whose server died.
#include "datastore/rig_test.h"

#include "database/database.h"

#define BIG 300000 // more than a chunk

static struct rig f;

static void set_up(void) {
    rig_open(&f, RIG_POSTGRES);
    rig_open_other(&f);
}

static bool remove_in(struct datastore *d) {
    bool held;
    assert_int_equal(rig_remove_in(&f, d, f.hash, false, &held), ERR_OK);
    return !held;
}

// ---- names of several servers

static void test_the_same_content_from_two_servers_is_stored_once(void **state) {
    set_up();
    rig_store(&f, rig_picture(BIG), BIG);
    rig_upload(&f, f.other, rig_picture(BIG), BIG);
    assert_int_equal(rig_own(&f, f.other, f.hash), ERR_OK);
    assert_int_equal(rig_sql(&f, "select count(*) from datastore_upload"), 1);
    assert_int_equal(rig_sql(&f, "select count(*) from datastore_chunk"), 2);
    assert_int_equal(rig_read_all_checked(&f, BIG, BIG), ERR_OK);
    assert_true(remove_in(f.d));
    assert_int_equal(rig_sql(&f, "select count(*) from datastore_chunk"), 0);
    rig_close(&f);
}

static void test_what_another_server_named_and_is_about_to_own_stays(void **state) {
    set_up();
    rig_store(&f, "a picture", 9);
    rig_upload(&f, f.other, "a picture", 9);
    assert_false(remove_in(f.d));
    assert_int_equal(rig_remove(&f, f.d, f.hash), ERR_OK);
    assert_true(rig_is_there(&f, f.hash));
    assert_int_equal(rig_own(&f, f.other, f.hash), ERR_OK);
    rig_sleep(&f, 2 * RIG_HOLD_MS);
    assert_true(rig_is_there(&f, f.hash));
    assert_true(remove_in(f.d)); // and nothing of the hold lingers
    assert_false(rig_is_there(&f, f.hash));
    rig_close(&f);
}

static void test_of_two_that_named_it_one_may_be_slower(void **state) {
    set_up();
    rig_upload(&f, f.d, "a picture", 9);
    rig_upload(&f, f.other, "a picture", 9);
    assert_int_equal(rig_own(&f, f.d, f.hash), ERR_OK);
    assert_false(remove_in(f.d)); // its own owner is gone already, the other's is not noted yet
    assert_int_equal(rig_own(&f, f.other, f.hash), ERR_OK);
    assert_true(remove_in(f.other));
    rig_close(&f);
}

static void test_a_removal_that_was_held_is_done_when_the_hold_ends(void **state) {
    set_up();
    rig_upload(&f, f.other, "nobody's", 8);
    assert_int_equal(rig_remove(&f, f.d, f.hash), ERR_OK);
    assert_true(rig_is_there(&f, f.hash));
    for (int i = 0; i < 100 && rig_is_there(&f, f.hash); i++) rig_sleep(&f, 50);
    assert_false(rig_is_there(&f, f.hash));
    assert_int_equal(rig_sql(&f, "select count(*) from datastore_upload"), 0);
    rig_close(&f);
}

static void test_a_held_removal_survives_its_server(void **state) {
    set_up();
    rig_upload(&f, f.d, "nobody's", 8);
    assert_int_equal(rig_remove(&f, f.d, f.hash), ERR_OK);
    datastore_close(f.d);
    f.d = NULL;
    rig_sleep(&f, 2 * RIG_HOLD_MS);
    assert_true(rig_is_there(&f, f.hash));
    rig_sweep(&f, f.other, 3600000);
    assert_int_equal(f.err, ERR_OK);
    assert_int_equal(f.removed, 1);
    assert_false(rig_is_there(&f, f.hash));
    rig_close(&f);
}

static void test_who_comes_to_own_what_is_gone_is_told(void **state) {
    set_up();
    rig_upload(&f, f.d, "a picture", 9);
    rig_sleep(&f, 2 * RIG_HOLD_MS); // its server was asleep for longer than its hold
    assert_true(remove_in(f.other));
    assert_int_equal(rig_own(&f, f.d, f.hash), ERR_BUSY);
    rig_store(&f, "a picture", 9);
    assert_true(rig_is_there(&f, f.hash));
    rig_close(&f);
}

static void test_a_removal_whose_unit_finds_an_owner_did_not_happen(void **state) {
    bool held;
    set_up();
    rig_store(&f, "a picture", 9);
    assert_int_equal(rig_remove_in(&f, f.other, f.hash, true, &held), ERR_CONFLICT);
    assert_int_equal(rig_open_reader(&f, f.hash), ERR_OK);
    ds_reader_free(f.reader);
    rig_close(&f);
}

// ---- owners and removals of two servers against each other

static enum err set_up_refs(struct db *db, struct db_unit *u) {
    static struct db_sql make = {.text = "create table refs (n bigint not null)"};
    static struct db_sql none = {.text = "insert into refs values (0)"};
    enum err err = db_run(db_prepare(db, &make));
    return err ? err : db_run(db_prepare(db, &none));
}

struct racer {
    struct db_unit unit;
    struct datastore *d;
    struct database *database;
    uint8_t hash[DATASTORE_HASH];
    int *left, *owned, *again, *removed;
    bool held;
};

static enum err own_it(struct db *db, struct db_unit *u) {
    static struct db_sql more = {.text = "update refs set n = n + 1"};
    struct racer *r = (struct racer *)u;
    enum err err = datastore_own(db, r->hash);
    return err ? err : db_run(db_prepare(db, &more));
}

// Takes one reference back, as a message that was delivered does, and the content with the last.
static enum err let_go(struct db *db, struct db_unit *u) {
    static struct db_sql less = {.text = "update refs set n = n - 1"};
    return db_run(db_prepare(db, &less));
}

static enum err remove_it(struct db *db, struct db_unit *u) {
    static struct db_sql owned = {.text = "select 1 from refs where n > 0"};
    struct racer *r = (struct racer *)u;
    enum err err = datastore_remove_in(db, r->hash, &r->held);
    if (err) return err;
    int row = db_step(db_prepare(db, &owned));
    return row < 0 ? (enum err) - row : row == DB_ROW ? ERR_CONFLICT : ERR_OK;
}

static void upload_next(struct racer *r);

static void submit(struct racer *r, enum err (*run)(struct db *, struct db_unit *),
                   void (*done)(struct db_unit *, enum err)) {
    r->unit = (struct db_unit){.run = run, .done = done};
    assert_int_equal(database_submit(r->database, &r->unit), ERR_OK);
}

static void removed(struct db_unit *u, enum err err) {
    struct racer *r = (struct racer *)u;
    assert_true(err == ERR_OK || err == ERR_CONFLICT);
    if (!err && !r->held) (*r->removed)++;
    upload_next(r);
}

static void was_let_go(struct db_unit *u, enum err err) {
    assert_int_equal(err, ERR_OK);
    submit((struct racer *)u, remove_it, removed);
}

static void on_there(void *arg, enum err err, struct ds_reader *reader, uint64_t bytes) {
    assert_int_equal(err, ERR_OK); // we own it
    ds_reader_free(reader);
    submit(arg, let_go, was_let_go);
}

static void was_owned(struct db_unit *u, enum err err) {
    struct racer *r = (struct racer *)u;
    assert_true(err == ERR_OK || err == ERR_BUSY);
    if (err) {
        (*r->again)++;
        upload_next(r);
        return;
    }
    (*r->owned)++;
    datastore_read(r->d, r->hash, on_there, r);
}

static void on_named(void *arg, enum err err, const uint8_t hash[DATASTORE_HASH], uint64_t bytes) {
    struct racer *r = arg;
    assert_int_equal(err, ERR_OK);
    memcpy(r->hash, hash, DATASTORE_HASH);
    submit(r, own_it, was_owned);
}

static void upload_next(struct racer *r) {
    struct ds_writer *w;
    if (--*r->left <= 0) {
        rig_answered(&f);
        return;
    }
    assert_int_equal(ds_writer_new(r->d, 10, &w), ERR_OK);
    ds_writer_finish(w, on_named, r); // the empty content
}

static void made(struct db_unit *u, enum err err) { rig_on_done(&f, err); }

static void test_owners_and_removals_of_two_servers_do_not_lose_a_content(void **state) {
    int left = 1000, owned = 0, again = 0, gone = 0;
    static struct racer racers[6];
    rig_hold_ms = 1; // removals come in between
    set_up();
    rig_hold_ms = RIG_HOLD_MS;
    struct db_unit make = {.run = set_up_refs, .done = made};
    assert_int_equal(database_submit(f.database, &make), ERR_OK);
    rig_wait(&f, 1);
    assert_int_equal(f.err, ERR_OK);
    f.waiting = 6;
    for (int i = 0; i < 6; i++) {
        racers[i] = (struct racer){.d = i % 2 ? f.other : f.d,
                                   .database = i % 2 ? f.other_database : f.database,
                                   .left = &left,
                                   .owned = &owned,
                                   .again = &again,
                                   .removed = &gone};
        upload_next(&racers[i]);
    }
    rig_wait(&f, f.waiting);
    assert_true(owned > 100 && gone > 10 && again > 0);
    assert_int_equal(rig_sql(&f, "select n from refs"), 0);
    rig_close(&f);
}

// ---- uploads that come to nothing

static void test_an_upload_whose_server_died_is_swept_by_another(void **state) {
    set_up();
    struct ds_writer *w = rig_writer(&f, f.d, 2 * BIG);
    assert_int_equal(rig_write(&f, w, rig_picture(BIG), BIG), ERR_OK);
    rig_sweep(&f, f.other, 0);
    assert_int_equal(f.removed, 0); // somebody may still write it
    rig_sql(&f, "update datastore_upload set written_at = written_at - interval '2 hours'");
    rig_sweep(&f, f.other, 0);
    assert_int_equal(f.removed, 1);
    assert_int_equal(rig_sql(&f, "select count(*) from datastore_chunk"), 0);
    assert_int_equal(rig_write(&f, w, rig_picture(BIG), BIG), ERR_UNAVAILABLE); // it was only slow
    assert_int_equal(rig_finish(&f, w), ERR_UNAVAILABLE);
    rig_close(&f);
}

static void test_an_upload_that_lost_a_part_gets_no_name(void **state) {
    set_up();
    struct ds_writer *w = rig_writer(&f, f.d, BIG);
    assert_int_equal(rig_write(&f, w, rig_picture(BIG), BIG), ERR_OK);
    rig_sql(&f, "delete from datastore_chunk");
    assert_int_equal(rig_finish(&f, w), ERR_UNAVAILABLE);
    assert_int_equal(rig_sql(&f, "select count(*) from datastore_content"), 0);
    rig_close(&f);
}

static void test_a_database_that_is_away_ends_an_upload_and_later_serves_again(void **state) {
    char sql[300];
    set_up();
    struct ds_writer *w = rig_writer(&f, f.d, 2 * BIG);
    assert_int_equal(rig_write(&f, w, rig_picture(BIG), BIG), ERR_OK);
    char own_url[sizeof f.url];
    memcpy(own_url, f.url, sizeof own_url);
    memcpy(f.url, f.admin, sizeof f.url);
    snprintf(sql, sizeof sql, "alter database %s allow_connections false", f.name);
    rig_sql(&f, sql);
    snprintf(sql, sizeof sql, "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = '%s'",
             f.name);
    rig_sql(&f, sql);
    assert_int_equal(rig_write(&f, w, rig_picture(BIG), BIG), ERR_UNAVAILABLE);
    assert_int_equal(rig_finish(&f, w), ERR_UNAVAILABLE);
    assert_int_equal(rig_open_reader(&f, f.hash), ERR_UNAVAILABLE);
    snprintf(sql, sizeof sql, "alter database %s allow_connections true", f.name);
    rig_sql(&f, sql);
    memcpy(f.url, own_url, sizeof f.url);
    for (int i = 0; i < 100 && rig_remove(&f, f.d, f.hash); i++) rig_sleep(&f, 100);
    rig_store(&f, rig_picture(BIG), BIG);
    assert_int_equal(rig_read_all_checked(&f, BIG, BIG), ERR_OK);
    rig_close(&f);
}

static void test_what_is_removed_while_it_is_read_is_not_found(void **state) {
    set_up();
    rig_store(&f, rig_picture(BIG), BIG);
    assert_int_equal(rig_open_reader(&f, f.hash), ERR_OK);
    assert_int_equal(rig_read(&f, 0, 1000), 1000);
    assert_true(remove_in(f.other));
    rig_store(&f, rig_picture(BIG), BIG);
    ds_reader_read(f.reader, 1000, 1000, rig_on_read, &f);
    rig_wait(&f, 1);
    assert_int_equal(f.err, ERR_NOT_FOUND);
    ds_reader_free(f.reader);
    rig_close(&f);
}

// ---- sweeps of several servers

static ds_verdict_fn *late_verdict;
static void *late_batch;

static void ask_later(void *arg, const uint8_t (*hashes)[DATASTORE_HASH], size_t n, ds_verdict_fn *verdict,
                      void *batch) {
    late_verdict = verdict;
    late_batch = batch;
    rig_answered(arg);
}

static void test_servers_sweep_one_at_a_time(void **state) {
    uint8_t none[1] = {0};
    set_up();
    rig_store(&f, "orphan", 6);
    datastore_sweep(f.d, 0, ask_later, rig_on_swept, &f);
    rig_wait(&f, 1); // the question
    rig_sweep(&f, f.other, 0);
    assert_int_equal(f.err, ERR_BUSY);
    assert_true(rig_is_there(&f, f.hash));
    late_verdict(late_batch, none);
    rig_wait(&f, 1);
    assert_int_equal(f.err, ERR_OK);
    assert_int_equal(f.removed, 1);
    rig_sweep(&f, f.other, 0);
    assert_int_equal(f.err, ERR_OK);
    rig_close(&f);
}

static void test_a_sweep_that_was_asleep_removes_nothing_more(void **state) {
    uint8_t none[1] = {0};
    set_up();
    rig_store(&f, "orphan", 6);
    datastore_sweep(f.d, 0, ask_later, rig_on_swept, &f);
    rig_wait(&f, 1);
    rig_sql(&f, "update datastore_sweep set lease_until = now()");
    memcpy(f.wanted[f.wanted_n++], f.hash, DATASTORE_HASH);
    datastore_sweep(f.other, 0, rig_ask, rig_on_swept, &f);
    rig_wait(&f, 1);
    assert_int_equal(f.err, ERR_OK);
    rig_upload(&f, f.other, "orphan", 6);
    assert_int_equal(rig_own(&f, f.other, f.hash), ERR_OK);
    late_verdict(late_batch, none);
    rig_wait(&f, 1);
    assert_int_equal(f.removed, 0);
    assert_true(rig_is_there(&f, f.hash));
    rig_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_same_content_from_two_servers_is_stored_once),
        cmocka_unit_test(test_what_another_server_named_and_is_about_to_own_stays),
        cmocka_unit_test(test_of_two_that_named_it_one_may_be_slower),
        cmocka_unit_test(test_a_removal_that_was_held_is_done_when_the_hold_ends),
        cmocka_unit_test(test_a_held_removal_survives_its_server),
        cmocka_unit_test(test_who_comes_to_own_what_is_gone_is_told),
        cmocka_unit_test(test_a_removal_whose_unit_finds_an_owner_did_not_happen),
        cmocka_unit_test(test_owners_and_removals_of_two_servers_do_not_lose_a_content),
        cmocka_unit_test(test_an_upload_whose_server_died_is_swept_by_another),
        cmocka_unit_test(test_an_upload_that_lost_a_part_gets_no_name),
        cmocka_unit_test(test_a_database_that_is_away_ends_an_upload_and_later_serves_again),
        cmocka_unit_test(test_what_is_removed_while_it_is_read_is_not_found),
        cmocka_unit_test(test_servers_sweep_one_at_a_time),
        cmocka_unit_test(test_a_sweep_that_was_asleep_removes_nothing_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
