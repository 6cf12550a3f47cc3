// What the tests of this folder stand on: the real service over a real database, bus and data store in a temporary
// directory, on a real loop, with a clock that can be put forward. Calls are made one at a time and waited for.
#ifndef BARID_CHAT_CHAT_FIXTURE_H
#define BARID_CHAT_CHAT_FIXTURE_H

#include "base/loop.h"
#include "bus/bus.h"
#include "chat/chat.h"
#include "database/database.h"
#include "datastore/datastore.h"

#define SEEN_MAX 1024

struct servers;

struct fixture {
    char dir[64];
    char database_url[512]; // "": SQLite in `dir`
    char database_name[64];
    struct servers *servers;
    struct loop *loop;
    struct io *disk, *clock;
    struct database *database;
    struct datastore *datastore;
    struct bus *bus;
    struct chat *chat;
    struct chat_options options; // what the service is opened with
    bool several;                // servers may be on the database
};

// With BARID_TEST_CHAT_ON=postgres the tests run on PostgreSQL, on the server that BARID_TEST_POSTGRES names. True,
// after saying so: there is none.
bool fixture_missing(void);
bool on_postgres(void);
int fixture_setup(void **state); // cmocka: *state is a struct fixture
int fixture_teardown(void **state);
void fixture_open(struct fixture *f);
void fixture_close(struct fixture *f); // open again: a restart
// PostgreSQL: one more server on the database of `f`, on the same loop. `f` becomes one of several: it is opened again.
struct fixture *fixture_beside(struct fixture *f);
void fixture_beside_free(struct fixture *other);
void clock_forward(struct fixture *f, int64_t ms);
// Runs the loop until `until` says so; fails the test when that takes too long.
void run_until(struct fixture *f, bool (*until)(void *arg), void *arg);
void run_for(struct fixture *f, uint32_t ms);

// ---- calls, waited for ----------------------------------------------------------------------------------

struct login {
    enum err err;
    char field[48];
    char token[CHAT_TOKEN_TEXT];
    struct chat_actor actor;
};
enum err user_add(struct fixture *f, const char *user_id);
struct login login_as(struct fixture *f, const char *user_id, const char *password, const struct id *device_id);
struct login login(struct fixture *f, const char *user_id);     // must work
struct chat_actor join(struct fixture *f, const char *user_id); // user_add and login
enum err logout(struct fixture *f, const struct chat_actor *who);
enum err auth(struct fixture *f, const char *token, struct chat_actor *out);
void converse(struct fixture *f, const struct chat_actor *who, const char *conversation_id, const char *others);

struct sent {
    enum err err;
    char field[48], text[ERROR_TEXT_MAX];
    uint64_t seq;
    int64_t accepted_at;
    bool duplicate;
};
struct id new_id(struct fixture *f);
struct sent send_request(struct fixture *f, const struct chat_actor *who, const struct chat_send *m);
struct sent send_text(struct fixture *f, const struct chat_actor *who, const char *conversation_id,
                      const struct id *message_id, const char *text);
struct sent send_media(struct fixture *f, const struct chat_actor *who, const char *conversation_id,
                       const struct id *message_id, const char *ticket);
enum err received(struct fixture *f, const struct chat_actor *who, const struct id *message_id);
enum err read_it(struct fixture *f, const struct chat_actor *who, const struct id *message_id);
enum err ack(struct fixture *f, const struct chat_actor *who, uint64_t cursor);

struct got {
    enum err err;
    char text[512];
    size_t text_length;
    uint64_t bytes;
    enum chat_kind kind;
    uint8_t sha256[32];
};
struct got get(struct fixture *f, const struct chat_actor *who, const struct id *message_id);
// "created accepted published queued:bob …": the names of the points, with users.
const char *journey(struct fixture *f, const struct chat_actor *who, const struct id *message_id);

struct seen_entry {
    enum chat_entry_type type;
    uint64_t cursor, seq;
    struct id message_id;
    char conversation_id[65], by_user_id[65];
    enum chat_kind kind;
    uint64_t bytes;
};
struct page_seen {
    enum err err;
    size_t n;
    bool drained;
    struct seen_entry entries[SEEN_MAX];
};
// The page is valid until the next call.
const struct page_seen *mailbox(struct fixture *f, const struct chat_actor *who, uint64_t after, uint32_t limit,
                                uint32_t wait_ms);
// Waits until the device's mailbox has an entry of the type after the cursor; its cursor.
uint64_t await_entry(struct fixture *f, const struct chat_actor *who, uint64_t after, enum chat_entry_type type,
                     const struct id *message_id);

// A link that writes down what it sees.
struct seen {
    struct fixture *f;
    struct chat_link *link;
    size_t n, drained_at; // how many had been seen when it was drained
    bool drained, acks;   // acks: acknowledge whatever comes
    char closed[16];
    uint64_t in_flight;
    struct seen_entry entries[SEEN_MAX];
};
struct seen *attach(struct fixture *f, const struct chat_actor *who, uint64_t after);
void detach(struct seen *s); // frees it
void await_seen(struct seen *s, size_t n);
void await_drained(struct seen *s);
void await_closed(struct seen *s, const char *reason);

// Ticket text into `ticket`; the error of the step that failed.
enum err upload(struct fixture *f, const struct chat_actor *who, const void *data, size_t n, const char *media_type,
                const char *filename, char ticket[static CHAT_TOKEN_TEXT]);
// Rows a query counts: `sql` gives one number. For what no call shows.
int64_t count(struct fixture *f, const char *sql);
void execute(struct fixture *f, const char *sql);
size_t media_files(struct fixture *f);

// What most tests begin with: alice and bob, who share the conversation "ab".
struct pair {
    struct fixture *f;
    struct chat_actor alice, bob;
};
struct pair pair_new(void **state);

#endif
