// The rig of the commands' tests: what commands_test.h promises, and paper stand-ins for connection.c, channel.c and
// access.
#include "amqp/commands_test.h"

#include "amqp/claims.h"

#include <inttypes.h>

static struct house *the_house;
static const char *refused;
static struct buf table;

// ---- in words

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...) {
    size_t at = strlen(the_house->said);
    va_list args;
    va_start(args, format);
    vsnprintf(the_house->said + at, sizeof the_house->said - at, format, args);
    va_end(args);
}

static int client_of(const struct connection *c) { return (int)(c - the_house->connection); }

// Names made by the broker are told by their kind alone.
static const char *text(struct view v) {
    static char texts[4][300];
    static int at;
    char *out = texts[at++ % 4];
    snprintf(out, sizeof texts[0], "%.*s", (int)v.length, (const char *)v.data);
    static const char *const made[] = {"amq.gen-", "amq.ctag-", "amq.rabbitmq.reply-to."};
    for (size_t i = 0; i < 3; i++)
        if (strncmp(out, made[i], strlen(made[i])) == 0) {
            assert_int_equal(strlen(out), strlen(made[i]) + 22);
            out[strlen(made[i])] = '\0';
        }
    return out;
}

static void say_method(const struct connection *c, const struct method *m) {
    say("%s%s", client_of(c) == 0 ? "" : "other ", method_name(m->id));
    switch (m->id) {
    case METHOD_QUEUE_DECLARE_OK:
        say(" %s %u %u", text(m->queue_declare_ok.queue), m->queue_declare_ok.message_count,
            m->queue_declare_ok.consumer_count);
        break;
    case METHOD_QUEUE_DELETE_OK: say(" %u", m->queue_delete_ok.message_count); break;
    case METHOD_QUEUE_PURGE_OK: say(" %u", m->queue_purge_ok.message_count); break;
    case METHOD_BASIC_CONSUME_OK: say(" %s", text(m->basic_consume_ok.consumer_tag)); break;
    case METHOD_BASIC_CANCEL_OK: say(" %s", text(m->basic_cancel_ok.consumer_tag)); break;
    case METHOD_BASIC_CANCEL: say(" %s", text(m->basic_cancel.consumer_tag)); break;
    case METHOD_BASIC_ACK:
        say(" %" PRIu64 "%s", m->basic_ack.delivery_tag, m->basic_ack.multiple ? " multiple" : "");
        break;
    case METHOD_BASIC_NACK:
        say(" %" PRIu64 "%s", m->basic_nack.delivery_tag, m->basic_nack.multiple ? " multiple" : "");
        break;
    case METHOD_BASIC_DELIVER:
        say(" %s %" PRIu64 "%s '%s' '%s'", text(m->basic_deliver.consumer_tag), m->basic_deliver.delivery_tag,
            m->basic_deliver.redelivered ? " again" : "", text(m->basic_deliver.exchange),
            text(m->basic_deliver.routing_key));
        break;
    case METHOD_BASIC_GET_OK:
        say(" %" PRIu64 "%s '%s' '%s' %u", m->basic_get_ok.delivery_tag, m->basic_get_ok.redelivered ? " again" : "",
            text(m->basic_get_ok.exchange), text(m->basic_get_ok.routing_key), m->basic_get_ok.message_count);
        break;
    case METHOD_BASIC_RETURN:
        say(" %u %s '%s' '%s'", m->basic_return.reply_code, text(m->basic_return.reply_text),
            text(m->basic_return.exchange), text(m->basic_return.routing_key));
        break;
    default: break;
    }
    if (!method_has_content(m->id)) say("\n");
}

static void say_header_field(struct view name, const struct field *f) {
    int64_t integer;
    say(" %s", text(name));
    if (f->type == FIELD_STRING) say("=%s", text(f->bytes));
    else if (field_integer(f, &integer)) say("=%" PRId64, integer);
}

static void say_properties(struct view v) {
    struct properties p;
    struct view name;
    struct field f;
    assert_true(properties_decode(&p, v.data, v.length));
    if ((p.flags & PROPERTY_REPLY_TO) != 0) say(" reply-to=%s", text(p.reply_to));
    if ((p.flags & PROPERTY_CORRELATION_ID) != 0) say(" correlation-id=%s", text(p.correlation_id));
    struct table_cursor cursor = table_begin(p.headers);
    while (table_next(&cursor, &name, &f)) say_header_field(name, &f);
}

static void say_frame(const struct connection *c, const struct frame *f) {
    struct method m;
    struct content_header header;
    switch (f->type) {
    case FRAME_METHOD:
        assert_int_equal(method_decode(f->payload, &m), METHOD_DONE);
        say_method(c, &m);
        break;
    case FRAME_HEADER:
        assert_int_equal(content_header_decode(f->payload, &header), METHOD_DONE);
        say_properties(header.properties);
        say(" | ");
        if (header.body_size == 0) say("\n");
        break;
    case FRAME_BODY: say("%.*s\n", (int)f->payload.length, (const char *)f->payload.data); break;
    case FRAME_HEARTBEAT: fail();
    }
}

static void read_out(struct connection *c) {
    struct frame f;
    size_t at = 0, consumed;
    while (at < c->out.len) {
        assert_int_equal(frame_decode(c->out.data + at, c->out.len - at, c->frame_max, &f, &consumed), FRAME_DONE);
        say_frame(c, &f);
        at += consumed;
    }
    buf_clear(&c->out);
}

// ---- the connection's and the channel's part

void connection_wrote(struct connection *c) { read_out(c); }
void connection_pause(struct connection *c) { c->pauses++; }

void connection_resume(struct connection *c) {
    assert_true(c->pauses > 0);
    c->pauses--;
}

void connection_error(struct connection *c, enum reply code, uint32_t method, const char *format, ...) {
    char why[512];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    if (c->closing) return;
    c->closing = true;
    say("%sconnection %d %s: %s\n", client_of(c) == 0 ? "" : "other ", code, method_name(method), why);
}

void channel_error(struct channel *ch, enum reply code, uint32_t method, const char *format, ...) {
    char why[512];
    va_list args;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    if (ch->close_sent) return;
    ch->close_sent = true;
    say("%schannel %d %s: %s\n", client_of(ch->connection) == 0 ? "" : "other ", code, method_name(method), why);
}

void channel_fail(struct channel *ch, uint32_t method, const struct error *e) {
    channel_error(ch, e->code == ERR_LOCKED ? REPLY_RESOURCE_LOCKED : REPLY_PRECONDITION_FAILED, method, "%s", e->text);
}

void channel_send(struct channel *ch, const struct method *m) {
    method_encode(&ch->connection->out, ch->number, m);
    connection_wrote(ch->connection);
}

struct waiting {
    struct channel *channel;
    struct buf frame;
};

static void now_durable(void *arg, enum publish_result result) {
    struct waiting *w = arg;
    assert_int_equal(result, PUBLISH_OK);
    if (!w->channel->closed) {
        struct connection *c = w->channel->connection;
        buf_add(&c->out, w->frame.data, w->frame.len);
        connection_wrote(c);
        connection_resume(c);
    }
    channel_release(w->channel);
    buf_release(&w->frame);
    free(w);
}

void channel_send_durable(struct channel *ch, const struct method *m) {
    struct waiting *w = calloc(1, sizeof *w);
    w->channel = ch;
    if (!engine_when_durable(ch->connection->amqp->o.engine, now_durable, w)) {
        free(w);
        channel_send(ch, m);
        return;
    }
    buf_init(&w->frame, 1 << 20);
    method_encode(&w->frame, ch->number, m);
    channel_hold(ch);
    connection_pause(ch->connection);
}

void channel_send_claimed(struct channel *ch, const struct method *m, struct view properties, const uint8_t *ticket,
                          uint64_t length) {
    say_method(ch->connection, m);
    say(" claimed %.4s %" PRIu64 "\n", (const char *)ticket, length);
}

void channel_wrote_behind(struct channel *ch) { fail(); }

void claims_hold(struct claims *c, const uint8_t *ticket) { ((struct house *)c)->holds++; }
void claims_release(struct claims *c, const uint8_t *ticket) { ((struct house *)c)->holds--; }

void channel_hold(struct channel *ch) { ch->references++; }

void channel_release(struct channel *ch) {
    assert_true(ch->references > 0);
    if (--ch->references == 0) free(ch);
}

bool access_may(struct access *a, const struct access_user *u, const char *vhost, enum access_kind kind,
                const char *resource) {
    static const char *const kinds[] = {"configure", "write", "read"};
    char what[300];
    snprintf(what, sizeof what, "%s %s", kinds[kind], resource);
    return refused == NULL || strcmp(what, refused) != 0;
}

// ---- the house

static void channel_open(struct house *h, int client) {
    struct channel *ch = calloc(1, sizeof *ch);
    ch->connection = &h->connection[client];
    ch->number = 1;
    ch->references = 1;
    h->channel[client] = ch;
    channel_basic_init(ch);
}

static void channel_end(struct house *h, int client) {
    struct channel *ch = h->channel[client];
    channel_tx_release(ch);
    channel_basic_release(ch);
    ch->closed = true;
    channel_release(ch);
}

int house_setup(void **state) {
    struct house *h = calloc(1, sizeof *h);
    struct error e;
    the_house = h;
    h->rig = rig_new();
    assert_int_equal(loop_new(&h->loop, &e), ERR_OK);
    h->amqp.o = (struct amqp_options){
        .loop = h->loop, .io = io_sim_io(h->rig->sim), .engine = h->rig->engine, .claims = (struct claims *)h};
    list_init(&h->amqp.confirming);
    list_init(&h->amqp.holding);
    map_init(&h->amqp.reply_queues, 1);
    h->user = (struct access_user){.name = "alice", .tags = ""};
    for (int i = 0; i < 2; i++) {
        struct connection *c = &h->connection[i];
        *c = (struct connection){.amqp = &h->amqp, .frame_max = 4096, .vhost = h->rig->vhost, .user = &h->user};
        c->user_name = "alice";
        c->client_cancel_notify = true;
        buf_init(&c->out, 1 << 22);
        channel_open(h, i);
    }
    *state = h;
    return 0;
}

int house_teardown(void **state) {
    struct house *h = *state;
    for (int i = 0; i < 2; i++) channel_end(h, i);
    engine_delete_owned(h->rig->engine, &h->connection[0]);
    engine_delete_owned(h->rig->engine, &h->connection[1]);
    rig_run(h->rig);
    for (int i = 0; i < 2; i++) buf_release(&h->connection[i].out);
    assert_int_equal(h->amqp.stats.consumers, 0);
    map_release(&h->amqp.reply_queues);
    rig_free(h->rig);
    loop_free(h->loop);
    buf_release(&table);
    refused = NULL;
    free(h);
    return 0;
}

void house_refuse(struct house *h, const char *what) { refused = what; }

void house_run(struct house *h) {
    rig_run(h->rig);
    publishes_retry(&h->amqp);
    rig_run(h->rig);
    confirms_flush(&h->amqp);
}

void house_expect(struct house *h, const char *lines) {
    house_run(h);
    assert_string_equal(h->said, lines);
    h->said[0] = '\0';
}

static void dispatch(struct channel *ch, const struct command *c) {
    switch (METHOD_CLASS(c->method->id)) {
    case 40: on_exchange(ch, c); break;
    case 50: on_queue(ch, c); break;
    case 60: on_basic(ch, c); break;
    case 85: on_confirm(ch, c); break;
    case 90: on_tx(ch, c); break;
    default: fail();
    }
}

void house_do(struct house *h, int client, struct method m) {
    dispatch(h->channel[client], &(struct command){.method = &m});
}

void house_publish(struct house *h, int client, struct basic_publish p, const struct properties *properties,
                   const char *body) {
    struct method m = {.id = METHOD_BASIC_PUBLISH, .basic_publish = p};
    struct buf encoded;
    struct properties none = {0};
    buf_init(&encoded, 1 << 20);
    properties_encode(&encoded, properties == NULL ? &none : properties);
    const struct command c = {.method = &m,
                              .properties = {encoded.data, (uint32_t)encoded.len},
                              .body = {(const uint8_t *)body, (uint32_t)strlen(body)}};
    dispatch(h->channel[client], &c);
    buf_release(&encoded);
}

void house_again(struct house *h, int client) {
    channel_end(h, client);
    h->connection[client].closing = false;
    channel_open(h, client);
}

void house_fill(struct house *h) {
    struct io_sim_stats stats;
    io_sim_stats(h->rig->sim, &stats);
    io_sim_capacity(h->rig->sim, stats.used_bytes);
    rig_advance(h->rig, 1100);
}

void house_make_room(struct house *h) {
    io_sim_capacity(h->rig->sim, UINT64_C(1) << 40);
    rig_advance(h->rig, 1100);
}

struct buf *house_table(struct house *h) {
    buf_release(&table);
    buf_init(&table, 1 << 20);
    return &table;
}

struct view house_table_done(struct house *h) {
    return (struct view){table.data, (uint32_t)table.len};
}
