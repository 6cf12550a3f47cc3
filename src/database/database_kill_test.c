// kill -9 at any moment: every unit whose done() ran is there afterwards, and every unit is there whole or not at
// all. The program runs itself as the child: it stores pairs of rows as fast as it can and tells through a pipe which
// are done; the parent reads for a while and kills it.
#include "database/test_database.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#define ROUNDS    30
#define IN_FLIGHT 200

static const struct migration shape[] = {
    {.number = 1,
     .name = "pairs",
     .sql = "create table a (id integer primary key, body text); create table b (id integer primary key)"},
    {.number = 0},
};
static struct db_sql insert_a = {.text = "insert into a (id, body) values (?1, 'some text to make it larger')"};
static struct db_sql insert_b = {.text = "insert into b (id) values (?1)"};
static struct db_sql torn = {
    .text = "select (select count(*) from a where id not in (select id from b)) + "
            "(select count(*) from b where id not in (select id from a))",
};
static struct db_sql find = {.text = "select 1 from a where id = ?1"};
static struct db_sql highest = {.text = "select coalesce(max(id), 0) from a"};

struct pair {
    struct db_unit unit; // first
    int64_t id;
};

static struct database *child_database;
static int64_t next_id;

static enum err run_id(struct db *db, struct db_sql *sql, int64_t id) {
    struct db_stmt *s = db_prepare(db, sql);
    db_bind_int(s, 1, id);
    return db_run(s);
}

static enum err store_pair(struct db *db, struct db_unit *u) {
    struct pair *p = (struct pair *)u;
    enum err err = run_id(db, &insert_a, p->id);
    return err ? err : run_id(db, &insert_b, p->id);
}

static void pair_done(struct db_unit *u, enum err err) {
    struct pair *p = (struct pair *)u;
    if (err || write(STDOUT_FILENO, &p->id, sizeof p->id) != sizeof p->id) _exit(1);
    p->id = next_id++;
    if (database_submit(child_database, u)) _exit(1);
}

static int child_main(const char *path, const char *first) {
    static struct pair pairs[IN_FLIGHT];
    struct loop *loop;
    struct error e;
    next_id = strtoll(first, NULL, 10);
    if (loop_new(&loop, &e)) return 1;
    if (database_open(&child_database, loop, &(struct database_options){.url = path}, shape, &e)) return 1;
    for (int i = 0; i < IN_FLIGHT; i++) {
        pairs[i] = (struct pair){.unit = {.run = store_pair, .done = pair_done}, .id = next_id++};
        if (database_submit(child_database, &pairs[i].unit)) return 1;
    }
    loop_run(loop);
    return 1;
}

static pid_t start_child(const char *path, int64_t first, int *out) {
    int ends[2];
    char number[24];
    assert_int_equal(pipe(ends), 0);
    snprintf(number, sizeof number, "%lld", (long long)first);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execl("/proc/self/exe", "database_kill_test", "child", path, number, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    *out = ends[0];
    return child;
}

struct check {
    const int64_t *ids;
    size_t n;
    int64_t highest;
};

static enum err check(struct db *db, void *arg) {
    struct check *c = arg;
    struct db_stmt *s = db_prepare(db, &torn);
    assert_int_equal(db_step(s), DB_ROW);
    assert_int_equal(db_int(s, 0), 0);
    for (size_t i = 0; i < c->n; i++) {
        s = db_prepare(db, &find);
        db_bind_int(s, 1, c->ids[i]);
        if (db_step(s) != DB_ROW) fail_msg("pair %lld was done and is lost", (long long)c->ids[i]);
    }
    s = db_prepare(db, &highest);
    assert_int_equal(db_step(s), DB_ROW);
    c->highest = db_int(s, 0);
    return ERR_OK;
}

static size_t read_all(int fd, int64_t *ids, size_t n, size_t max) {
    while (n < max) {
        ssize_t got = read(fd, (char *)(ids + n), sizeof *ids);
        if (got < 0 && errno == EINTR) continue;
        if (got != sizeof *ids) break;
        n++;
    }
    return n;
}

static void test_what_was_done_survives_kill_9(void **state) {
    static int64_t ids[1 << 20];
    struct test_db t;
    struct check c = {.ids = ids};
    test_db_prepare(&t);
    unsigned seed = (unsigned)time(NULL);
    print_message("seed %u\n", seed);
    for (int round = 0; round < ROUNDS; round++) {
        int out, status;
        pid_t child = start_child(t.path, c.highest + 1, &out);
        size_t some = 1 + (size_t)rand_r(&seed) % 20000;
        size_t n = read_all(out, ids, 0, some);
        assert_int_equal(n, some);
        kill(child, SIGKILL);
        n = read_all(out, ids, n, sizeof ids / sizeof ids[0]); // what it had still said
        close(out);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        struct error e;
        assert_int_equal(test_db_open_with(&t, (struct database_options){0}, shape, &e), ERR_OK);
        c.n = n;
        assert_int_equal(test_db_do(&t, check, &c, true), ERR_OK);
        database_close(t.d);
    }
    test_db_remove(&t);
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "child") == 0) return child_main(argv[2], argv[3]);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_what_was_done_survives_kill_9)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
