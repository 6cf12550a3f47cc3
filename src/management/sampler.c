// Sampling; see sampler.h.
#include "management/sampler.h"

#include "base/io.h"
#include "management/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEY_MAX 600

struct row {
    uint64_t last[RATES_COUNTERS];
    double rate[RATES_COUNTERS];
    uint32_t round; // in which it was seen last
    uint32_t key_length;
    char key[];
};

// kind, a, NUL, b
static uint32_t make_key(char out[static KEY_MAX], enum rate_kind kind, const char *a, const char *b) {
    int n = snprintf(out, KEY_MAX, "%c%s%c%s", kind, a, '\0', b != NULL ? b : "");
    return n < KEY_MAX ? (uint32_t)n : KEY_MAX - 1;
}

static struct row *row_of(struct sampler *r, enum rate_kind kind, const char *a, const char *b) {
    char key[KEY_MAX];
    uint32_t n = make_key(key, kind, a, b);
    struct row *row = map_get(&r->rows, key, n);
    if (row != NULL || r->rows.len >= RATES_ROWS_MAX) return row;
    row = calloc(1, sizeof *row + n);
    if (row == NULL) return NULL;
    memcpy(row->key, key, n);
    row->key_length = n;
    if (map_put(&r->rows, row->key, n, row)) return row;
    free(row);
    return NULL;
}

// A row that was not there a round ago has no rate yet: its counters may be as old as the server.
static void put(struct sampler *r, enum rate_kind kind, const char *a, const char *b, const uint64_t *now, size_t n) {
    struct row *row = row_of(r, kind, a, b);
    if (row == NULL) return;
    bool known = row->round != 0 && row->round + 1 == r->round && r->seconds > 0;
    for (size_t i = 0; i < n; i++) {
        row->rate[i] = known ? ((double)now[i] - (double)row->last[i]) / r->seconds : 0;
        row->last[i] = now[i];
    }
    row->round = r->round;
}

const double *sampler_rates(const struct sampler *r, enum rate_kind kind, const char *a, const char *b) {
    static const double none[RATES_COUNTERS];
    char key[KEY_MAX];
    const struct row *row = map_get(&r->rows, key, make_key(key, kind, a, b));
    return row != NULL ? row->rate : none;
}

// ---- a sample -------------------------------------------------------------------------------------------

struct sample {
    struct sampler *rates;
    uint64_t ready, unacked;
};

static void on_queue(void *arg, const struct queue_info *q) {
    struct sample *s = arg;
    const uint64_t now[] = {q->published, q->delivered, q->got, q->acked, q->redelivered, q->ready, q->unacked};
    put(s->rates, RATE_QUEUE, q->vhost, q->name, now, sizeof now / sizeof now[0]);
    s->ready += q->ready;
    s->unacked += q->unacked;
}

static void on_exchange(void *arg, const struct exchange_info *x) {
    const uint64_t now[] = {x->published_in, x->published_out};
    put(arg, RATE_EXCHANGE, x->vhost, x->name, now, 2);
}

static void on_vhost(void *arg, struct vhost *v) { engine_each_exchange(v, on_exchange, arg); }

static void on_connection(void *arg, const struct amqp_connection_info *c) {
    const uint64_t now[] = {c->received_bytes, c->sent_bytes};
    put(arg, RATE_CONNECTION, c->name, NULL, now, 2);
}

static void on_channel(void *arg, const struct amqp_channel_info *c) {
    char number[8];
    const uint64_t now[] = {
        [RATE_PUBLISH] = c->published,
        [RATE_CONFIRM] = c->confirmed,
        [RATE_RETURN] = c->returned,
        [RATE_DELIVER] = c->delivered,
        [RATE_DELIVER_NO_ACK] = c->delivered_no_ack,
        [RATE_GET] = c->got,
        [RATE_ACK] = c->acked,
        [RATE_REDELIVER] = c->redelivered,
    };
    snprintf(number, sizeof number, "%u", c->number);
    put(arg, RATE_CHANNEL, c->connection, number, now, sizeof now / sizeof now[0]);
}

static void sample_all(struct sample *s, const struct amqp_stats *a) {
    const uint64_t now[RATES_COUNTERS] = {
        [RATE_PUBLISH] = a->published, [RATE_CONFIRM] = a->confirmed,
        [RATE_RETURN] = a->returned,   [RATE_DROP] = a->unroutable_dropped,
        [RATE_DELIVER] = a->delivered, [RATE_DELIVER_NO_ACK] = a->delivered_no_ack,
        [RATE_GET] = a->got,           [RATE_GET_NO_ACK] = a->got_no_ack,
        [RATE_ACK] = a->acked,         [RATE_REDELIVER] = a->redelivered,
        [RATE_READY] = s->ready,       [RATE_UNACKED] = s->unacked,
    };
    put(s->rates, RATE_ALL, "", NULL, now, RATES_COUNTERS);
}

// Rows of things that are not there any more.
static void drop_gone(struct sampler *r) {
    struct map left;
    struct row *row;
    size_t at = 0;
    map_init(&left, io_random_u64(r->management->o.io));
    while ((row = map_next(&r->rows, &at)) != NULL)
        if (row->round != r->round || !map_put(&left, row->key, row->key_length, row)) free(row);
    map_release(&r->rows);
    r->rows = left;
}

static void drop_all(struct sampler *r) {
    struct row *row;
    size_t at = 0;
    while ((row = map_next(&r->rows, &at)) != NULL) free(row);
    map_release(&r->rows);
    map_init(&r->rows, io_random_u64(r->management->o.io));
}

static void sample(struct sampler *r) {
    struct management *m = r->management;
    struct sample s = {.rates = r};
    uint64_t now = loop_now_ms(m->o.loop);
    r->seconds = r->sampled_ms > 0 ? (double)(now - r->sampled_ms) / 1000 : 0;
    r->sampled_ms = now;
    r->round++;
    engine_each_queue(m->o.engine, on_queue, &s);
    engine_each_vhost(m->o.engine, on_vhost, r);
    struct amqp_stats stats = {0};
    if (m->o.amqp != NULL) {
        amqp_each_connection(m->o.amqp, on_connection, r);
        amqp_each_channel(m->o.amqp, on_channel, r);
        amqp_stats(m->o.amqp, &stats);
    }
    sample_all(&s, &stats);
    drop_gone(r);
}

static void on_timer(struct loop_timer *t) {
    struct sampler *r = LIST_ITEM(t, struct sampler, timer);
    struct loop *loop = r->management->o.loop;
    if (loop_now_ms(loop) >= r->asked_ms + RATES_IDLE_MS) {
        drop_all(r);
        r->sampled_ms = 0;
        return;
    }
    sample(r);
    loop_timer_start(loop, t, RATES_EVERY_MS);
}

void sampler_start(struct sampler *r, struct management *m) {
    *r = (struct sampler){.management = m, .timer.fn = on_timer};
    map_init(&r->rows, io_random_u64(m->o.io));
}

void sampler_stop(struct sampler *r) {
    loop_timer_stop(r->management->o.loop, &r->timer);
    drop_all(r);
    map_release(&r->rows);
}

void sampler_wanted(struct sampler *r) {
    struct loop *loop = r->management->o.loop;
    r->asked_ms = loop_now_ms(loop);
    if (loop_timer_active(&r->timer)) return;
    sample(r);
    loop_timer_start(loop, &r->timer, RATES_EVERY_MS);
}
