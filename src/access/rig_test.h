// For tests: access over a real database, with calls that wait for their answer. With BARID_TEST_ACCESS_ON=postgres
// that is PostgreSQL, on the server that BARID_TEST_POSTGRES names.
#ifndef BARID_ACCESS_RIG_TEST_H
#define BARID_ACCESS_RIG_TEST_H

#include "access/access.h"
#include "base/test_io.h"
#include "database/test_database.h"
#ifdef BARID_POSTGRES
#include "database/postgres_fixture.h"
#endif

#define RIG_MINUTE_NS (UINT64_C(60) * 1000000000)
#define RIG_NEAR      "127.0.0.1"
#define RIG_FAR       "192.0.2.7"

struct rig {
    struct test_db t;
#ifdef BARID_POSTGRES
    struct test_postgres postgres;
#endif
    struct test_io io;
    struct access *access;
    struct access_options o;
    enum err err;
    struct error error;
    uint32_t expected; // answers until the loop ends
    char changed[256]; // "user alice;vhost blue;permission;"
};

static const struct migration rig_migrations[] = {{.number = 3, .name = "access", .file = &access_files[0]}, {0}};

static inline bool rig_on_postgres(void) {
    const char *on = getenv("BARID_TEST_ACCESS_ON");
    return on != NULL && strcmp(on, "postgres") == 0;
}

#ifdef BARID_POSTGRES
static const struct migration rig_postgres_migrations[] = {{.number = 102, .name = "access", .file = &access_files[1]},
                                                           {0}};

static inline bool rig_missing(void) { return rig_on_postgres() && !test_pg_there(); }

static inline void rig_open_postgres(struct rig *r) {
    test_pg_open(&r->postgres, rig_postgres_migrations);
    r->t = r->postgres.t;
}

static inline void rig_reopen_postgres(struct rig *r) {
    struct error e = {0};
    database_close(r->t.d);
    if (test_pg_open_with(&r->postgres, (struct database_options){0}, rig_postgres_migrations, &e))
        fail_msg("%s", e.text);
    r->t.d = r->postgres.t.d;
}

static inline void rig_close_postgres(struct rig *r) { test_pg_close(&r->postgres); }
#else
static inline bool rig_missing(void) { return rig_on_postgres(); }
static inline void rig_open_postgres(struct rig *r) {}
static inline void rig_reopen_postgres(struct rig *r) {}
static inline void rig_close_postgres(struct rig *r) {}
#endif

// At the beginning of main: true, after saying so, when there is no server.
static inline bool rig_skips(void) {
    if (rig_missing()) printf("skipped: BARID_TEST_POSTGRES is not set\n");
    return rig_missing();
}

static inline void rig_open_database(struct rig *r) {
    if (rig_on_postgres()) rig_open_postgres(r);
    else test_db_open(&r->t, rig_migrations);
}

static void rig_answer(struct rig *r, enum err err, const struct error *e) {
    r->err = err;
    r->error = e != NULL ? *e : (struct error){0};
    if (--r->expected == 0) loop_stop(r->t.loop);
}

static inline enum err rig_wait(struct rig *r, uint32_t answers) {
    r->expected = answers;
    test_db_loop(&r->t);
    return r->err;
}

static inline void rig_done(void *arg, enum err err, const struct error *e) { rig_answer(arg, err, e); }

static void rig_changed(void *arg, const char *user, const char *vhost) {
    struct rig *r = arg;
    size_t n = strlen(r->changed);
    snprintf(r->changed + n, sizeof r->changed - n, "%s%s;",
             user != NULL    ? "user "
             : vhost != NULL ? "vhost "
                             : "permission",
             user != NULL    ? user
             : vhost != NULL ? vhost
                             : "");
}

static inline void rig_open_access(struct rig *r) {
    r->o.loop = r->t.loop;
    r->o.io = &r->io.io;
    r->o.database = r->t.d;
    r->o.changed = rig_changed;
    r->o.changed_arg = r;
    struct error e = {0};
    if (access_new(&r->access, &r->o, rig_done, r, &e) != ERR_OK) fail_msg("%s", e.text);
    assert_int_equal(rig_wait(r, 1), ERR_OK);
}

static inline void rig_init(struct rig *r) {
    memset(r, 0, sizeof *r);
    test_io_init(&r->io, 1);
    r->io.monotonic_ns = RIG_MINUTE_NS;
    rig_open_database(r);
    rig_open_access(r);
}

static inline void rig_restart(struct rig *r) {
    access_free(r->access);
    if (rig_on_postgres()) rig_reopen_postgres(r);
    else test_db_reopen(&r->t, rig_migrations);
    rig_open_access(r);
}

static inline void rig_release(struct rig *r) {
    access_free(r->access);
    if (rig_on_postgres()) rig_close_postgres(r);
    else test_db_close(&r->t);
}

// ---- calls that wait

static inline enum err rig_user(struct rig *r, const char *name, const char *password, const char *tags) {
    access_user_put(r->access, &(struct access_user_put){.name = name, .password = password, .tags = tags}, rig_done,
                    r);
    return rig_wait(r, 1);
}

static inline enum err rig_user_hash(struct rig *r, const char *name, const char *hash, const char *algorithm) {
    access_user_put(r->access, &(struct access_user_put){.name = name, .hash = hash, .hash_algorithm = algorithm},
                    rig_done, r);
    return rig_wait(r, 1);
}

static inline enum err rig_user_delete(struct rig *r, const char *name) {
    access_user_delete(r->access, name, rig_done, r);
    return rig_wait(r, 1);
}

static inline enum err rig_vhost(struct rig *r, const char *name) {
    access_vhost_put(r->access, &(struct access_vhost_info){.name = name}, rig_done, r);
    return rig_wait(r, 1);
}

static inline enum err rig_permission(struct rig *r, const char *user, const char *vhost, const char *configure,
                                      const char *write, const char *read) {
    access_permission_put(r->access, &(struct access_permission){user, vhost, configure, write, read}, rig_done, r);
    return rig_wait(r, 1);
}

static inline void rig_logged_in(void *arg, enum err err, const struct access_user *u) {
    assert_true((err == ERR_OK) == (u != NULL));
    access_user_release(u);
    rig_answer(arg, err, NULL);
}

static inline enum err rig_login(struct rig *r, const char *user, const char *password, const char *address) {
    access_login(r->access, user, password, address, strcmp(address, RIG_NEAR) == 0, rig_logged_in, r);
    return rig_wait(r, 1);
}

#endif
