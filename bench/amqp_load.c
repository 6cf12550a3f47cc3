// amqp_load: the load of `barid bench amqp`, spoken by rabbitmq-c, the client library that C programs use with any
// broker.
//
// rabbitmq-c writes every frame by itself. The socket is corked from the first write until a flush, so that the small
// writes of many messages leave as few packets, as a program that cares for its throughput would have it.
#include "cli/bench/load.h"

#include "base/assert.h"

#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define CHANNEL    1
#define FRAME_MAX  131072
#define PERSISTENT 2
#define TRANSIENT  1

struct load_client {
    const struct load_options *o;
    amqp_connection_state_t connection;
    uint8_t *body;
    bool corked, consumes;
    uint64_t tag, stamp, body_left;
    bool body_begun;
};

static void check_status(int status, const char *what) {
    if (status != AMQP_STATUS_OK) die("load: %s: %s", what, amqp_error_string2(status));
}

static void refuse(const amqp_method_t *m, const char *what) {
    if (m->id == AMQP_CONNECTION_CLOSE_METHOD) {
        amqp_connection_close_t *k = m->decoded;
        die("load: %s: %u %.*s", what, k->reply_code, (int)k->reply_text.len, (char *)k->reply_text.bytes);
    }
    if (m->id == AMQP_CHANNEL_CLOSE_METHOD) {
        amqp_channel_close_t *k = m->decoded;
        die("load: %s: %u %.*s", what, k->reply_code, (int)k->reply_text.len, (char *)k->reply_text.bytes);
    }
}

static void check(amqp_rpc_reply_t r, const char *what) {
    if (r.reply_type == AMQP_RESPONSE_NORMAL) return;
    if (r.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) check_status(r.library_error, what);
    refuse(&r.reply, what);
    die("load: %s: refused", what);
}

static void cork(struct load_client *c, int on) {
    if (c->corked == (bool)on) return;
    setsockopt(amqp_get_sockfd(c->connection), IPPROTO_TCP, TCP_CORK, &on, sizeof on);
    c->corked = on;
}

static void client_flush(struct load_client *c) { cork(c, 0); }

static struct load_client *client_open(const struct load_options *o) {
    struct load_client *c = calloc(1, sizeof *c);
    if (!c || !(c->body = malloc(o->bytes + 1)) || !(c->connection = amqp_new_connection())) die("load: out of memory");
    c->o = o;
    memset(c->body, 'x', o->bytes);
    amqp_socket_t *socket = amqp_tcp_socket_new(c->connection);
    if (!socket) die("load: out of memory");
    check_status(amqp_socket_open(socket, o->host, o->port), "cannot connect");
    check(amqp_login(c->connection, o->vhost, 0, FRAME_MAX, 0, AMQP_SASL_METHOD_PLAIN, o->user, o->password), "log-in");
    amqp_channel_open(c->connection, CHANNEL);
    check(amqp_get_rpc_reply(c->connection), "channel.open");
    return c;
}

static void client_close(struct load_client *c) {
    client_flush(c);
    amqp_destroy_connection(c->connection);
    free(c->body);
    free(c);
}

static void client_declare_queue(struct load_client *c, const char *queue) {
    amqp_table_entry_t type = {amqp_cstring_bytes("x-queue-type"), {AMQP_FIELD_KIND_UTF8, {0}}};
    amqp_table_t arguments = {c->o->queue_type ? 1 : 0, &type};
    if (c->o->queue_type) type.value.value.bytes = amqp_cstring_bytes(c->o->queue_type);
    amqp_queue_declare(c->connection, CHANNEL, amqp_cstring_bytes(queue), 0, !c->o->transient, 0, 0, arguments);
    check(amqp_get_rpc_reply(c->connection), "queue.declare");
}

static uint64_t client_ready(struct load_client *c, const char *queue) {
    amqp_queue_declare_ok_t *ok =
        amqp_queue_declare(c->connection, CHANNEL, amqp_cstring_bytes(queue), 1, 0, 0, 0, amqp_empty_table);
    check(amqp_get_rpc_reply(c->connection), "queue.declare passive");
    return ok->message_count;
}

static void client_purge(struct load_client *c, const char *queue) {
    amqp_queue_purge(c->connection, CHANNEL, amqp_cstring_bytes(queue));
    check(amqp_get_rpc_reply(c->connection), "queue.purge");
}

static void client_delete_queue(struct load_client *c, const char *queue) {
    amqp_queue_delete(c->connection, CHANNEL, amqp_cstring_bytes(queue), 0, 0);
    check(amqp_get_rpc_reply(c->connection), "queue.delete");
}

static void client_declare_fanout(struct load_client *c, const char *exchange) {
    amqp_exchange_declare(c->connection, CHANNEL, amqp_cstring_bytes(exchange), amqp_cstring_bytes("fanout"), 0,
                          !c->o->transient, 0, 0, amqp_empty_table);
    check(amqp_get_rpc_reply(c->connection), "exchange.declare");
}

static void client_delete_exchange(struct load_client *c, const char *exchange) {
    amqp_exchange_delete(c->connection, CHANNEL, amqp_cstring_bytes(exchange), 0);
    check(amqp_get_rpc_reply(c->connection), "exchange.delete");
}

static void client_bind(struct load_client *c, const char *queue, const char *exchange) {
    amqp_queue_bind(c->connection, CHANNEL, amqp_cstring_bytes(queue), amqp_cstring_bytes(exchange), amqp_empty_bytes,
                    amqp_empty_table);
    check(amqp_get_rpc_reply(c->connection), "queue.bind");
}

static void client_confirm_select(struct load_client *c) {
    amqp_confirm_select(c->connection, CHANNEL);
    check(amqp_get_rpc_reply(c->connection), "confirm.select");
}

static void client_consume(struct load_client *c, const char *queue) {
    if (!c->consumes && c->o->prefetch) {
        amqp_basic_qos(c->connection, CHANNEL, 0, (uint16_t)c->o->prefetch, 0);
        check(amqp_get_rpc_reply(c->connection), "basic.qos");
    }
    c->consumes = true;
    amqp_basic_consume(c->connection, CHANNEL, amqp_cstring_bytes(queue), amqp_cstring_bytes(queue), 0,
                       c->o->prefetch == 0, 0, amqp_empty_table);
    check(amqp_get_rpc_reply(c->connection), "basic.consume");
}

static void client_publish(struct load_client *c, const struct load_route *route, uint64_t stamp) {
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG,
                                          .delivery_mode = c->o->transient ? TRANSIENT : PERSISTENT};
    amqp_bytes_t body = {c->o->bytes, c->body};
    if (c->o->bytes >= LOAD_STAMP) memcpy(c->body, &stamp, LOAD_STAMP);
    cork(c, 1);
    check_status(amqp_basic_publish(c->connection, CHANNEL, amqp_cstring_bytes(route->exchange),
                                    amqp_cstring_bytes(route->key), 0, 0, &properties, body),
                 "basic.publish");
}

static void client_ack(struct load_client *c, uint64_t tag, bool multiple) {
    cork(c, 1);
    check_status(amqp_basic_ack(c->connection, CHANNEL, tag, multiple), "basic.ack");
}

static void on_method(struct load_client *c, const amqp_method_t *m, struct load_event *out) {
    refuse(m, "the broker closed");
    if (m->id == AMQP_BASIC_DELIVER_METHOD) {
        c->tag = ((amqp_basic_deliver_t *)m->decoded)->delivery_tag;
    } else if (m->id == AMQP_BASIC_ACK_METHOD) {
        amqp_basic_ack_t *a = m->decoded;
        *out = (struct load_event){LOAD_CONFIRM, a->delivery_tag, 0, a->multiple};
    } else if (m->id == AMQP_BASIC_NACK_METHOD) {
        amqp_basic_nack_t *n = m->decoded;
        *out = (struct load_event){LOAD_REFUSED, n->delivery_tag, 0, n->multiple};
    }
}

static void on_body(struct load_client *c, amqp_bytes_t part, struct load_event *out) {
    if (!c->body_begun && part.len >= LOAD_STAMP) memcpy(&c->stamp, part.bytes, LOAD_STAMP);
    c->body_begun = true;
    c->body_left -= part.len;
    if (c->body_left == 0) *out = (struct load_event){LOAD_DELIVERY, c->tag, c->stamp, false};
}

static void on_frame(struct load_client *c, const amqp_frame_t *f, struct load_event *out) {
    if (f->frame_type == AMQP_FRAME_METHOD) {
        on_method(c, &f->payload.method, out);
    } else if (f->frame_type == AMQP_FRAME_HEADER) {
        c->body_left = f->payload.properties.body_size;
        c->stamp = 0;
        c->body_begun = false;
        if (c->body_left == 0) *out = (struct load_event){LOAD_DELIVERY, c->tag, 0, false};
    } else if (f->frame_type == AMQP_FRAME_BODY) {
        on_body(c, f->payload.body_fragment, out);
    }
}

static void client_next(struct load_client *c, uint32_t wait_ms, struct load_event *out) {
    struct timeval wait = {wait_ms / 1000, wait_ms % 1000 * 1000};
    out->kind = LOAD_NOTHING;
    if (wait_ms) client_flush(c);
    while (out->kind == LOAD_NOTHING) {
        amqp_frame_t f;
        amqp_maybe_release_buffers(c->connection);
        int status = amqp_simple_wait_frame_noblock(c->connection, &f, &wait);
        if (status == AMQP_STATUS_TIMEOUT) return;
        check_status(status, "the connection broke");
        on_frame(c, &f, out);
    }
}

static const struct load_driver load_driver_rabbitmq_c = {
    .name = "rabbitmq-c",
    .open = client_open,
    .close = client_close,
    .declare_queue = client_declare_queue,
    .ready = client_ready,
    .purge = client_purge,
    .delete_queue = client_delete_queue,
    .declare_fanout = client_declare_fanout,
    .delete_exchange = client_delete_exchange,
    .bind = client_bind,
    .confirm_select = client_confirm_select,
    .consume = client_consume,
    .publish = client_publish,
    .ack = client_ack,
    .flush = client_flush,
    .next = client_next,
};

int main(int argc, char **argv) {
    struct load_options o;
    int code =
        load_options_parse(&o, argc, argv,
                           "usage: amqp_load --url URL [options]\n\n"
                           "Publishes and consumes by rabbitmq-c; the options are those of `barid bench amqp`.\n");
    if (code >= 0) return code;
    if (!o.url) load_url_parse(&o, "amqp://127.0.0.1");
    return load_run(&o, &load_driver_rabbitmq_c);
}
