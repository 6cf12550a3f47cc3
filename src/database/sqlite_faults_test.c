// The disk says no: SQLite over a VFS that refuses writes or syncs when it is told to.
#include "database/test_database.h"

#include <sqlite3.h>
#include <sys/wait.h>

static const struct migration shape[] = {
    {.number = 1, .name = "things", .sql = "create table things (id integer primary key, body blob)"},
    {.number = 0},
};
static struct db_sql insert_sql = {.text = "insert into things (id, body) values (?1, zeroblob(2000))"};
static struct db_sql count_sql = {.text = "select count(*) from things"};

static _Atomic bool disk_full, sync_fails;

// ---- the VFS: the system's, with its write and sync methods put behind a door

static sqlite3_vfs faulty;
static sqlite3_io_methods methods[2]; // of the database file and of the log: the log knows no locks
static const sqlite3_io_methods *real;

static int faulty_write(sqlite3_file *f, const void *data, int n, sqlite3_int64 at) {
    return disk_full ? SQLITE_FULL : real->xWrite(f, data, n, at);
}

static int faulty_sync(sqlite3_file *f, int flags) { return sync_fails ? SQLITE_IOERR_FSYNC : real->xSync(f, flags); }

// The system's VFS keeps something of its own in pAppData; ours keeps the system's VFS there.
static int faulty_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out) {
    sqlite3_vfs *system = v->pAppData;
    int rc = system->xOpen(system, name, f, flags, out);
    if (rc != SQLITE_OK || !(flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL))) return rc;
    sqlite3_io_methods *ours = &methods[(flags & SQLITE_OPEN_WAL) != 0];
    real = f->pMethods; // write and sync are the same functions for both
    *ours = *real;
    ours->xWrite = faulty_write;
    ours->xSync = faulty_sync;
    f->pMethods = ours;
    return rc;
}

static void install_faults(void) {
    sqlite3_vfs *system = sqlite3_vfs_find(NULL);
    faulty = *system;
    faulty.zName = "faulty";
    faulty.xOpen = faulty_open;
    faulty.pAppData = system;
    assert_int_equal(sqlite3_vfs_register(&faulty, 1), SQLITE_OK);
}

static enum err insert_one(struct db *db, void *arg) {
    struct db_stmt *s = db_prepare(db, &insert_sql);
    db_bind_int(s, 1, *(int64_t *)arg);
    return db_run(s);
}

static enum err insert_thousands(struct db *db, void *arg) {
    int64_t first = *(int64_t *)arg;
    for (int64_t i = 0; i < 4000; i++) { // more than the page cache holds: it has to be written before the commit
        struct db_stmt *s = db_prepare(db, &insert_sql);
        db_bind_int(s, 1, first + i);
        enum err err = db_run(s);
        if (err) return err;
    }
    return ERR_OK;
}

static enum err count(struct db *db, void *arg) {
    struct db_stmt *s = db_prepare(db, &count_sql);
    if (db_step(s) != DB_ROW) return ERR_DATABASE;
    *(int64_t *)arg = db_int(s, 0);
    return ERR_OK;
}

static int64_t count_of(struct test_db *t) {
    int64_t n = -1;
    assert_int_equal(test_db_do(t, count, &n, true), ERR_OK);
    return n;
}

static void test_a_full_disk_fails_the_whole_commit_and_recovers(void **state) {
    struct test_db t;
    struct test_unit units[20];
    int64_t ids[20];
    test_db_open(&t, shape);
    ids[0] = 1000;
    assert_int_equal(test_db_do(&t, insert_one, ids, false), ERR_OK);
    disk_full = true;
    for (int i = 0; i < 20; i++) {
        ids[i] = i;
        units[i] = test_unit_of(&t, insert_one, &ids[i]);
        units[i].stop = i == 19;
        assert_int_equal(database_submit(t.d, &units[i].unit), ERR_OK);
    }
    test_db_loop(&t);
    for (int i = 0; i < 20; i++) assert_int_equal(units[i].err, ERR_FULL);
    assert_int_equal(count_of(&t), 1);
    disk_full = false;
    for (int i = 0; i < 20; i++) assert_int_equal(test_db_do(&t, insert_one, &ids[i], false), ERR_OK);
    assert_int_equal(count_of(&t), 21);
    test_db_reopen(&t, shape);
    assert_int_equal(count_of(&t), 21);
    test_db_close(&t);
}

static void test_a_disk_that_fills_inside_a_unit_fails_it_cleanly(void **state) {
    struct test_db t;
    int64_t small = 1, large = 10;
    test_db_open(&t, shape);
    struct test_unit before = test_unit_of(&t, insert_one, &small), huge = test_unit_of(&t, insert_thousands, &large);
    huge.stop = true;
    disk_full = true;
    assert_int_equal(database_submit(t.d, &before.unit), ERR_OK);
    assert_int_equal(database_submit(t.d, &huge.unit), ERR_OK);
    test_db_loop(&t);
    assert_int_equal(before.err, ERR_FULL);
    assert_int_equal(huge.err, ERR_FULL);
    disk_full = false;
    assert_int_equal(count_of(&t), 0);
    assert_int_equal(test_db_do(&t, insert_thousands, &large, false), ERR_OK);
    assert_int_equal(count_of(&t), 4000);
    test_db_close(&t);
}

// The child is the process that loses its disk; what it had been told is stored must be there afterwards.
static void test_a_failed_sync_ends_the_process(void **state) {
    struct test_db t;
    int64_t id = 1;
    int status;
    test_db_prepare(&t);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct error e;
        loop_new(&t.loop, &e);
        if (test_db_open_with(&t, (struct database_options){0}, shape, &e)) _exit(1);
        if (test_db_do(&t, insert_one, &id, false)) _exit(2);
        sync_fails = true;
        id = 2;
        test_db_do(&t, insert_one, &id, false);
        _exit(3); // it was answered
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 70);
    struct error e;
    assert_int_equal(test_db_open_with(&t, (struct database_options){0}, shape, &e), ERR_OK);
    assert_true(count_of(&t) >= 1);
    test_db_close(&t);
}

int main(void) {
    install_faults();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_full_disk_fails_the_whole_commit_and_recovers),
        cmocka_unit_test(test_a_disk_that_fills_inside_a_unit_fails_it_cleanly),
        cmocka_unit_test(test_a_failed_sync_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
