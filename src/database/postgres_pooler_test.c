// Behind PgBouncer in transaction mode: settings, prepared statements and notices do not survive, units do.
#include "database/postgres_fixture.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

static const struct migration shape[] = {
    {.number = 1, .name = "things", .sql = "create table barid.things (id bigint primary key, name text)"},
    {.number = 0},
};

struct pooler {
    pid_t pid;
    char dir[64], url[512];
};

static int free_port(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    close(fd);
    return ntohs(a.sin_port);
}

// Where the server of BARID_TEST_POSTGRES is, as PgBouncer wants it said.
static void target(FILE *f, const char *url) {
    PQconninfoOption *all = PQconninfoParse(url, NULL);
    fprintf(f, "[databases]\n* =");
    for (PQconninfoOption *o = all; o->keyword; o++) {
        bool wanted = !strcmp(o->keyword, "host") || !strcmp(o->keyword, "port") || !strcmp(o->keyword, "user") ||
                      !strcmp(o->keyword, "password");
        if (o->val && wanted) fprintf(f, " %s=%s", o->keyword, o->val);
    }
    fprintf(f, "\n");
    PQconninfoFree(all);
}

static void pooler_start(struct pooler *b, const struct test_postgres *p, const char *ignored) {
    char path[128];
    int port = free_port();
    snprintf(b->dir, sizeof b->dir, "/tmp/barid-test-XXXXXX");
    assert_non_null(mkdtemp(b->dir));
    chmod(b->dir, 0755);
    snprintf(path, sizeof path, "%s/pgbouncer.ini", b->dir);
    FILE *f = fopen(path, "w");
    target(f, p->admin);
    fprintf(f,
            "[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = %d\nunix_socket_dir =\nauth_type = any\n"
            "pool_mode = transaction\ndefault_pool_size = 3\nverbose = 0\nignore_startup_parameters = %s\n",
            port, ignored);
    fclose(f);
    b->pid = fork();
    if (!b->pid) {
        freopen("/dev/null", "w", stderr);
        if (geteuid() == 0) execlp("pgbouncer", "pgbouncer", "-u", "nobody", path, NULL);
        execlp("pgbouncer", "pgbouncer", path, NULL);
        _exit(127);
    }
    snprintf(b->url, sizeof b->url, "postgresql://any@127.0.0.1:%d/%s", port, p->name);
    for (int i = 0; i < 500 && PQping(b->url) != PQPING_OK; i++) usleep(20000);
    assert_int_equal(PQping(b->url), PQPING_OK);
}

static void pooler_stop(struct pooler *b) {
    kill(b->pid, SIGKILL);
    waitpid(b->pid, NULL, 0);
    nftw(b->dir, test_db_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void open_behind(struct test_postgres *p, struct pooler *b, const char *ignored) {
    struct error e = {0};
    test_pg_prepare(p);
    pooler_start(b, p, ignored);
    if (test_pg_open_with(p, (struct database_options){.url = b->url}, shape, &e)) fail_msg("%s", e.text);
}

static enum err insert_one(struct db *db, void *arg) {
    static struct db_sql sql = {.text = "insert into things (id, name) values (?1, ?2)"};
    static struct db_sql named = {.text = "select count(*) from things where name = ?1 and id < ?2"};
    struct db_stmt *s = db_prepare(db, &sql);
    int64_t id = *(int64_t *)arg;
    db_bind_int(s, 1, id);
    if (id % 2) db_bind_text(s, 2, "odd");
    enum err err = db_run(s);
    if (err) return err;
    s = db_prepare(db, &named);
    db_bind_text(s, 1, "odd");
    db_bind_int(s, 2, id);
    int row = db_step(s);
    return row < 0 ? (enum err) - row : ERR_OK;
}

#define UNITS 200
static int ended;

static void note_end(struct db_unit *u, enum err err) {
    struct test_unit *x = (struct test_unit *)u;
    if (err) fail_msg("%s", u->error.text);
    if (++ended == UNITS) loop_stop(x->t->loop);
}

static void many_units(struct test_postgres *p) {
    static struct test_unit units[UNITS];
    static int64_t ids[UNITS];
    ended = 0;
    for (int i = 0; i < UNITS; i++) {
        ids[i] = i;
        units[i] = test_unit_of(&p->t, insert_one, &ids[i]);
        units[i].unit.done = note_end;
        assert_int_equal(database_submit(p->t.d, &units[i].unit), ERR_OK);
    }
    test_db_loop(&p->t);
    assert_int_equal(test_pg_sql(p->url, "select count(*) from barid.things"), UNITS);
}

// The pooler refuses the parameter, or drops it without a word.
static void test_units_work_behind_a_pooler(void **state) {
    static const char *const ignored[] = {"extra_float_digits", "options"};
    for (int i = 0; i < 2; i++) {
        struct test_postgres p;
        struct pooler b;
        open_behind(&p, &b, ignored[i]);
        many_units(&p);
        assert_int_equal(test_pg_sql(p.url, "select count(*) from pg_stat_activity where datname = current_database() "
                                            "and pid <> pg_backend_pid()") > 3,
                         0);
        database_close(p.t.d);
        PGconn *other = test_pg_connect(b.url); // what we set is not left behind for others
        PGresult *r = PQexec(other, "show search_path");
        assert_null(strstr(PQgetvalue(r, 0, 0), "barid"));
        PQclear(r);
        PQfinish(other);
        pooler_stop(&b);
        test_pg_remove(&p);
    }
}

static void heard(void *arg, const char *payload) {
    struct test_db *t = arg;
    assert_null(payload);
    if (database_notices(t->d) == NOTICES_LOST) loop_stop(t->loop);
}

static void test_a_pooler_that_swallows_notices_is_found_out(void **state) {
    struct test_postgres p;
    struct pooler b;
    struct error e = {0};
    open_behind(&p, &b, "extra_float_digits");
    assert_int_equal(database_listen(p.t.d, "test_channel", heard, &p.t, &e), ERR_OK);
    test_db_loop(&p.t);
    assert_int_equal(database_notices(p.t.d), NOTICES_LOST);
    database_close(p.t.d);
    pooler_stop(&b);
    test_pg_remove(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_units_work_behind_a_pooler),
        cmocka_unit_test(test_a_pooler_that_swallows_notices_is_found_out),
    };
    if (access("/usr/sbin/pgbouncer", X_OK) != 0) {
        printf("skipped: there is no pgbouncer\n");
        return 77;
    }
    return test_pg_main(tests);
}
