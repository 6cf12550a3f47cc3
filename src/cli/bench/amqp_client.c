// barid's own AMQP client for loads: blocking, over the broker's sans-IO codec, made to cost little.
//
// A message is the same bytes every time but for its stamp, so publishing is one copy of what was encoded once a route.
// Bytes gather in `out` and go out in large writes; `in` is read in large reads and taken apart in place.
#include "cli/bench/load.h"

#include "amqp/codec.h"
#include "base/assert.h"
#include "base/buf.h"
#include "wire/bytes.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHANNEL    1
#define FRAME_MAX  131072
#define IN_BYTES   (1 << 20)
#define OUT_MAX    (80 << 20) // one message, at most, above the point where it is written
#define OUT_ENOUGH (64 << 10)
#define PERSISTENT 2
#define TRANSIENT  1
#define FRAME_HEAD 7

struct ready_message {
    const struct load_route *route;
    struct buf bytes;
    size_t stamp_at; // 0: it is too short for one
};

struct load_client {
    const struct load_options *o;
    int fd;
    struct buf out;
    uint8_t *in;
    size_t at, len;
    struct ready_message *messages; // by route: few, and met in turn
    uint32_t message_count, message_next;
    uint64_t tag, stamp, body_left; // of the delivery that is coming in
    bool body_begun, consumes;
};

// ---- bytes

static void write_out(struct load_client *c) {
    for (size_t done = 0; done < c->out.len;) {
        ssize_t n = send(c->fd, c->out.data + done, c->out.len - done, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR) die("load: the broker's connection is broken: %s", strerror(errno));
        if (n > 0) done += (size_t)n;
    }
    buf_clear(&c->out);
}

static void write_enough(struct load_client *c) {
    if (!buf_ok(&c->out)) die("load: a message does not fit");
    if (c->out.len >= OUT_ENOUGH) write_out(c);
}

// More bytes into `in`; false: none came in time.
static bool read_more(struct load_client *c, int wait_ms) {
    if (c->at > 0) {
        memmove(c->in, c->in + c->at, c->len - c->at);
        c->len -= c->at;
        c->at = 0;
    }
    if (wait_ms != 0) {
        write_out(c);
        struct pollfd p = {.fd = c->fd, .events = POLLIN};
        if (poll(&p, 1, wait_ms) <= 0) return false;
    }
    ssize_t n = recv(c->fd, c->in + c->len, IN_BYTES - c->len, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (n <= 0) die("load: the broker closed the connection%s%s", n < 0 ? ": " : "", n < 0 ? strerror(errno) : "");
    c->len += (size_t)n;
    return true;
}

static bool next_frame(struct load_client *c, int wait_ms, struct frame *out) {
    for (;;) {
        size_t consumed;
        enum frame_result r = frame_decode(c->in + c->at, c->len - c->at, FRAME_MAX, out, &consumed);
        if (r == FRAME_DONE) {
            c->at += consumed;
            return true;
        }
        if (r != FRAME_MORE) die("load: what the broker sent is no frame");
        if (!read_more(c, wait_ms)) return false;
    }
}

static struct method method_of(const struct frame *f) {
    struct method m;
    if (method_decode(f->payload, &m) != METHOD_DONE) die("load: what the broker sent is no method");
    if (m.id == METHOD_CONNECTION_CLOSE)
        die("load: the broker said %u %.*s", m.connection_close.reply_code, (int)m.connection_close.reply_text.length,
            (const char *)m.connection_close.reply_text.data);
    if (m.id == METHOD_CHANNEL_CLOSE)
        die("load: the broker said %u %.*s", m.channel_close.reply_code, (int)m.channel_close.reply_text.length,
            (const char *)m.channel_close.reply_text.data);
    return m;
}

// ---- calls

static struct method await(struct load_client *c, enum method_id id) {
    for (;;) {
        struct frame f;
        if (!next_frame(c, 120000, &f)) die("load: no %s from the broker", method_name(id));
        if (f.type != FRAME_METHOD) continue;
        struct method m = method_of(&f);
        if (m.id == id) return m;
    }
}

static struct method call(struct load_client *c, uint16_t channel, const struct method *m, enum method_id answer) {
    method_encode(&c->out, channel, m);
    if (!buf_ok(&c->out)) die("load: a name is too long");
    write_out(c);
    return await(c, answer);
}

static void log_in(struct load_client *c) {
    char response[512];
    const struct load_options *o = c->o;
    static const uint8_t protocol[8] = {'A', 'M', 'Q', 'P', 0, 0, 9, 1};
    buf_add(&c->out, protocol, sizeof protocol);
    write_out(c);
    await(c, METHOD_CONNECTION_START);
    int n = snprintf(response, sizeof response, "%c%s%c%s", 0, o->user, 0, o->password);
    struct method ok = {.id = METHOD_CONNECTION_START_OK};
    ok.connection_start_ok.mechanism = view_of("PLAIN");
    ok.connection_start_ok.response = (struct view){(uint8_t *)response, (uint32_t)n};
    ok.connection_start_ok.locale = view_of("en_US");
    struct method tune = call(c, 0, &ok, METHOD_CONNECTION_TUNE);
    uint32_t frame_max = tune.connection_tune.frame_max;
    if (frame_max != 0 && frame_max < FRAME_MAX) die("load: the broker wants frames of at most %u bytes", frame_max);
    tune.id = METHOD_CONNECTION_TUNE_OK;
    tune.connection_tune_ok =
        (struct connection_tune_ok){.channel_max = tune.connection_tune.channel_max, .frame_max = FRAME_MAX};
    method_encode(&c->out, 0, &tune);
    struct method open = {.id = METHOD_CONNECTION_OPEN, .connection_open.virtual_host = view_of(o->vhost)};
    call(c, 0, &open, METHOD_CONNECTION_OPEN_OK);
    struct method channel = {.id = METHOD_CHANNEL_OPEN};
    call(c, CHANNEL, &channel, METHOD_CHANNEL_OPEN_OK);
}

static int connect_to(const struct load_options *o) {
    char port[8];
    struct addrinfo *found, hints = {.ai_socktype = SOCK_STREAM};
    snprintf(port, sizeof port, "%u", o->port);
    int rc = getaddrinfo(o->host, port, &hints, &found), fd = -1, one = 1;
    if (rc != 0) die("load: %s: %s", o->host, gai_strerror(rc));
    for (struct addrinfo *a = found; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(found);
    if (fd < 0) die("load: cannot connect to %s:%u: %s", o->host, o->port, strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static struct load_client *client_open(const struct load_options *o) {
    struct load_client *c = calloc(1, sizeof *c);
    if (!c || !(c->in = malloc(IN_BYTES))) die("load: out of memory");
    c->o = o;
    c->fd = connect_to(o);
    buf_init(&c->out, OUT_MAX);
    log_in(c);
    return c;
}

static void client_close(struct load_client *c) {
    write_out(c);
    close(c->fd);
    for (uint32_t i = 0; i < c->message_count; i++) buf_release(&c->messages[i].bytes);
    free(c->messages);
    buf_release(&c->out);
    free(c->in);
    free(c);
}

static void client_declare_queue(struct load_client *c, const char *queue) {
    struct buf arguments;
    buf_init(&arguments, 1024);
    if (c->o->queue_type) table_put_text(&arguments, "x-queue-type", c->o->queue_type);
    struct method m = {.id = METHOD_QUEUE_DECLARE};
    m.queue_declare.queue = view_of(queue);
    m.queue_declare.durable = !c->o->transient;
    m.queue_declare.arguments = (struct view){arguments.data, (uint32_t)arguments.len};
    call(c, CHANNEL, &m, METHOD_QUEUE_DECLARE_OK);
    buf_release(&arguments);
}

static uint64_t client_ready(struct load_client *c, const char *queue) {
    struct method m = {.id = METHOD_QUEUE_DECLARE, .queue_declare = {.queue = view_of(queue), .passive = true}};
    return call(c, CHANNEL, &m, METHOD_QUEUE_DECLARE_OK).queue_declare_ok.message_count;
}

static void client_purge(struct load_client *c, const char *queue) {
    struct method m = {.id = METHOD_QUEUE_PURGE, .queue_purge.queue = view_of(queue)};
    call(c, CHANNEL, &m, METHOD_QUEUE_PURGE_OK);
}

static void client_delete_queue(struct load_client *c, const char *queue) {
    struct method m = {.id = METHOD_QUEUE_DELETE, .queue_delete.queue = view_of(queue)};
    call(c, CHANNEL, &m, METHOD_QUEUE_DELETE_OK);
}

static void client_declare_fanout(struct load_client *c, const char *exchange) {
    struct method m = {.id = METHOD_EXCHANGE_DECLARE};
    m.exchange_declare.exchange = view_of(exchange);
    m.exchange_declare.type = view_of("fanout");
    m.exchange_declare.durable = !c->o->transient;
    call(c, CHANNEL, &m, METHOD_EXCHANGE_DECLARE_OK);
}

static void client_delete_exchange(struct load_client *c, const char *exchange) {
    struct method m = {.id = METHOD_EXCHANGE_DELETE, .exchange_delete.exchange = view_of(exchange)};
    call(c, CHANNEL, &m, METHOD_EXCHANGE_DELETE_OK);
}

static void client_bind(struct load_client *c, const char *queue, const char *exchange) {
    struct method m = {.id = METHOD_QUEUE_BIND};
    m.queue_bind.queue = view_of(queue);
    m.queue_bind.exchange = view_of(exchange);
    m.queue_bind.routing_key = view_of("");
    call(c, CHANNEL, &m, METHOD_QUEUE_BIND_OK);
}

static void client_confirm_select(struct load_client *c) {
    struct method m = {.id = METHOD_CONFIRM_SELECT};
    call(c, CHANNEL, &m, METHOD_CONFIRM_SELECT_OK);
}

// Without waiting for an answer: messages of queues consumed before may come first.
static void client_consume(struct load_client *c, const char *queue) {
    struct method qos = {.id = METHOD_BASIC_QOS, .basic_qos.prefetch_count = (uint16_t)c->o->prefetch};
    struct method consume = {.id = METHOD_BASIC_CONSUME};
    consume.basic_consume.queue = consume.basic_consume.consumer_tag = view_of(queue);
    consume.basic_consume.no_ack = c->o->prefetch == 0;
    consume.basic_consume.no_wait = true;
    if (!c->consumes && c->o->prefetch) call(c, CHANNEL, &qos, METHOD_BASIC_QOS_OK);
    c->consumes = true;
    method_encode(&c->out, CHANNEL, &consume);
    write_out(c);
}

// ---- the fast part

static struct ready_message *encode_message(struct load_client *c, const struct load_route *route) {
    struct ready_message *grown = realloc(c->messages, (c->message_count + 1) * sizeof *grown);
    uint8_t properties[3] = {0x10, 0, c->o->transient ? TRANSIENT : PERSISTENT}; // delivery-mode alone
    uint8_t *body = calloc(c->o->bytes + 1, 1);
    if (!grown || !body) die("load: out of memory");
    c->messages = grown;
    struct ready_message *m = &grown[c->message_count++];
    *m = (struct ready_message){.route = route};
    struct method publish = {.id = METHOD_BASIC_PUBLISH};
    publish.basic_publish.exchange = view_of(route->exchange);
    publish.basic_publish.routing_key = view_of(route->key);
    memset(body, 'x', c->o->bytes);
    buf_init(&m->bytes, OUT_MAX);
    content_head_encode(&m->bytes, CHANNEL, &publish, (struct view){properties, sizeof properties}, c->o->bytes);
    if (c->o->bytes >= LOAD_STAMP) m->stamp_at = m->bytes.len + FRAME_HEAD;
    buf_clear(&m->bytes);
    content_encode(&m->bytes, CHANNEL, &publish, (struct view){properties, sizeof properties},
                   (struct view){body, c->o->bytes}, FRAME_MAX);
    if (!buf_ok(&m->bytes)) die("load: a message does not fit");
    free(body);
    return m;
}

static struct ready_message *message_for(struct load_client *c, const struct load_route *route) {
    for (uint32_t i = 0; i < c->message_count; i++) {
        uint32_t n = c->message_next;
        c->message_next = n + 1 < c->message_count ? n + 1 : 0;
        if (c->messages[n].route == route) return &c->messages[n];
    }
    return encode_message(c, route);
}

static void client_publish(struct load_client *c, const struct load_route *route, uint64_t stamp) {
    struct ready_message *m = message_for(c, route);
    if (m->stamp_at) memcpy(m->bytes.data + m->stamp_at, &stamp, LOAD_STAMP);
    buf_add(&c->out, m->bytes.data, m->bytes.len);
    write_enough(c);
}

static void client_ack(struct load_client *c, uint64_t tag, bool multiple) {
    struct method m = {.id = METHOD_BASIC_ACK, .basic_ack = {.delivery_tag = tag, .multiple = multiple}};
    method_encode(&c->out, CHANNEL, &m);
    write_enough(c);
}

static void on_method(struct load_client *c, const struct frame *f, struct load_event *out) {
    struct method m = method_of(f);
    if (m.id == METHOD_BASIC_DELIVER) c->tag = m.basic_deliver.delivery_tag;
    else if (m.id == METHOD_BASIC_ACK)
        *out = (struct load_event){LOAD_CONFIRM, m.basic_ack.delivery_tag, 0, m.basic_ack.multiple};
    else if (m.id == METHOD_BASIC_NACK)
        *out = (struct load_event){LOAD_REFUSED, m.basic_nack.delivery_tag, 0, m.basic_nack.multiple};
}

static void on_header(struct load_client *c, const struct frame *f, struct load_event *out) {
    struct content_header h;
    if (content_header_decode(f->payload, &h) != METHOD_DONE) die("load: what the broker sent is no content");
    c->body_left = h.body_size;
    c->stamp = 0;
    c->body_begun = false;
    if (h.body_size == 0) *out = (struct load_event){LOAD_DELIVERY, c->tag, 0, false};
}

static void on_body(struct load_client *c, const struct frame *f, struct load_event *out) {
    if (f->payload.length > c->body_left) die("load: a body is longer than its header said");
    if (!c->body_begun && f->payload.length >= LOAD_STAMP) memcpy(&c->stamp, f->payload.data, LOAD_STAMP);
    c->body_begun = true;
    c->body_left -= f->payload.length;
    if (c->body_left == 0) *out = (struct load_event){LOAD_DELIVERY, c->tag, c->stamp, false};
}

static void client_next(struct load_client *c, uint32_t wait_ms, struct load_event *out) {
    struct frame f;
    out->kind = LOAD_NOTHING;
    while (out->kind == LOAD_NOTHING && next_frame(c, (int)wait_ms, &f)) {
        if (f.type == FRAME_METHOD) on_method(c, &f, out);
        else if (f.type == FRAME_HEADER) on_header(c, &f, out);
        else if (f.type == FRAME_BODY) on_body(c, &f, out);
    }
}

const struct load_driver load_driver_barid = {
    .name = "barid",
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
    .flush = write_out,
    .next = client_next,
};
