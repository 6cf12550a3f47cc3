#include "chat/chat_fixture.h"

#include "base/io.h"
#include "base/test.h"
#include "chat/servers.h"
#include "outbox/outbox.h"
#ifdef BARID_POSTGRES
#include "database/postgres_fixture.h"
#endif

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATIENCE_MS 30000

// ---- a clock --------------------------------------------------------------------------------------------

struct clock_io {
    struct io io;
    struct io *disk;
    int64_t forward;
};
static uint64_t clock_monotonic(struct io *io) { return io_monotonic_ns(((struct clock_io *)io)->disk); }
static int64_t clock_wall(struct io *io) {
    struct clock_io *c = (struct clock_io *)io;
    return io_wall_ms(c->disk) + c->forward;
}
static void clock_random(struct io *io, void *out, size_t n) {
    struct io *disk = ((struct clock_io *)io)->disk;
    disk->v->random(disk, out, n);
}
static const struct io_vtable clock_vtable = {
    .monotonic_ns = clock_monotonic, .wall_ms = clock_wall, .random = clock_random};

void clock_forward(struct fixture *f, int64_t ms) { ((struct clock_io *)f->clock)->forward += ms; }

// ---- opening and closing --------------------------------------------------------------------------------

static void must(enum err err, const struct error *e) {
    if (err != ERR_OK) fail_msg("%s: %s", err_name(err), e->text);
}

bool on_postgres(void) {
    const char *on = getenv("BARID_TEST_CHAT_ON");
    return on != NULL && strcmp(on, "postgres") == 0;
}

bool fixture_missing(void) {
    if (!on_postgres()) return false;
#ifdef BARID_POSTGRES
    if (getenv("BARID_TEST_POSTGRES") != NULL) return false;
#endif
    printf("skipped: BARID_TEST_POSTGRES is not set\n");
    return true;
}

struct joining {
    bool done;
    enum err err;
    struct error error;
};

static void on_joined(void *arg, enum err err, const struct error *e) {
    struct joining *j = arg;
    *j = (struct joining){.done = true, .err = err, .error = *e};
}

static bool has_joined(void *arg) { return ((struct joining *)arg)->done; }

static void join_servers(struct fixture *f) {
    if (f->database_url[0] == '\0') return;
    struct joining j = {0};
    struct servers_options o = {
        .loop = f->loop, .io = f->disk, .database = f->database, .name = "fixture", .alone = !f->several, .arg = &j};
    f->servers = servers_join(&o, on_joined);
    run_until(f, has_joined, &j);
    must(j.err, &j.error);
}

// As the server has them, but for those of the broker.
static const struct migration postgres_migrations[] = {
    {.number = 1, .name = "outbox", .file = &outbox_migrations[1]},
    {.number = 101, .name = "chat", .file = &chat_files[1]},
    {.number = 103, .name = "datastore", .file = &datastore_migrations[0]},
    {0},
};

void fixture_open(struct fixture *f) {
    struct error e = {0};
    char path[128];
    bool postgres = f->database_url[0] != '\0';
    snprintf(path, sizeof path, "%s/chat.db", f->dir);
    struct database_options database = {.url = postgres ? f->database_url : path};
    must(database_open(&f->database, f->loop, &database, postgres ? postgres_migrations : chat_migrations, &e), &e);
    join_servers(f);
    snprintf(path, sizeof path, "%s/media", f->dir);
    struct datastore_options datastore = {.directory = postgres ? NULL : path,
                                          .database = postgres ? f->database : NULL};
    must(datastore_open(&f->datastore, f->loop, &datastore, &e), &e);
    struct bus_options bus = {.url = "embedded:", .io = f->disk};
    must(bus_open(&f->bus, f->loop, &bus, &e), &e);
    struct chat_options o = f->options;
    o.loop = f->loop;
    o.io = f->clock;
    o.database = f->database;
    o.datastore = f->datastore;
    o.bus = f->bus;
    o.servers = f->servers;
    must(chat_new(&f->chat, &o, &e), &e);
}

void fixture_close(struct fixture *f) {
    chat_free(f->chat);
    f->chat = NULL;
    servers_leave(f->servers);
    f->servers = NULL;
    bus_close(f->bus);
    datastore_close(f->datastore);
    database_close(f->database);
}

#ifdef BARID_POSTGRES
static void database_make(struct fixture *f) {
    static int made;
    char sql[128];
    if (!on_postgres()) return;
    const char *server = getenv("BARID_TEST_POSTGRES");
    snprintf(f->database_name, sizeof f->database_name, "barid_chat_%d_%d", (int)getpid(), ++made);
    snprintf(sql, sizeof sql, "create database %s", f->database_name);
    test_pg_sql(server, sql);
    test_db_url(f->database_url, sizeof f->database_url, server, f->database_name);
}

static void database_drop(struct fixture *f) {
    char sql[128];
    if (f->database_url[0] == '\0') return;
    snprintf(sql, sizeof sql, "drop database %s with (force)", f->database_name);
    test_pg_sql(getenv("BARID_TEST_POSTGRES"), sql);
}
#else
static void database_make(struct fixture *f) {}
static void database_drop(struct fixture *f) {}
#endif

static void directory_new(struct fixture *f) {
    struct error e = {0};
    snprintf(f->dir, sizeof f->dir, "/tmp/barid-chat-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    must(io_os_new(&f->disk, f->dir, &e), &e);
}

int fixture_setup(void **state) {
    struct fixture *f = calloc(1, sizeof *f);
    struct clock_io *clock = calloc(1, sizeof *clock);
    assert_true(f != NULL && clock != NULL);
    struct error e = {0};
    must(loop_new(&f->loop, &e), &e);
    directory_new(f);
    clock->io.v = &clock_vtable;
    clock->disk = f->disk;
    f->clock = &clock->io;
    database_make(f);
    fixture_open(f);
    *state = f;
    return 0;
}

static void remove_all(const char *dir) {
    DIR *d = opendir(dir);
    struct dirent *at;
    while (d != NULL && (at = readdir(d)) != NULL) {
        if (strcmp(at->d_name, ".") == 0 || strcmp(at->d_name, "..") == 0) continue;
        char path[512];
        snprintf(path, sizeof path, "%s/%s", dir, at->d_name);
        if (at->d_type == DT_DIR) remove_all(path);
        else unlink(path);
    }
    if (d != NULL) closedir(d);
    rmdir(dir);
}

struct fixture *fixture_beside(struct fixture *f) {
    struct fixture *other = calloc(1, sizeof *other);
    assert_non_null(other);
    fixture_close(f);
    f->several = true;
    fixture_open(f);
    *other = *f;
    directory_new(other);
    fixture_open(other);
    return other;
}

static void directory_free(struct fixture *f) {
    io_os_free(f->disk);
    remove_all(f->dir);
}

void fixture_beside_free(struct fixture *other) {
    fixture_close(other);
    directory_free(other);
    free(other);
}

int fixture_teardown(void **state) {
    struct fixture *f = *state;
    fixture_close(f);
    database_drop(f);
    loop_free(f->loop);
    directory_free(f);
    free(f->clock);
    free(f);
    return 0;
}

// ---- running the loop -----------------------------------------------------------------------------------

struct tick {
    struct loop_timer timer;
    struct loop *loop;
};
static void tick(struct loop_timer *t) { loop_stop(((struct tick *)t)->loop); }

// Every answer stops the loop, so that the condition is looked at; the tick is for what answers nobody.
void run_until(struct fixture *f, bool (*until)(void *arg), void *arg) {
    struct tick t = {.timer.fn = tick, .loop = f->loop};
    uint64_t from = io_monotonic_ns(f->disk) / 1000000;
    while (!until(arg)) {
        if (io_monotonic_ns(f->disk) / 1000000 - from > PATIENCE_MS) fail_msg("waited too long");
        loop_timer_start(f->loop, &t.timer, 5);
        loop_run(f->loop);
    }
    loop_timer_stop(f->loop, &t.timer);
}

struct until_ms {
    struct fixture *f;
    uint64_t ms;
};
static bool is_past(void *arg) {
    struct until_ms *u = arg;
    return io_monotonic_ns(u->f->disk) / 1000000 >= u->ms;
}
void run_for(struct fixture *f, uint32_t ms) {
    struct until_ms u = {.f = f, .ms = io_monotonic_ns(f->disk) / 1000000 + ms};
    run_until(f, is_past, &u);
}

// A call under way: its answer is written down by a function of its own.
struct call {
    struct fixture *f;
    bool done;
    enum err err;
    char field[48], text[ERROR_TEXT_MAX];
    void *out;
};
static bool is_done(void *arg) { return ((struct call *)arg)->done; }

static void answered(struct call *c, const struct error *error) {
    assert_false(c->done);
    c->done = true;
    if (error != NULL) {
        c->err = error->code;
        memcpy(c->field, error->field, sizeof c->field);
        memcpy(c->text, error->text, sizeof c->text);
    }
    loop_stop(c->f->loop);
}

static void wait_for(struct call *c) {
    assert_false(c->done); // never from inside the call
    run_until(c->f, is_done, c);
}

static void done_plain(void *arg, const struct error *error) { answered(arg, error); }

// ---- accounts -------------------------------------------------------------------------------------------

static void done_user(void *arg, const struct error *error, const struct chat_user *ok) {
    assert_true((error == NULL) == (ok != NULL));
    answered(arg, error);
}

enum err user_add(struct fixture *f, const char *user_id) {
    struct call c = {.f = f};
    chat_user_add(f->chat, user_id, "password", NULL, done_user, &c);
    wait_for(&c);
    return c.err;
}

static void done_login(void *arg, const struct error *error, const struct chat_session *ok) {
    struct call *c = arg;
    struct login *out = c->out;
    assert_true((error == NULL) == (ok != NULL));
    if (ok != NULL) snprintf(out->token, sizeof out->token, "%s", ok->token);
    answered(c, error);
}

struct login login_as(struct fixture *f, const char *user_id, const char *password, const struct id *device_id) {
    struct login out = {0};
    struct call c = {.f = f, .out = &out};
    chat_login(f->chat, user_id, password, "test", device_id, "127.0.0.1", done_login, &c);
    wait_for(&c);
    out.err = c.err;
    memcpy(out.field, c.field, sizeof out.field);
    if (out.err == ERR_OK) assert_int_equal(auth(f, out.token, &out.actor), ERR_OK);
    return out;
}

struct login login(struct fixture *f, const char *user_id) {
    struct login l = login_as(f, user_id, "password", NULL);
    assert_int_equal(l.err, ERR_OK);
    return l;
}

struct chat_actor join(struct fixture *f, const char *user_id) {
    assert_int_equal(user_add(f, user_id), ERR_OK);
    return login(f, user_id).actor;
}

enum err logout(struct fixture *f, const struct chat_actor *who) {
    struct call c = {.f = f};
    chat_logout(f->chat, who, done_plain, &c);
    wait_for(&c);
    return c.err;
}

static void done_auth(void *arg, const struct error *error, const struct chat_actor *actor) {
    struct call *c = arg;
    assert_true((error == NULL) == (actor != NULL));
    if (actor != NULL) *(struct chat_actor *)c->out = *actor;
    answered(c, error);
}

enum err auth(struct fixture *f, const char *token, struct chat_actor *out) {
    struct call c = {.f = f, .out = out};
    chat_auth(f->chat, token, strlen(token), done_auth, &c);
    wait_for(&c);
    return c.err;
}

static void done_conversation(void *arg, const struct error *error, const struct chat_conversation *ok) {
    assert_true((error == NULL) == (ok != NULL));
    answered(arg, error);
}

void converse(struct fixture *f, const struct chat_actor *who, const char *conversation_id, const char *others) {
    struct call c = {.f = f};
    char names[512], *save = NULL;
    const char *members[64];
    size_t n = 0;
    snprintf(names, sizeof names, "%s", others);
    for (char *at = strtok_r(names, " ", &save); at != NULL; at = strtok_r(NULL, " ", &save)) members[n++] = at;
    chat_conversation_add(f->chat, who, conversation_id, NULL, members, n, done_conversation, &c);
    wait_for(&c);
    if (c.err != ERR_OK) fail_msg("%s: %s", c.field, c.text);
}

// ---- messages -------------------------------------------------------------------------------------------

struct id new_id(struct fixture *f) {
    return id_new(f->clock);
}

static void done_accepted(void *arg, const struct error *error, const struct chat_accepted *ok) {
    struct call *c = arg;
    struct sent *out = c->out;
    assert_true((error == NULL) == (ok != NULL));
    if (ok != NULL) {
        out->seq = ok->seq;
        out->accepted_at = ok->accepted_at_ms;
        out->duplicate = ok->duplicate;
    }
    answered(c, error);
}

struct sent send_request(struct fixture *f, const struct chat_actor *who, const struct chat_send *m) {
    struct sent out = {0};
    struct call c = {.f = f, .out = &out};
    chat_send(f->chat, who, m, done_accepted, &c);
    wait_for(&c);
    out.err = c.err;
    memcpy(out.field, c.field, sizeof out.field);
    memcpy(out.text, c.text, sizeof out.text);
    return out;
}

struct sent send_text(struct fixture *f, const struct chat_actor *who, const char *conversation_id,
                      const struct id *message_id, const char *text) {
    struct chat_send m = {.conversation_id = conversation_id,
                          .message_id = *message_id,
                          .by_user_id = who->user_id,
                          .text = text,
                          .text_length = strlen(text),
                          .created_at_ms = 1};
    return send_request(f, who, &m);
}

struct sent send_media(struct fixture *f, const struct chat_actor *who, const char *conversation_id,
                       const struct id *message_id, const char *ticket) {
    struct chat_send m = {
        .conversation_id = conversation_id, .message_id = *message_id, .by_user_id = who->user_id, .ticket = ticket};
    return send_request(f, who, &m);
}

enum err received(struct fixture *f, const struct chat_actor *who, const struct id *message_id) {
    struct call c = {.f = f};
    chat_received(f->chat, who, message_id, done_plain, &c);
    wait_for(&c);
    return c.err;
}

enum err read_it(struct fixture *f, const struct chat_actor *who, const struct id *message_id) {
    struct call c = {.f = f};
    chat_read(f->chat, who, message_id, done_plain, &c);
    wait_for(&c);
    return c.err;
}

enum err ack(struct fixture *f, const struct chat_actor *who, uint64_t cursor) {
    struct call c = {.f = f};
    chat_mailbox_ack(f->chat, who, cursor, done_plain, &c);
    wait_for(&c);
    return c.err;
}

static void done_content(void *arg, const struct error *error, const struct chat_content *ok) {
    struct call *c = arg;
    struct got *out = c->out;
    assert_true((error == NULL) == (ok != NULL));
    if (ok != NULL) {
        out->kind = ok->kind;
        out->bytes = ok->bytes;
        out->text_length = ok->text_length;
        memcpy(out->sha256, ok->sha256, sizeof out->sha256);
        if (ok->text != NULL) snprintf(out->text, sizeof out->text, "%s", ok->text);
    }
    answered(c, error);
}

struct got get(struct fixture *f, const struct chat_actor *who, const struct id *message_id) {
    struct got out = {0};
    struct call c = {.f = f, .out = &out};
    chat_content_get(f->chat, who, message_id, done_content, &c);
    wait_for(&c);
    out.err = c.err;
    return out;
}

static void done_journey(void *arg, const struct error *error, const struct id *message_id,
                         const struct chat_point *points, size_t n) {
    struct call *c = arg;
    char *out = c->out;
    size_t at = 0;
    if (error != NULL) at = (size_t)snprintf(out, 4096, "%s", err_name(error->code));
    for (size_t i = 0; i < n; i++) {
        const char *user = points[i].user_id;
        at += (size_t)snprintf(out + at, 4096 - at, "%s%s%s%s", i > 0 ? " " : "", points[i].point,
                               user != NULL ? ":" : "", user != NULL ? user : "");
    }
    answered(c, error);
}

const char *journey(struct fixture *f, const struct chat_actor *who, const struct id *message_id) {
    static char out[4096];
    struct call c = {.f = f, .out = out};
    chat_journey(f->chat, who, message_id, done_journey, &c);
    wait_for(&c);
    return out;
}

// ---- mailboxes ------------------------------------------------------------------------------------------

static struct seen_entry entry_of(const struct chat_entry *e) {
    struct seen_entry out = {.type = e->type,
                             .cursor = e->cursor,
                             .seq = e->seq,
                             .message_id = e->message_id,
                             .kind = e->kind,
                             .bytes = e->bytes};
    snprintf(out.conversation_id, sizeof out.conversation_id, "%s", e->conversation_id);
    snprintf(out.by_user_id, sizeof out.by_user_id, "%s", e->by_user_id);
    return out;
}

static void done_mailbox(void *arg, const struct error *error, const struct chat_entry *entries, size_t n,
                         bool drained) {
    struct call *c = arg;
    struct page_seen *out = c->out;
    out->n = n;
    out->drained = drained;
    for (size_t i = 0; i < n; i++) out->entries[i] = entry_of(&entries[i]);
    answered(c, error);
}

const struct page_seen *mailbox(struct fixture *f, const struct chat_actor *who, uint64_t after, uint32_t limit,
                                uint32_t wait_ms) {
    static struct page_seen out;
    out = (struct page_seen){0};
    struct call c = {.f = f, .out = &out};
    assert_non_null(chat_mailbox(f->chat, who, after, limit, wait_ms, done_mailbox, &c));
    wait_for(&c);
    out.err = c.err;
    return &out;
}

uint64_t await_entry(struct fixture *f, const struct chat_actor *who, uint64_t after, enum chat_entry_type type,
                     const struct id *message_id) {
    for (;;) {
        const struct page_seen *p = mailbox(f, who, after, 0, 25000); // a lease of the outbox may have to run out
        assert_int_equal(p->err, ERR_OK);
        if (p->n == 0) fail_msg("no such entry came");
        for (size_t i = 0; i < p->n; i++)
            if (p->entries[i].type == type && id_equal(&p->entries[i].message_id, message_id))
                return p->entries[i].cursor;
        after = p->entries[p->n - 1].cursor;
    }
}

static void seen_entries(void *arg, const struct chat_entry *entries, size_t n) {
    struct seen *s = arg;
    for (size_t i = 0; i < n; i++) {
        assert_true(s->n < SEEN_MAX);
        s->entries[s->n++] = entry_of(&entries[i]);
    }
    if (s->acks) chat_link_ack(s->link, entries[n - 1].cursor);
    loop_stop(s->f->loop);
}

static void seen_drained(void *arg) {
    struct seen *s = arg;
    assert_false(s->drained);
    s->drained = true;
    s->drained_at = s->n;
    loop_stop(s->f->loop);
}

static void seen_closed(void *arg, const char *reason) {
    struct seen *s = arg;
    snprintf(s->closed, sizeof s->closed, "%s", reason);
    s->link = NULL;
    loop_stop(s->f->loop);
}

static uint64_t seen_in_flight(void *arg) { return ((struct seen *)arg)->in_flight; }

struct seen *attach(struct fixture *f, const struct chat_actor *who, uint64_t after) {
    static const struct chat_link_events events = {
        .entries = seen_entries, .drained = seen_drained, .closed = seen_closed, .in_flight = seen_in_flight};
    struct seen *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->f = f;
    s->link = chat_attach(f->chat, who, after, "127.0.0.1:1", &events, s);
    return s;
}

void detach(struct seen *s) {
    if (s->link != NULL) chat_detach(s->link);
    free(s);
}

struct wanted {
    struct seen *seen;
    size_t n;
};
static bool has_seen(void *arg) {
    struct wanted *w = arg;
    return w->seen->n >= w->n;
}
void await_seen(struct seen *s, size_t n) {
    struct wanted w = {s, n};
    run_until(s->f, has_seen, &w);
    assert_int_equal(s->n, n);
}

static bool has_drained(void *arg) { return ((struct seen *)arg)->drained; }
void await_drained(struct seen *s) { run_until(s->f, has_drained, s); }

static bool has_closed(void *arg) { return ((struct seen *)arg)->closed[0] != '\0'; }
void await_closed(struct seen *s, const char *reason) {
    run_until(s->f, has_closed, s);
    assert_string_equal(s->closed, reason);
}

// ---- media ----------------------------------------------------------------------------------------------

static void done_opened(void *arg, const struct error *error, struct chat_upload *u) {
    struct call *c = arg;
    *(struct chat_upload **)c->out = u;
    answered(c, error);
}

static void done_ticket(void *arg, const struct error *error, const struct chat_ticket *ok) {
    struct call *c = arg;
    assert_true((error == NULL) == (ok != NULL));
    if (ok != NULL) snprintf(c->out, CHAT_TOKEN_TEXT, "%s", ok->ticket);
    answered(c, error);
}

enum err upload(struct fixture *f, const struct chat_actor *who, const void *data, size_t n, const char *media_type,
                const char *filename, char ticket[static CHAT_TOKEN_TEXT]) {
    struct chat_upload *u = NULL;
    struct call open = {.f = f, .out = &u};
    chat_upload_open(f->chat, who, media_type, filename, n, done_opened, &open);
    wait_for(&open);
    if (open.err != ERR_OK) return open.err;
    struct call write = {.f = f};
    chat_upload_write(u, data, n, done_plain, &write);
    wait_for(&write);
    if (write.err != ERR_OK) {
        chat_upload_abort(u);
        return write.err;
    }
    struct call finish = {.f = f, .out = ticket};
    chat_upload_finish(u, done_ticket, &finish);
    wait_for(&finish);
    return finish.err;
}

// ---- looking behind -------------------------------------------------------------------------------------

struct query {
    struct db_unit unit;
    struct db_sql sql;
    struct call call;
    int64_t value;
};

static enum err query_run(struct db *db, struct db_unit *u) {
    struct query *q = (struct query *)u;
    struct db_stmt *s = db_prepare(db, &q->sql);
    int got = db_step(s);
    if (got == DB_ROW) q->value = db_int(s, 0);
    return got < 0 ? (enum err) - got : ERR_OK;
}

static void query_done(struct db_unit *u, enum err err) {
    struct query *q = (struct query *)u;
    answered(&q->call, err != ERR_OK ? &u->error : NULL);
}

// Statements stay known to their connection, so each text keeps its struct for good.
static struct query *query_of(struct fixture *f, const char *sql, bool read_only) {
    static struct query *known[64];
    size_t i = 0;
    while (i < 64 && known[i] != NULL && strcmp(known[i]->sql.text, sql) != 0) i++;
    assert_true(i < 64);
    if (known[i] == NULL) {
        known[i] = calloc(1, sizeof *known[i]);
        assert_non_null(known[i]);
        known[i]->sql.text = strdup(sql);
    }
    struct query *q = known[i];
    q->unit = (struct db_unit){.run = query_run, .done = query_done, .read_only = read_only};
    q->call = (struct call){.f = f};
    q->value = 0;
    assert_int_equal(database_submit(f->database, &q->unit), ERR_OK);
    wait_for(&q->call);
    if (q->call.err != ERR_OK) fail_msg("%s: %s", sql, q->call.text);
    return q;
}

int64_t count(struct fixture *f, const char *sql) { return query_of(f, sql, true)->value; }
void execute(struct fixture *f, const char *sql) { (void)query_of(f, sql, false); }

static size_t count_files(const char *dir, int depth) {
    DIR *d = opendir(dir);
    size_t n = 0;
    struct dirent *at;
    while (d != NULL && (at = readdir(d)) != NULL) {
        if (at->d_name[0] == '.' || strcmp(at->d_name, "tmp") == 0) continue;
        char path[512];
        snprintf(path, sizeof path, "%s/%s", dir, at->d_name);
        n += at->d_type == DT_DIR ? count_files(path, depth + 1) : 1;
    }
    if (d != NULL) closedir(d);
    return n;
}

size_t media_files(struct fixture *f) {
    char path[128];
    if (on_postgres()) return (size_t)count(f, "select count(*) from datastore_content");
    snprintf(path, sizeof path, "%s/media", f->dir);
    return count_files(path, 0);
}

struct pair pair_new(void **state) {
    struct pair p = {.f = *state};
    p.alice = join(p.f, "alice");
    p.bob = join(p.f, "bob");
    converse(p.f, &p.alice, "ab", "bob");
    return p;
}
