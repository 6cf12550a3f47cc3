// /api/queues: looking, declaring, deleting, purging. Taking messages out is api_queue_get.c's.
#include "management/internal.h"

#include "management/declare_json.h"
#include "management/json_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ORDER_TEXT 520

// ---- looking --------------------------------------------------------------------------------------------

static void write_lengths(struct out *o, const struct queue_info *q, const double *rate) {
    out_count(o, "messages", q->ready + q->unacked, rate[RATE_QUEUE_READY] + rate[RATE_QUEUE_UNACKED]);
    out_count(o, "messages_ready", q->ready, rate[RATE_QUEUE_READY]);
    out_count(o, "messages_unacknowledged", q->unacked, rate[RATE_QUEUE_UNACKED]);
    out_uint(o, "message_bytes", q->bytes + q->unacked_bytes);
    out_uint(o, "message_bytes_ready", q->bytes);
    out_uint(o, "message_bytes_unacknowledged", q->unacked_bytes);
    out_uint(o, "messages_delayed", q->delayed);
    out_uint(o, "messages_parked", q->parked);
    out_uint(o, "memory", q->memory);
}

static void write_stats(struct out *o, const struct queue_info *q, const double *rate) {
    out_open(o, "message_stats", '{');
    out_count(o, "publish", q->published, rate[RATE_QUEUE_PUBLISH]);
    out_count(o, "deliver", q->delivered, rate[RATE_QUEUE_DELIVER]);
    out_count(o, "get", q->got, rate[RATE_QUEUE_GET]);
    out_count(o, "deliver_get", q->delivered + q->got, rate[RATE_QUEUE_DELIVER] + rate[RATE_QUEUE_GET]);
    out_count(o, "ack", q->acked, rate[RATE_QUEUE_ACK]);
    out_count(o, "redeliver", q->redelivered, rate[RATE_QUEUE_REDELIVER]);
    out_uint(o, "dead_lettered", q->dead_lettered);
    out_uint(o, "expired", q->expired);
    out_close(o, '}');
}

static void write_queue(struct out *o, const struct management *m, const struct queue_info *q) {
    const struct queue_options *p = q->options;
    const double *rate = sampler_rates(&m->sampler, RATE_QUEUE, q->vhost, q->name);
    out_text(o, "name", q->name);
    out_text(o, "vhost", q->vhost);
    out_text(o, "type", p->type == QUEUE_QUORUM ? "quorum" : "classic");
    out_bool(o, "durable", p->durable);
    out_bool(o, "auto_delete", p->auto_delete);
    out_bool(o, "exclusive", p->owner != NULL);
    out_table(o, "arguments", p->arguments);
    out_text(o, "node", m->node);
    out_text(o, "state", "running");
    out_uint(o, "consumers", q->consumers);
    out_null(o, "policy");
    out_null(o, "operator_policy");
    out_open(o, "effective_policy_definition", '{');
    out_close(o, '}');
    write_lengths(o, q, rate);
    if (q->oldest_at_ms > 0) out_int(o, "head_message_timestamp", q->oldest_at_ms / 1000);
    else out_null(o, "head_message_timestamp");
    write_stats(o, q, rate);
}

struct listed {
    struct listing listing;
    const char *vhost; // NULL: all
};

static void list_queue(void *arg, const struct queue_info *q) {
    struct listed *l = arg;
    char order[ORDER_TEXT];
    struct call *c = l->listing.call;
    if (l->vhost != NULL ? strcmp(q->vhost, l->vhost) != 0 : !sees_vhost(c, q->vhost)) return;
    snprintf(order, sizeof order, "%s\1%s", q->vhost, q->name);
    struct out *o = listing_item(&l->listing, q->name, order);
    if (o == NULL) return;
    write_queue(o, c->management, q);
    listing_item_end(&l->listing);
}

void manage_queues(struct call *c) {
    struct listed l = {.vhost = c->vhost != NULL ? vhost_name(c->vhost) : NULL};
    if (!listing_init(&l.listing, c)) return;
    engine_each_queue(c->management->o.engine, list_queue, &l);
    listing_answer(&l.listing);
}

// The queue of the path; false: there is none, and that is answered.
static bool find_queue(struct call *c, struct queue_info *out) {
    if (engine_queue(c->vhost, call_param(c, "queue"), out)) return true;
    call_not_found(c, "queue");
    return false;
}

struct its_consumers {
    struct out *out;
    const struct management *management;
    const struct queue_info *queue;
};

static void write_its_consumer(void *arg, const struct amqp_consumer_info *i) {
    struct its_consumers *its = arg;
    if (strcmp(i->vhost, its->queue->vhost) != 0 || strcmp(i->queue, its->queue->name) != 0) return;
    out_open(its->out, NULL, '{');
    write_consumer(its->out, its->management, i);
    out_close(its->out, '}');
}

void manage_queue(struct call *c) {
    struct queue_info q;
    struct single s;
    if (!find_queue(c, &q)) return;
    struct out *o = single_init(&s, c);
    if (o == NULL) return;
    write_queue(o, c->management, &q);
    struct its_consumers its = {.out = o, .management = c->management, .queue = &q};
    out_open(o, "consumer_details", '[');
    if (c->management->o.amqp != NULL) amqp_each_consumer(c->management->o.amqp, write_its_consumer, &its);
    out_close(o, ']');
    static const char *const empty[] = {"deliveries", "incoming"};
    for (size_t i = 0; i < 2; i++) {
        out_open(o, empty[i], '[');
        out_close(o, ']');
    }
    single_answer(&s);
}

// ---- declaring ------------------------------------------------------------------------------------------

// An exclusive queue is its connection's alone.
bool queue_is_locked(struct call *c, const char *name) {
    struct queue_info q;
    if (!engine_queue(c->vhost, name, &q) || q.options->owner == NULL) return false;
    call_fail(c, 400, "bad_request",
              "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '%s' in vhost '%s'", name,
              vhost_name(c->vhost));
    return true;
}

enum err queue_declare_json(struct vhost *v, const char *name, const json_t *o, struct queue_arguments *a,
                            struct buf *table, struct error *e) {
    const json_t *arguments = json_object_get(o, "arguments");
    if (strlen(name) == 0 || strlen(name) > 255)
        return error_set(e, ERR_INVALID, "the name of a queue has 1 to 255 bytes");
    enum err err = json_to_table(arguments, table, e);
    if (err != ERR_OK) return err;
    err = queue_arguments(a, (struct view){table->data, (uint32_t)table->len}, name, vhost_name(v), e);
    a->options.durable = json_bool_or(o, "durable", true);
    a->options.auto_delete = json_bool_or(o, "auto_delete", false);
    return err;
}

static bool may_declare(struct call *c, const char *name, const struct queue_options *o) {
    if (!call_may(c, ACCESS_CONFIGURE, name)) return false;
    if (o->dead_letter_exchange == NULL) return true;
    return call_may(c, ACCESS_READ, name) && call_may(c, ACCESS_WRITE, o->dead_letter_exchange);
}

static void declare(struct call *c, const char *name, struct buf *table) {
    struct queue_arguments a;
    struct queue_info was;
    struct error e = {0};
    if (queue_declare_json(c->vhost, name, c->json, &a, table, &e) != ERR_OK) {
        call_error(c, &e);
        return;
    }
    bool known = engine_queue(c->vhost, name, &was);
    if (!may_declare(c, name, &a.options) || queue_is_locked(c, name)) return;
    if (!known && strncmp(name, "amq.", 4) == 0) {
        call_fail(c, 400, "bad_request", "ACCESS_REFUSED - queue name '%s' contains reserved prefix 'amq.*'", name);
        return;
    }
    if (engine_queue_declare(c->vhost, name, &a.options, &e) != ERR_OK) call_error(c, &e);
    else call_durable(c, known ? 204 : 201);
}

void manage_queue_put(struct call *c) {
    struct buf table;
    if (call_json(c) == NULL) return;
    buf_init(&table, JSON_TABLE_MAX);
    declare(c, call_param(c, "queue"), &table);
    buf_release(&table);
}

// ---- deleting and purging -------------------------------------------------------------------------------

void manage_queue_delete(struct call *c) {
    struct queue_info q;
    struct error e = {0};
    uint64_t count;
    const char *name = call_param(c, "queue");
    if (!find_queue(c, &q) || !call_may(c, ACCESS_CONFIGURE, name) || queue_is_locked(c, name)) return;
    enum err err = engine_queue_delete(c->vhost, name, call_flag(c, "if-unused"), call_flag(c, "if-empty"), &count, &e);
    if (err != ERR_OK) call_error(c, &e);
    else call_durable(c, 204);
}

void manage_queue_purge(struct call *c) {
    struct queue_info q;
    struct error e = {0};
    uint64_t count;
    const char *name = call_param(c, "queue");
    if (!find_queue(c, &q) || !call_may(c, ACCESS_READ, name) || queue_is_locked(c, name)) return;
    if (engine_queue_purge(c->vhost, name, &count, &e) != ERR_OK) call_error(c, &e);
    else call_durable(c, 204);
}

// RabbitMQ's actions are about mirrors; there are none to move.
void manage_queue_actions(struct call *c) {
    struct queue_info q;
    if (!find_queue(c, &q) || call_json(c) == NULL) return;
    const char *action = json_text_or(c->json, "action", "");
    if (strcmp(action, "sync") == 0 || strcmp(action, "cancel_sync") == 0) call_empty(c, 204);
    else call_fail(c, 400, "bad_request", "unknown action");
}
