// /api/connections, /api/channels, /api/consumers: who is there over AMQP.
#include "management/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ORDER_TEXT 700

// Everybody sees their own; monitors see all.
static bool sees_user(const struct call *c, const char *user) {
    return c->user->administrator || c->user->monitoring || strcmp(user, c->user->name) == 0;
}

static bool of_vhost(const struct call *c, const char *vhost) {
    return c->vhost == NULL || strcmp(vhost_name(c->vhost), vhost) == 0;
}

// "127.0.0.1:51234 -> 127.0.0.1:5672": what is before the first port.
static void write_peer(struct out *o, const char *connection) {
    char host[64];
    const char *end = strstr(connection, " -> ");
    size_t n = end != NULL ? (size_t)(end - connection) : strlen(connection);
    size_t colon = n;
    while (colon > 0 && connection[colon - 1] != ':') colon--;
    snprintf(host, sizeof host, "%.*s", colon > 0 ? (int)colon - 1 : 0, connection);
    out_text(o, "peer_host", host);
    out_uint(o, "peer_port", strtoul(connection + colon, NULL, 10));
}

// ---- connections ----------------------------------------------------------------------------------------

static void write_traffic(struct out *o, const struct management *m, const struct amqp_connection_info *i) {
    const double *rate = sampler_rates(&m->sampler, RATE_CONNECTION, i->name, NULL);
    out_count(o, "recv_oct", i->received_bytes, rate[RATE_IN]);
    out_uint(o, "recv_cnt", i->received_frames);
    out_count(o, "send_oct", i->sent_bytes, rate[RATE_OUT]);
    out_uint(o, "send_cnt", i->sent_frames);
    out_uint(o, "send_pend", i->send_pending);
}

static void write_connection(struct out *o, const struct management *m, const struct amqp_connection_info *i) {
    struct field given;
    out_text(o, "name", i->name);
    out_text(o, "node", m->node);
    out_text(o, "type", "network");
    out_text(o, "protocol", "AMQP 0-9-1");
    out_text(o, "state", i->state);
    out_text(o, "vhost", i->vhost);
    out_text(o, "user", i->user);
    out_text(o, "user_who_performed_action", i->user);
    out_text(o, "auth_mechanism", i->auth_mechanism);
    out_text(o, "host", i->host);
    out_uint(o, "port", i->port);
    out_text(o, "peer_host", i->peer_host);
    out_uint(o, "peer_port", i->peer_port);
    out_bool(o, "ssl", i->tls);
    out_text(o, "ssl_protocol", i->tls_protocol);
    out_text(o, "ssl_cipher", i->tls_cipher);
    out_uint(o, "channels", i->channels);
    out_uint(o, "channel_max", i->channel_max);
    out_uint(o, "frame_max", i->frame_max);
    out_uint(o, "timeout", i->heartbeat_s);
    out_int(o, "connected_at", i->connected_at_ms);
    if (table_find(i->client_properties, "connection_name", &given) && given.type == FIELD_STRING)
        out_view(o, "user_provided_name", given.bytes);
    out_table(o, "client_properties", i->client_properties);
    write_traffic(o, m, i);
}

struct listed {
    struct listing listing;
    const char *user, *connection; // NULL: any
};

static void list_connection(void *arg, const struct amqp_connection_info *i) {
    struct listed *l = arg;
    struct call *c = l->listing.call;
    if (!of_vhost(c, i->vhost) || !sees_user(c, i->user)) return;
    if (l->user != NULL && strcmp(l->user, i->user) != 0) return;
    struct out *o = listing_item(&l->listing, i->name, i->name);
    if (o == NULL) return;
    write_connection(o, c->management, i);
    listing_item_end(&l->listing);
}

static void list_connections(struct call *c, const char *user) {
    struct listed l = {.user = user};
    if (!listing_init(&l.listing, c)) return;
    if (c->management->o.amqp != NULL) amqp_each_connection(c->management->o.amqp, list_connection, &l);
    listing_answer(&l.listing);
}

void manage_connections(struct call *c) { list_connections(c, NULL); }

void manage_connections_of_user(struct call *c) { list_connections(c, call_param(c, "user")); }

struct sought {
    struct call *call;
    const char *name;
    bool found;
    void (*then)(struct call *c, const struct amqp_connection_info *i); // answers
};

static void look_at(void *arg, const struct amqp_connection_info *i) {
    struct sought *s = arg;
    if (s->found || strcmp(i->name, s->name) != 0) return;
    s->found = true;
    s->then(s->call, i);
}

static void with_connection(struct call *c, void (*then)(struct call *c, const struct amqp_connection_info *i)) {
    struct sought s = {.call = c, .name = call_param(c, "connection"), .then = then};
    if (c->management->o.amqp != NULL) amqp_each_connection(c->management->o.amqp, look_at, &s);
    if (!s.found) call_not_found(c, "connection");
}

static void refuse_other(struct call *c) {
    call_fail(c, 401, "not_authorised", "User not authorised to access object");
}

static void show_connection(struct call *c, const struct amqp_connection_info *i) {
    struct single s;
    if (!sees_user(c, i->user)) {
        refuse_other(c);
        return;
    }
    struct out *o = single_init(&s, c);
    if (o == NULL) return;
    write_connection(o, c->management, i);
    single_answer(&s);
}

void manage_connection(struct call *c) { with_connection(c, show_connection); }

// Only whether it may be: what is closed must not be while its door tells of it.
static void allow_close(struct call *c, const struct amqp_connection_info *i) {
    if (!c->user->administrator && strcmp(i->user, c->user->name) != 0) refuse_other(c);
}

static const char *reason_of(const struct call *c) {
    const char *reason = call_header(c, "X-Reason");
    return reason != NULL && *reason != '\0' ? reason : "Closed via management plugin";
}

void manage_connection_delete(struct call *c) {
    with_connection(c, allow_close);
    if (c->answered) return;
    if (amqp_close_connection(c->management->o.amqp, call_param(c, "connection"), reason_of(c)) == ERR_OK)
        call_empty(c, 204);
    else call_not_found(c, "connection");
}

struct closing {
    const char *user;
    struct buf names; // each with its NUL
};

static void take_name(void *arg, const struct amqp_connection_info *i) {
    struct closing *k = arg;
    if (strcmp(i->user, k->user) == 0) buf_add(&k->names, i->name, strlen(i->name) + 1);
}

void manage_connections_of_user_delete(struct call *c) {
    struct closing k = {.user = call_param(c, "user")};
    struct amqp *amqp = c->management->o.amqp;
    buf_init(&k.names, CALL_OUT_MAX);
    if (amqp != NULL) amqp_each_connection(amqp, take_name, &k);
    for (size_t at = 0; at < k.names.len; at += strlen((char *)k.names.data + at) + 1)
        amqp_close_connection(amqp, (char *)k.names.data + at, reason_of(c));
    buf_release(&k.names);
    call_empty(c, 204);
}

// ---- channels -------------------------------------------------------------------------------------------

static void channel_name(char *out, size_t size, const char *connection, uint16_t number) {
    snprintf(out, size, "%s (%u)", connection, number);
}

static void write_message_stats(struct out *o, const struct management *m, const struct amqp_channel_info *i) {
    char number[8];
    snprintf(number, sizeof number, "%u", i->number);
    const double *rate = sampler_rates(&m->sampler, RATE_CHANNEL, i->connection, number);
    out_open(o, "message_stats", '{');
    out_count(o, "publish", i->published, rate[RATE_PUBLISH]);
    out_count(o, "confirm", i->confirmed, rate[RATE_CONFIRM]);
    out_count(o, "return_unroutable", i->returned, rate[RATE_RETURN]);
    out_count(o, "deliver", i->delivered, rate[RATE_DELIVER]);
    out_count(o, "deliver_no_ack", i->delivered_no_ack, rate[RATE_DELIVER_NO_ACK]);
    out_count(o, "get", i->got, rate[RATE_GET]);
    out_count(o, "deliver_get", i->delivered + i->delivered_no_ack + i->got,
              rate[RATE_DELIVER] + rate[RATE_DELIVER_NO_ACK] + rate[RATE_GET]);
    out_count(o, "ack", i->acked, rate[RATE_ACK]);
    out_count(o, "redeliver", i->redelivered, rate[RATE_REDELIVER]);
    out_close(o, '}');
}

static void write_connection_details(struct out *o, const char *connection) {
    out_open(o, "connection_details", '{');
    out_text(o, "name", connection);
    write_peer(o, connection);
    out_close(o, '}');
}

static void write_channel(struct out *o, const struct management *m, const struct amqp_channel_info *i) {
    char name[ORDER_TEXT];
    channel_name(name, sizeof name, i->connection, i->number);
    out_text(o, "name", name);
    out_uint(o, "number", i->number);
    out_text(o, "node", m->node);
    out_text(o, "user", i->user);
    out_text(o, "user_who_performed_action", i->user);
    out_text(o, "vhost", i->vhost);
    out_text(o, "state", i->flow_stopped ? "flow" : "running");
    out_uint(o, "consumer_count", i->consumers);
    out_bool(o, "confirm", i->confirms);
    out_bool(o, "transactional", i->transactional);
    out_uint(o, "messages_unacknowledged", i->unacked);
    out_uint(o, "messages_unconfirmed", i->unconfirmed);
    out_uint(o, "messages_uncommitted", i->uncommitted);
    out_uint(o, "acks_uncommitted", i->uncommitted_acks);
    out_uint(o, "prefetch_count", i->prefetch);
    out_uint(o, "global_prefetch_count", i->global_prefetch);
    write_connection_details(o, i->connection);
    write_message_stats(o, m, i);
}

static void list_channel(void *arg, const struct amqp_channel_info *i) {
    struct listed *l = arg;
    struct call *c = l->listing.call;
    char name[ORDER_TEXT];
    if (!of_vhost(c, i->vhost) || !sees_user(c, i->user)) return;
    if (l->connection != NULL && strcmp(l->connection, i->connection) != 0) return;
    channel_name(name, sizeof name, i->connection, i->number);
    struct out *o = listing_item(&l->listing, name, name);
    if (o == NULL) return;
    write_channel(o, c->management, i);
    listing_item_end(&l->listing);
}

static void list_channels(struct call *c, const char *connection) {
    struct listed l = {.connection = connection};
    if (!listing_init(&l.listing, c)) return;
    if (c->management->o.amqp != NULL) amqp_each_channel(c->management->o.amqp, list_channel, &l);
    listing_answer(&l.listing);
}

void manage_channels(struct call *c) { list_channels(c, NULL); }

static void show_channels(struct call *c, const struct amqp_connection_info *i) {
    if (sees_user(c, i->user)) list_channels(c, i->name);
    else refuse_other(c);
}

void manage_channels_of_connection(struct call *c) { with_connection(c, show_channels); }

struct its_consumers {
    struct out *out;
    const struct management *management;
    const struct amqp_channel_info *channel;
};

static void write_its_consumer(void *arg, const struct amqp_consumer_info *i) {
    struct its_consumers *its = arg;
    if (i->channel != its->channel->number || strcmp(i->connection, its->channel->connection) != 0) return;
    out_open(its->out, NULL, '{');
    write_consumer(its->out, its->management, i);
    out_close(its->out, '}');
}

static void show_channel(void *arg, const struct amqp_channel_info *i) {
    struct call *c = arg;
    char name[ORDER_TEXT];
    struct single s;
    channel_name(name, sizeof name, i->connection, i->number);
    if (c->answered || strcmp(name, call_param(c, "channel")) != 0) return;
    if (!sees_user(c, i->user)) {
        refuse_other(c);
        return;
    }
    struct out *o = single_init(&s, c);
    if (o == NULL) return;
    write_channel(o, c->management, i);
    struct its_consumers its = {.out = o, .management = c->management, .channel = i};
    out_open(o, "consumer_details", '[');
    amqp_each_consumer(c->management->o.amqp, write_its_consumer, &its);
    out_close(o, ']');
    single_answer(&s);
}

void manage_channel(struct call *c) {
    if (c->management->o.amqp != NULL) amqp_each_channel(c->management->o.amqp, show_channel, c);
    if (!c->answered) call_not_found(c, "channel");
}

// ---- consumers ------------------------------------------------------------------------------------------

void write_consumer(struct out *o, const struct management *m, const struct amqp_consumer_info *i) {
    char name[ORDER_TEXT];
    channel_name(name, sizeof name, i->connection, i->channel);
    out_text(o, "consumer_tag", i->tag);
    out_bool(o, "ack_required", i->ack_required);
    out_bool(o, "active", i->active);
    out_text(o, "activity_status", i->active ? "up" : "waiting");
    out_bool(o, "exclusive", i->exclusive);
    out_uint(o, "prefetch_count", i->prefetch);
    out_table(o, "arguments", i->arguments);
    out_open(o, "channel_details", '{');
    out_text(o, "name", name);
    out_uint(o, "number", i->channel);
    out_text(o, "node", m->node);
    out_text(o, "user", i->user);
    out_text(o, "connection_name", i->connection);
    write_peer(o, i->connection);
    out_close(o, '}');
    out_open(o, "queue", '{');
    out_text(o, "name", i->queue);
    out_text(o, "vhost", i->vhost);
    out_close(o, '}');
}

static void list_consumer(void *arg, const struct amqp_consumer_info *i) {
    struct listing *l = arg;
    char order[ORDER_TEXT * 2];
    if (!of_vhost(l->call, i->vhost) || !sees_vhost(l->call, i->vhost)) return;
    snprintf(order, sizeof order, "%s\1%s\1%s", i->vhost, i->queue, i->tag);
    struct out *o = listing_item(l, i->queue, order);
    if (o == NULL) return;
    write_consumer(o, l->call->management, i);
    listing_item_end(l);
}

void manage_consumers(struct call *c) {
    struct listing l;
    if (!listing_init(&l, c)) return;
    if (c->management->o.amqp != NULL) amqp_each_consumer(c->management->o.amqp, list_consumer, &l);
    listing_answer(&l);
}
