// Metrics; see metrics.h. A metric's lines stand together, so the queues are gone through once for each metric.
#include "management/metrics.h"

#include "amqp/amqp.h"
#include "base/io.h"
#include "base/utf8.h"
#include "engine/engine.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#define PAGE_BYTES 4096

typedef unsigned long long ull;

static void head(struct buf *b, const char *name, const char *type, const char *help) {
    buf_printf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void gauge(struct buf *b, const char *name, const char *help, ull v) {
    head(b, name, "gauge", help);
    buf_printf(b, "%s %llu\n", name, v);
}

static void counter(struct buf *b, const char *name, const char *help, ull v) {
    head(b, name, "counter", help);
    buf_printf(b, "%s %llu\n", name, v);
}

// ---- queues ---------------------------------------------------------------------------------------------

enum figure {
    READY,
    UNACKED,
    MESSAGES,
    CONSUMERS,
    BYTES,
    PUBLISHED,
    DELIVERED,
    ACKED,
    REDELIVERED,
    PARKED,
    DELAYED,
    MEMORY,
    OLDEST,
    FIGURES
};

static const struct {
    const char *name, *type, *help;
} figures[FIGURES] = {
    [READY] = {"rabbitmq_queue_messages_ready", "gauge", "Messages waiting in the queue."},
    [UNACKED] = {"rabbitmq_queue_messages_unacked", "gauge", "Messages with a consumer, not settled."},
    [MESSAGES] = {"rabbitmq_queue_messages", "gauge", "Messages waiting, and with a consumer."},
    [CONSUMERS] = {"rabbitmq_queue_consumers", "gauge", "Consumers of the queue."},
    [BYTES] = {"rabbitmq_queue_messages_bytes", "gauge", "Bytes of the bodies in the queue."},
    [PUBLISHED] = {"rabbitmq_queue_messages_published_total", "counter", "Messages published to the queue."},
    [DELIVERED] = {"barid_queue_delivered_total", "counter", "Messages delivered to consumers, or got."},
    [ACKED] = {"barid_queue_acked_total", "counter", "Messages settled."},
    [REDELIVERED] = {"barid_queue_redelivered_total", "counter", "Messages delivered again."},
    [PARKED] = {"barid_queue_parked", "gauge", "Messages parked."},
    [DELAYED] = {"barid_queue_delayed", "gauge", "Messages that wait for their time."},
    [MEMORY] = {"barid_queue_memory_bytes", "gauge", "Memory the queue takes."},
    [OLDEST] = {"barid_queue_oldest_seconds", "gauge", "Age of the oldest waiting message."},
};

struct pass {
    struct buf *b;
    enum figure figure;
    int64_t now_ms;
    ull sums[FIGURES];
};

static ull figure_of(const struct queue_info *q, enum figure f, int64_t now_ms) {
    switch (f) {
    case READY: return q->ready;
    case UNACKED: return q->unacked;
    case MESSAGES: return q->ready + q->unacked;
    case CONSUMERS: return q->consumers;
    case BYTES: return q->bytes + q->unacked_bytes;
    case PUBLISHED: return q->published;
    case DELIVERED: return q->delivered + q->got;
    case ACKED: return q->acked;
    case REDELIVERED: return q->redelivered;
    case PARKED: return q->parked;
    case DELAYED: return q->delayed;
    case MEMORY: return q->memory;
    case OLDEST: return q->oldest_at_ms > 0 && now_ms > q->oldest_at_ms ? (ull)(now_ms - q->oldest_at_ms) / 1000 : 0;
    case FIGURES: break;
    }
    return 0;
}

// A name may be any bytes; one that is not UTF-8 would make the whole page unreadable to Prometheus.
static void label(struct buf *b, const char *name, const char *text) {
    bool valid = utf8_valid(text, strlen(text));
    buf_printf(b, "%s=\"", name);
    for (; *text != '\0'; text++) {
        if (!valid && (*text & 0x80) != 0) buf_printf(b, "\\\\x%02X", (unsigned char)*text);
        else if (*text == '\n') buf_add(b, "\\n", 2);
        else if (*text == '"' || *text == '\\') buf_printf(b, "\\%c", *text);
        else buf_add(b, text, 1);
    }
    buf_add_u8(b, '"');
}

static void write_queue(void *arg, const struct queue_info *q) {
    struct pass *p = arg;
    buf_printf(p->b, "%s{", figures[p->figure].name);
    label(p->b, "vhost", q->vhost);
    buf_add_u8(p->b, ',');
    label(p->b, "queue", q->name);
    buf_printf(p->b, "} %llu\n", figure_of(q, p->figure, p->now_ms));
}

static void add_queue(void *arg, const struct queue_info *q) {
    struct pass *p = arg;
    for (enum figure f = 0; f < FIGURES; f++) {
        ull v = figure_of(q, f, p->now_ms);
        if (f != OLDEST) p->sums[f] += v;
        else if (v > p->sums[f]) p->sums[f] = v;
    }
}

static void write_queues(struct buf *b, const struct metrics_sources *s, uint64_t queues) {
    struct pass p = {.b = b, .now_ms = io_wall_ms(s->io)};
    bool each = queues <= METRICS_QUEUES_MAX;
    if (!each) engine_each_queue(s->engine, add_queue, &p);
    for (p.figure = 0; p.figure < FIGURES; p.figure++) {
        head(b, figures[p.figure].name, figures[p.figure].type, figures[p.figure].help);
        if (each) engine_each_queue(s->engine, write_queue, &p);
        else buf_printf(b, "%s %llu\n", figures[p.figure].name, p.sums[p.figure]);
    }
}

// ---- the broker -----------------------------------------------------------------------------------------

static void write_messages(struct buf *b, const struct amqp_stats *a) {
    static const char protocol[] = "{protocol=\"amqp091\"}";
    const struct {
        const char *name, *help;
        ull value;
    } totals[] = {
        {"received", "Messages from publishers.", a->published},
        {"confirmed", "Messages confirmed to publishers.", a->confirmed},
        {"unroutable_returned", "Messages given back to publishers: no queue.", a->returned},
        {"unroutable_dropped", "Messages dropped: no queue.", a->unroutable_dropped},
        {"delivered", "Messages delivered to consumers, or got.",
         a->delivered + a->delivered_no_ack + a->got + a->got_no_ack},
        {"delivered_consume_manual_ack", "Messages delivered to consumers that acknowledge.", a->delivered},
        {"delivered_consume_auto_ack", "Messages delivered to consumers that do not acknowledge.", a->delivered_no_ack},
        {"delivered_get_manual_ack", "Messages got, to be acknowledged.", a->got},
        {"delivered_get_auto_ack", "Messages got.", a->got_no_ack},
        {"acknowledged", "Messages acknowledged.", a->acked},
        {"redelivered", "Messages delivered again.", a->redelivered},
    };
    for (size_t i = 0; i < sizeof totals / sizeof totals[0]; i++) {
        char name[96];
        snprintf(name, sizeof name, "rabbitmq_global_messages_%s_total", totals[i].name);
        head(b, name, "counter", totals[i].help);
        buf_printf(b, "%s%s %llu\n", name, protocol, totals[i].value);
    }
}

static void write_connections(struct buf *b, const struct amqp_stats *a) {
    gauge(b, "rabbitmq_connections", "AMQP connections open.", a->connections);
    gauge(b, "rabbitmq_channels", "AMQP channels open.", a->channels);
    gauge(b, "rabbitmq_consumers", "Consumers.", a->consumers);
    counter(b, "rabbitmq_connections_opened_total", "AMQP connections opened.", a->connections_opened);
    counter(b, "rabbitmq_connections_closed_total", "AMQP connections closed.", a->connections_closed);
    counter(b, "rabbitmq_channels_opened_total", "AMQP channels opened.", a->channels_opened);
    counter(b, "rabbitmq_channels_closed_total", "AMQP channels closed.", a->channels_closed);
    counter(b, "rabbitmq_connection_incoming_bytes_total", "Bytes from AMQP clients.", a->received_bytes);
    counter(b, "rabbitmq_connection_outgoing_bytes_total", "Bytes to AMQP clients.", a->sent_bytes);
    counter(b, "rabbitmq_auth_attempts_failed_total", "AMQP log-ins refused.", a->auth_failures);
    gauge(b, "barid_amqp_blocked", "Are publishers told to wait?", a->blocked);
}

static void write_engine(struct buf *b, const struct engine_stats *s) {
    gauge(b, "rabbitmq_queues", "Queues.", s->queues);
    gauge(b, "barid_exchanges", "Exchanges.", s->exchanges);
    gauge(b, "barid_bindings", "Bindings.", s->bindings);
    gauge(b, "barid_vhosts", "Virtual hosts.", s->vhosts);
    gauge(b, "barid_engine_messages", "Messages stored, each once.", s->messages);
    gauge(b, "barid_engine_entries", "Places in queues that they take.", s->entries);
    gauge(b, "barid_engine_body_bytes", "Bodies in memory.", s->body_bytes);
    gauge(b, "barid_engine_body_budget_bytes", "Bodies in memory at most.", s->memory_budget);
    gauge(b, "barid_engine_structure_bytes", "Memory of messages and entries, without bodies.", s->structure_bytes);
    gauge(b, "barid_engine_waiting_for_disk", "Publishes not yet answered.", s->waiting_for_disk);
    gauge(b, "barid_engine_no_room", "Does what was settled wait for room on the disk?", s->no_room);
    gauge(b, "barid_engine_dead_letters_waiting", "Dead letters whose target has no room.", s->dead_letters);
}

static ull open_files(void) {
    DIR *d = opendir("/proc/self/fd");
    ull n = 0;
    if (d == NULL) return 0;
    while (readdir(d) != NULL) n++;
    closedir(d);
    return n > 3 ? n - 3 : 0; // ".", ".." and this one
}

static ull resident_bytes(void) {
    ull size, resident;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL) return 0;
    bool ok = fscanf(f, "%llu %llu", &size, &resident) == 2;
    fclose(f);
    return ok ? resident * PAGE_BYTES : 0;
}

static void write_machine(struct buf *b, const struct metrics_sources *s) {
    struct io_space space;
    struct rlimit files;
    if (s->io->v->space(s->io, &space) == ERR_OK)
        gauge(b, "rabbitmq_disk_space_available_bytes", "Space left for the data directory.", space.free_bytes);
    gauge(b, "rabbitmq_disk_space_available_limit_bytes", "With less than this nothing new is accepted.",
          s->low_water_bytes);
    gauge(b, "rabbitmq_process_resident_memory_bytes", "Resident memory.", resident_bytes());
    gauge(b, "rabbitmq_process_open_fds", "Open files.", open_files());
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        gauge(b, "rabbitmq_process_max_fds", "Open files at most.", (ull)files.rlim_cur);
    gauge(b, "rabbitmq_alarms_free_disk_space_watermark", "Is publishing refused for want of space?",
          engine_blocked(s->engine, NULL));
}

void metrics_write(struct buf *b, const struct metrics_sources *s) {
    struct amqp_stats a = {0};
    struct engine_stats e;
    engine_stats(s->engine, &e);
    if (s->amqp != NULL) amqp_stats(s->amqp, &a);
    write_connections(b, &a);
    write_messages(b, &a);
    write_engine(b, &e);
    write_machine(b, s);
    write_queues(b, s, e.queues);
}
