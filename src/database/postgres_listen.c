// The keeper: a thread that connects again when the server was away, and keeps the connection that listens, once
// somebody does.
//
//   connect ──> LISTEN … ──> a probe through another connection ──> ARRIVE, or after 2 s LOST (a pooler swallows it)
//      ^                                                              │ every 30 s a probe of the connection itself
//      └───────────── lost: everybody hears NULL after the next connect
//
// Where notices are lost the probe is sent again every 30 s, since one that was merely late must not count for ever.
#include "database/postgres_listen.h"

#include "base/assert.h"
#include "base/log.h"
#include "database/postgres.h"
#include "database/postgres_health.h"
#include "database/postgres_notices.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#define PROBE_WAIT_MS  2000
#define PROBE_EVERY_MS 30000
#define PROBE_AGAIN_MS 2000
#define ASK_MS         5000
#define STOOD_MS       2000 // a connection that is lost sooner counts as one that did not come about
#define LOSSES_MAX     4

struct postgres_listener {
    char *url;
    struct postgres_health *health;
    struct postgres_notices *notices;
    pthread_t thread;
    _Atomic bool stop;
    _Atomic enum database_notices state;

    // The thread's.
    PGconn *conn;
    char probe[CHANNEL_NAME_MAX + 1]; // the private channel
    bool probing, told_lost;
    uint64_t probe_until_ms, next_probe_ms, connected_ms;
    unsigned losses; // of connections that hardly stood, one after the other
};

// ---- what has arrived

static void set_state(struct postgres_listener *l, enum database_notices state) {
    if (atomic_exchange(&l->state, state) == state) return;
    postgres_notices_missed(l->notices); // how often to look for oneself has changed
    if (state == NOTICES_ARRIVE && l->told_lost) log_event(LOG_INFO, "notices_arrive", NULL);
    if (state == NOTICES_ARRIVE) l->told_lost = false;
    if (state != NOTICES_LOST || l->told_lost) return;
    l->told_lost = true;
    log_event(
        LOG_WARN, "notices_lost", "msg",
        "NOTIFY does not come through, a pooler may swallow it: the tables are looked at every second instead; give "
        "barid a url that leads to PostgreSQL itself, or to a pool in session mode",
        NULL);
}

static void take_notices(struct postgres_listener *l) {
    PGnotify *n;
    while ((n = PQnotifies(l->conn))) {
        if (strcmp(n->relname, l->probe) == 0) {
            l->probing = false;
            l->next_probe_ms = postgres_now_ms() + PROBE_EVERY_MS;
            set_state(l, NOTICES_ARRIVE);
        } else {
            postgres_notices_put(l->notices, n->relname, n->extra);
        }
        PQfreemem(n);
    }
}

// ---- connecting

static void disconnect(struct postgres_listener *l) {
    PQfinish(l->conn);
    l->conn = NULL;
    l->probing = false;
    postgres_notices_disconnected(l->notices);
    set_state(l, NOTICES_AWAY);
}

static bool tell(struct postgres_listener *l, const char *command, const char *channel) {
    char text[128];
    snprintf(text, sizeof text, "%s %s", command, channel);
    if (!postgres_ask(l->conn, text, ASK_MS)) return false;
    take_notices(l);
    return true;
}

static bool tell_changes(struct postgres_listener *l) {
    char name[CHANNEL_NAME_MAX + 1];
    bool listen;
    while (postgres_notices_next_change(l->notices, name, &listen)) {
        if (!tell(l, listen ? "listen" : "unlisten", name)) return false;
        postgres_notices_changed(l->notices, name, listen);
    }
    return true;
}

static void name_probe(struct postgres_listener *l) {
    uint64_t r = 0;
    ASSERT(uv_random(NULL, NULL, &r, sizeof r, 0, NULL) == 0);
    snprintf(l->probe, sizeof l->probe, "barid_probe_%016llx", (unsigned long long)r);
}

// Through an ordinary connection, as the notices that matter come.
static bool probe_from_outside(struct postgres_listener *l) {
    PGconn *conn;
    struct postgres_session session;
    char text[128];
    struct error e = {0};
    if (postgres_connect(l->url, false, &conn, &session, &e)) return false;
    snprintf(text, sizeof text, "notify %s", l->probe);
    bool sent = postgres_ask(conn, text, ASK_MS);
    PQfinish(conn);
    return sent;
}

// False: the listening connection is lost. A probe that could not be sent says nothing, and is sent again soon.
static bool probe(struct postgres_listener *l) {
    l->next_probe_ms = postgres_now_ms() + PROBE_EVERY_MS;
    if (atomic_load(&l->state) == NOTICES_ARRIVE) {
        l->probing = true;
        l->probe_until_ms = postgres_now_ms() + PROBE_WAIT_MS;
        return tell(l, "notify", l->probe);
    }
    l->probing = probe_from_outside(l);
    l->probe_until_ms = postgres_now_ms() + PROBE_WAIT_MS;
    if (!l->probing) l->next_probe_ms = postgres_now_ms() + PROBE_AGAIN_MS;
    return true;
}

// True as well when nobody listens: then it was only to see whether the server is back.
static bool connect_listener(struct postgres_listener *l) {
    struct error e = {0};
    struct postgres_session session;
    if (postgres_connect(l->url, false, &l->conn, &session, &e)) {
        l->conn = NULL;
        postgres_health_failed(l->health, &e);
        return false;
    }
    postgres_health_connected(l->health);
    l->connected_ms = postgres_now_ms();
    if (!postgres_notices_are_wanted(l->notices)) {
        PQfinish(l->conn);
        l->conn = NULL;
        return true;
    }
    name_probe(l);
    return tell(l, "listen", l->probe) && tell_changes(l) && probe(l);
}

// ---- waiting

static int left_ms(uint64_t until) {
    uint64_t now = postgres_now_ms();
    return until > now ? (int)(until - now) : 0;
}

static void drain(int fd) {
    uint64_t n;
    while (read(fd, &n, sizeof n) < 0 && errno == EINTR) {
    }
}

// For something to read, for a wake, or for so long. False: the connection is lost.
static bool wait_for(struct postgres_listener *l, int ms) {
    struct pollfd p[2] = {{.fd = l->health->wake_fd, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
    if (l->conn) p[1].fd = PQsocket(l->conn);
    if (poll(p, 2, ms) <= 0) return true;
    if (p[0].revents) drain(l->health->wake_fd);
    if (!p[1].revents) return true;
    if (!PQconsumeInput(l->conn) || PQstatus(l->conn) == CONNECTION_BAD) return false;
    take_notices(l);
    return true;
}

static bool probe_is_overdue(struct postgres_listener *l) {
    if (!l->probing || left_ms(l->probe_until_ms)) return false;
    l->probing = false;
    return true;
}

// A lane could not connect while this connection stands (too many of them, say): is there room again?
static void try_for_lanes(struct postgres_listener *l) {
    PGconn *conn;
    struct postgres_session session;
    struct error e = {0};
    if (!postgres_health_is_away(l->health) || postgres_health_wait_ms(l->health)) return;
    if (postgres_connect(l->url, false, &conn, &session, &e)) {
        postgres_health_failed(l->health, &e);
        return;
    }
    PQfinish(conn);
    postgres_health_connected(l->health);
}

static int until_next(struct postgres_listener *l) {
    int probe_ms = left_ms(l->probing ? l->probe_until_ms : l->next_probe_ms);
    if (!postgres_health_is_away(l->health)) return probe_ms;
    int try_ms = (int)postgres_health_wait_ms(l->health);
    return try_ms < probe_ms ? try_ms : probe_ms;
}

static bool turn(struct postgres_listener *l) {
    if (!wait_for(l, until_next(l))) return false;
    try_for_lanes(l);
    if (!tell_changes(l)) return false;
    if (probe_is_overdue(l)) {
        if (atomic_load(&l->state) == NOTICES_ARRIVE) return false; // it did arrive, and does no more
        set_state(l, NOTICES_LOST);
    }
    return l->probing || left_ms(l->next_probe_ms) || probe(l);
}

static bool turn_unconnected(struct postgres_listener *l) {
    bool away = postgres_health_is_away(l->health);
    if (!away && !postgres_notices_are_wanted(l->notices)) return wait_for(l, -1);
    uint64_t wait = postgres_health_wait_ms(l->health);
    return wait ? wait_for(l, (int)wait) : connect_listener(l);
}

// A standby connects and does not let us listen: it is asked less and less often, down to once in a second or two.
static int wait_after_loss(struct postgres_listener *l) {
    bool stood = postgres_now_ms() - l->connected_ms >= STOOD_MS;
    l->losses = stood ? 0 : l->losses + (l->losses < LOSSES_MAX);
    return (10 << l->losses) + (int)postgres_jitter(80u << l->losses);
}

static void *listener_main(void *arg) {
    struct postgres_listener *l = arg;
    while (!l->stop) {
        if (l->conn ? turn(l) : turn_unconnected(l)) continue;
        int wait_ms = l->conn ? wait_after_loss(l) : 20 + (int)postgres_jitter(80);
        if (l->conn) disconnect(l);
        if (!l->stop) wait_for(l, wait_ms);
    }
    if (l->conn) disconnect(l);
    return NULL;
}

// ---- the loop's side

struct postgres_listener *postgres_listener_new(struct loop *loop, const char *url, struct postgres_health *health) {
    struct postgres_listener *l = calloc(1, sizeof *l);
    if (!l) die("no memory for notices");
    l->url = strdup(url);
    l->health = health;
    l->state = NOTICES_AWAY;
    if (!l->url) die("no memory for notices");
    l->notices = postgres_notices_new(loop);
    if (pthread_create(&l->thread, NULL, listener_main, l)) die("no thread for the database");
    pthread_setname_np(l->thread, "barid-pg-listen");
    return l;
}

void postgres_listener_free(struct postgres_listener *l) {
    if (!l) return;
    l->stop = true;
    postgres_health_wake(l->health);
    pthread_join(l->thread, NULL);
    postgres_notices_free(l->notices);
    free(l->url);
    free(l);
}

enum err postgres_listener_add(struct postgres_listener *l, const char *channel, database_notice_fn *fn, void *arg,
                               struct error *e) {
    enum err err = postgres_notices_add(l->notices, channel, fn, arg, e);
    if (!err) postgres_health_wake(l->health);
    return err;
}

void postgres_listener_remove(struct postgres_listener *l, const char *channel, database_notice_fn *fn, void *arg) {
    postgres_notices_remove(l->notices, channel, fn, arg);
    postgres_health_wake(l->health);
}

enum database_notices postgres_listener_state(struct postgres_listener *l) { return l->state; }
