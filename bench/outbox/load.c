// outbox_load: transactions that store events, as an application would make them.
//
//   outbox_load --url postgresql://… --events 100000 --connections 4 --per-tx 10 [--rate 5000] [--commits FILE] …
//
// Each connection is a thread. A transaction and its events go out in one pipeline and one answer is waited for, so
// that the load takes little of the two cores which it shares with what is measured. Without a rate it is a closed
// loop; with one, transactions begin when they are due, whatever the database does, and how late they began is told.
// Prints one line of JSON.
//
// --by says how an event is stored: `publish` calls barid.publish() for each, `insert` writes into barid.outbox, `rows`
// writes all events of a transaction in one statement (to fill a backlog), `plain` writes into bench.events, the table
// of Debezium's outbox event router.
#include "cli/bench/histogram.h"
#include "outbox/event.h"

#include <getopt.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CONNECTIONS_MAX 256
#define PER_TX_MAX      5000
#define BYTES_MAX       (1 << 20)

enum by { BY_PUBLISH, BY_INSERT, BY_ROWS, BY_PLAIN };
static const char *const by_names[] = {"publish", "insert", "rows", "plain"};
// $1 topic, $2 headers, $3 key, $4 payload; of `rows` arrays of the last two.
static const char *const by_sql[] = {
    "select barid.publish($1::text, $3::text, $4::bytea, $2::jsonb)",
    "insert into barid.outbox (topic, headers, key, payload) values ($1, $2, $3, $4)",
    "insert into barid.outbox (topic, headers, key, payload) "
    "select $1, $2::jsonb, k, convert_to(p, 'UTF8') from unnest($3::text[], $4::text[]) as e (k, p)",
    "insert into bench.events (aggregatetype, type, aggregateid, payload) "
    "values ($1, coalesce($2, 'stored'), $3, $4::bytea)",
};

static struct {
    const char *url, *topic, *headers, *commits;
    enum by by;
    uint32_t connections, per_tx, keys, bytes, seconds;
    uint64_t events, first, rate;
} o = {.topic = "orders", .connections = 1, .per_tx = 1, .keys = 1000, .bytes = 200, .events = EVENTS_MAX};

static _Atomic uint64_t next_number;
static int64_t *commit_times, begun_ns, end_ns;

struct writer {
    pthread_t thread;
    uint32_t index;
    PGconn *connection;
    char *payload, *keys_array, *payloads_array;
    uint64_t stored;
    uint32_t next_key;
    struct histogram commit, late;
};

static void check(const struct writer *w, const PGresult *r, ExecStatusType wanted, ExecStatusType or_else) {
    ExecStatusType got = PQresultStatus(r);
    if (got != wanted && got != or_else) fail("%s", PQerrorMessage(w->connection));
}

static void connect_writer(struct writer *w) {
    w->connection = PQconnectdb(o.url);
    if (PQstatus(w->connection) != CONNECTION_OK) fail("%s", PQerrorMessage(w->connection));
    PGresult *r = PQprepare(w->connection, "store", by_sql[o.by], 4, NULL);
    check(w, r, PGRES_COMMAND_OK, PGRES_COMMAND_OK);
    PQclear(r);
    if (!PQenterPipelineMode(w->connection)) fail("%s", PQerrorMessage(w->connection));
    w->payload = allocate(o.bytes + 1, 1);
    if (o.by == BY_ROWS) {
        w->keys_array = allocate((size_t)o.per_tx * EVENT_KEY + 3, 1);
        w->payloads_array = allocate((size_t)o.per_tx * (o.bytes + 3) + 3, 1);
    }
}

// Keys are dealt out to connections, so that the numbers of a key rise in the order of its commits.
static uint32_t take_key(struct writer *w) {
    uint32_t mine = (o.keys + o.connections - 1 - w->index) / o.connections;
    return w->next_key++ % (mine ? mine : 1) * o.connections + w->index;
}

static void send(struct writer *w, const char *key, const char *payload) {
    const char *values[] = {o.topic, o.headers, key, payload};
    if (!PQsendQueryPrepared(w->connection, "store", 4, values, NULL, NULL, 0))
        fail("%s", PQerrorMessage(w->connection));
}

static void command(struct writer *w, const char *text) {
    if (!PQsendQueryParams(w->connection, text, 0, NULL, NULL, NULL, NULL, 0))
        fail("%s", PQerrorMessage(w->connection));
}

static void send_rows(struct writer *w, uint64_t number, uint32_t n) {
    char *k = w->keys_array, *p = w->payloads_array;
    for (uint32_t i = 0; i < n; i++) {
        struct event event = {.number = number + i, .key = take_key(w)};
        *k++ = *p++ = i ? ',' : '{';
        event_key(k, event.key);
        k += strlen(k);
        *p++ = '"';
        event_write(p, o.bytes, &event);
        p += o.bytes;
        *p++ = '"';
    }
    *k++ = *p++ = '}';
    *k = *p = 0;
    send(w, w->keys_array, w->payloads_array);
}

static void send_each(struct writer *w, uint64_t number, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        struct event event = {.number = number + i, .key = take_key(w)};
        char key[EVENT_KEY];
        event_key(key, event.key);
        event_write(w->payload, o.bytes, &event);
        send(w, key, w->payload);
    }
}

static void transaction(struct writer *w, uint64_t number, uint32_t n) {
    bool one = n == 1 || o.by == BY_ROWS;
    if (!one) command(w, "begin");
    if (o.by == BY_ROWS) send_rows(w, number, n);
    else send_each(w, number, n);
    if (!one) command(w, "commit");
    if (!PQpipelineSync(w->connection)) fail("%s", PQerrorMessage(w->connection));
    for (bool synced = false; !synced;) {
        PGresult *r = PQgetResult(w->connection);
        if (!r) {
            if (PQstatus(w->connection) != CONNECTION_OK) fail("%s", PQerrorMessage(w->connection));
            continue;
        }
        synced = PQresultStatus(r) == PGRES_PIPELINE_SYNC;
        if (!synced) check(w, r, PGRES_COMMAND_OK, PGRES_TUPLES_OK);
        PQclear(r);
    }
}

static void sleep_until(int64_t ns) {
    struct timespec t = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL)) {
    }
}

// When the transaction that begins with this number is due: the rate is that of all connections together.
static int64_t due_at(uint64_t number) {
    return begun_ns + (int64_t)((double)(number - o.first) * 1e9 / (double)o.rate);
}

static void *write_events(void *arg) {
    struct writer *w = arg;
    for (;;) {
        uint64_t number = atomic_fetch_add(&next_number, o.per_tx);
        if (number >= o.first + o.events || (end_ns && monotonic_ns() >= end_ns)) return NULL;
        uint64_t left = o.first + o.events - number;
        uint32_t n = left < o.per_tx ? (uint32_t)left : o.per_tx;
        if (o.rate) {
            int64_t due = due_at(number);
            if (end_ns && due >= end_ns) return NULL;
            sleep_until(due);
            histogram_add(&w->late, (uint64_t)(monotonic_ns() - due));
        }
        int64_t begun = monotonic_ns();
        transaction(w, number, n);
        int64_t committed = monotonic_ns();
        histogram_add(&w->commit, (uint64_t)(committed - begun));
        if (commit_times) {
            for (uint32_t i = 0; i < n; i++) commit_times[number + i] = committed;
        }
        w->stored += n;
    }
}

static void report(struct writer *writers) {
    static struct histogram commit, late;
    uint64_t stored = 0;
    double seconds = (double)(monotonic_ns() - begun_ns) / 1e9;
    for (uint32_t i = 0; i < o.connections; i++) {
        const struct writer *w = &writers[i];
        stored += w->stored;
        for (uint32_t b = 0; b < HISTOGRAM_BUCKETS; b++) {
            commit.buckets[b] += w->commit.buckets[b];
            late.buckets[b] += w->late.buckets[b];
        }
        commit.count += w->commit.count;
        late.count += w->late.count;
        if (w->commit.max > commit.max) commit.max = w->commit.max;
        if (w->late.max > late.max) late.max = w->late.max;
    }
    printf("{\"events\": %" PRIu64 ", \"seconds\": %.3f, \"per_s\": %.1f, \"transactions\": %" PRIu64 ", "
           "\"commit_ms\": {\"p50\": %.3f, \"p99\": %.3f}, \"late_ms\": {\"p50\": %.3f, \"p99\": %.3f, \"max\": %.3f}, "
           "\"cpu_seconds\": %.3f}\n",
           stored, seconds, (double)stored / seconds, commit.count, histogram_ms(&commit, 0.5),
           histogram_ms(&commit, 0.99), histogram_ms(&late, 0.5), histogram_ms(&late, 0.99), (double)late.max / 1e6,
           cpu_seconds());
}

static enum by by_option(const char *text) {
    for (size_t i = 0; i < sizeof by_names / sizeof *by_names; i++) {
        if (!strcmp(text, by_names[i])) return (enum by)i;
    }
    fail("--by is publish, insert, rows or plain, not '%s'", text);
}

static void parse(int argc, char **argv) {
    static const struct option options[] = {
        {"url", required_argument, NULL, 'u'},     {"connections", required_argument, NULL, 'c'},
        {"per-tx", required_argument, NULL, 'k'},  {"by", required_argument, NULL, 'b'},
        {"rate", required_argument, NULL, 'r'},    {"events", required_argument, NULL, 'n'},
        {"first", required_argument, NULL, 'f'},   {"seconds", required_argument, NULL, 's'},
        {"keys", required_argument, NULL, 'K'},    {"bytes", required_argument, NULL, 'B'},
        {"topic", required_argument, NULL, 't'},   {"headers", required_argument, NULL, 'H'},
        {"commits", required_argument, NULL, 'C'}, {NULL, 0, NULL, 0},
    };
    int got, index;
    while ((got = getopt_long(argc, argv, "", options, &index)) != -1) {
        const char *name = got == '?' ? "" : options[index].name;
        switch (got) {
        case 'u': o.url = optarg; break;
        case 'c': o.connections = (uint32_t)number_option(name, optarg, CONNECTIONS_MAX); break;
        case 'k': o.per_tx = (uint32_t)number_option(name, optarg, PER_TX_MAX); break;
        case 'b': o.by = by_option(optarg); break;
        case 'r': o.rate = number_option(name, optarg, EVENTS_MAX); break;
        case 'n': o.events = number_option(name, optarg, EVENTS_MAX); break;
        case 'f': o.first = number_option(name, optarg, EVENTS_MAX); break;
        case 's': o.seconds = (uint32_t)number_option(name, optarg, 1000000); break;
        case 'K': o.keys = (uint32_t)number_option(name, optarg, KEYS_MAX); break;
        case 'B': o.bytes = (uint32_t)number_option(name, optarg, BYTES_MAX); break;
        case 't': o.topic = optarg; break;
        case 'H': o.headers = optarg; break;
        case 'C': o.commits = optarg; break;
        default: exit(2);
        }
    }
    if (!o.url) fail("--url names the database");
    if (!o.connections || !o.per_tx || o.keys < o.connections || o.bytes < EVENT_HEAD) {
        fail("at least one connection, one event a transaction, a key a connection, %d bytes", EVENT_HEAD);
    }
    if (o.events == EVENTS_MAX && !o.seconds) fail("--events or --seconds says when to end");
    if (o.first + o.events > EVENTS_MAX) o.events = EVENTS_MAX - o.first;
}

int main(int argc, char **argv) {
    parse(argc, argv);
    if (o.commits) commit_times = times_map(o.commits, o.first + o.events);
    struct writer *writers = allocate(o.connections, sizeof *writers);
    for (uint32_t i = 0; i < o.connections; i++) {
        writers[i].index = i;
        connect_writer(&writers[i]);
    }
    next_number = o.first;
    begun_ns = monotonic_ns();
    if (o.seconds) end_ns = begun_ns + (int64_t)o.seconds * 1000000000;
    for (uint32_t i = 0; i < o.connections; i++) {
        if (pthread_create(&writers[i].thread, NULL, write_events, &writers[i])) fail("no thread");
    }
    for (uint32_t i = 0; i < o.connections; i++) {
        pthread_join(writers[i].thread, NULL);
        PQfinish(writers[i].connection);
    }
    report(writers);
    return 0;
}
