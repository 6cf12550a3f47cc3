// For tests: a connection without a socket, on the real engine on a simulated machine. Who may come in is decided by
// fakes of access.h below. Everything the server says is gathered in `said`.
#ifndef BARID_AMQP_DOOR_TEST_H
#define BARID_AMQP_DOOR_TEST_H

#include "engine/rig_test.h"

#include "amqp/core.h"

struct door {
    struct rig *rig;
    struct loop *loop;
    struct amqp *amqp;
    struct connection *c;
    struct buf unread, said;
    struct loop_post stop;
};

// ---- access, faked: guest with the password guest may enter "/" and "other"; nobody may enter "closed"

static const struct access_user fake_guest = {.name = "guest", .tags = "administrator"};
static struct {
    access_login_fn *done;
    void *arg;
    enum err answer;
    bool entry_lost; // guest may enter nothing any more
} fake;

void access_login(struct access *a, const char *user, const char *password, const char *address, bool from_loopback,
                  access_login_fn *done, void *arg) {
    fake.done = done;
    fake.arg = arg;
    fake.answer = strcmp(user, "guest") == 0 && strcmp(password, "guest") == 0 ? ERR_OK : ERR_UNAUTHORIZED;
}
const struct access_user *access_user_certified(struct access *a, const char *name, bool from_loopback) {
    return strcmp(name, "guest") == 0 && from_loopback ? &fake_guest : NULL;
}
const struct access_user *access_user_hold(const struct access_user *u) { return u; }
void access_user_release(const struct access_user *u) {}
bool access_vhost(struct access *a, const char *vhost) {
    return strcmp(vhost, "/") == 0 || strcmp(vhost, "other") == 0 || strcmp(vhost, "closed") == 0;
}
bool access_may_enter(struct access *a, const struct access_user *u, const char *vhost) {
    return !fake.entry_lost && strcmp(vhost, "closed") != 0;
}
bool access_may(struct access *a, const struct access_user *u, const char *vhost, enum access_kind kind,
                const char *resource) {
    return true;
}

// ---- the door

static void door_stop(struct loop_post *p) { loop_stop(LIST_ITEM(p, struct door, stop)->loop); }

static inline void door_connect(struct door *d) {
    struct connection_peer peer = {
        .peer_host = "127.0.0.1", .host = "127.0.0.1", .peer_port = 51234, .port = 5672, .loopback = true};
    d->c = connection_new(d->amqp, &peer);
    buf_clear(&d->unread);
    buf_clear(&d->said);
}

static inline struct door *door_new(const struct amqp_options *more) {
    struct door *d = calloc(1, sizeof *d);
    struct error e;
    memset(&fake, 0, sizeof fake);
    d->rig = rig_new();
    assert_int_equal(loop_new(&d->loop, &e), ERR_OK);
    struct amqp_options o = *more;
    o.loop = d->loop;
    o.io = io_sim_io(d->rig->sim);
    o.engine = d->rig->engine;
    assert_int_equal(amqp_new(&d->amqp, &o, &e), ERR_OK);
    d->stop.fn = door_stop;
    buf_init(&d->unread, SIZE_MAX);
    buf_init(&d->said, SIZE_MAX);
    door_connect(d);
    return d;
}

static inline void door_free(struct door *d) {
    amqp_free(d->amqp);
    rig_free(d->rig);
    loop_free(d->loop);
    buf_release(&d->unread);
    buf_release(&d->said);
    free(d);
}

// What the server has to say is taken from it.
static inline void door_listen(struct door *d) {
    size_t n = d->c->out.len;
    buf_add(&d->said, d->c->out.data, n);
    buf_clear(&d->c->out);
    connection_sent(d->c, n, 0);
}

// The log-in is answered, the disk has synced, the loop has made a pass.
static inline void door_pass(struct door *d) {
    if (fake.done) {
        access_login_fn *done = fake.done;
        fake.done = NULL;
        done(fake.arg, fake.answer, fake.answer == ERR_OK ? &fake_guest : NULL);
    }
    rig_run(d->rig);
    loop_post(d->loop, &d->stop);
    loop_run(d->loop);
    door_listen(d);
}

static inline void door_feed(struct door *d, const void *data, size_t n) {
    buf_add(&d->unread, data, n);
    connection_heard(d->c, n);
    for (size_t used = 1; used > 0 || (d->unread.len > 0 && !connection_reads(d->c));) {
        // A copy of its own each time: whatever leads into it afterwards is found by the sanitizers.
        uint8_t *piece = malloc(d->unread.len + 1);
        memcpy(piece, d->unread.data ? d->unread.data : piece, d->unread.len);
        used = connection_input(d->c, piece, d->unread.len);
        free(piece);
        buf_consume(&d->unread, used);
        door_pass(d);
        if (d->amqp->blocked) return;
    }
}

static inline void door_say(struct door *d, uint16_t channel, const struct method *m) {
    struct buf b;
    buf_init(&b, SIZE_MAX);
    method_encode(&b, channel, m);
    door_feed(d, b.data, b.len);
    buf_release(&b);
}
#define SAY(d, channel, ...) door_say(d, channel, &(struct method){__VA_ARGS__})

// The next thing the server said, taken away: a method by its name, with the texts that matter.
static inline const char *door_heard(struct door *d) {
    static char line[1024];
    struct frame f;
    struct method m;
    size_t used = 0;
    if (d->said.len == 0) return "";
    assert_int_equal(frame_decode(d->said.data, d->said.len, 0, &f, &used), FRAME_DONE);
    if (f.type == FRAME_HEARTBEAT) snprintf(line, sizeof line, "heartbeat");
    else if (f.type == FRAME_HEADER) snprintf(line, sizeof line, "%u header", f.channel);
    else if (f.type == FRAME_BODY)
        snprintf(line, sizeof line, "%u body %.*s", f.channel, (int)f.payload.length, (const char *)f.payload.data);
    else {
        assert_int_equal(method_decode(f.payload, &m), METHOD_DONE);
        struct view text = {0};
        unsigned code = 0;
        if (m.id == METHOD_CONNECTION_CLOSE) {
            text = m.connection_close.reply_text;
            code = m.connection_close.reply_code;
        } else if (m.id == METHOD_CHANNEL_CLOSE) {
            text = m.channel_close.reply_text;
            code = m.channel_close.reply_code;
        } else if (m.id == METHOD_CONNECTION_BLOCKED) text = m.connection_blocked.reason;
        int n = snprintf(line, sizeof line, "%u %s", f.channel, method_name(m.id));
        if (code) n += snprintf(line + n, sizeof line - (size_t)n, " %u", code);
        if (text.length)
            snprintf(line + n, sizeof line - (size_t)n, " %.*s", (int)text.length, (const char *)text.data);
    }
    buf_consume(&d->said, used);
    return line;
}
#define HEARD(d, text) assert_string_equal(door_heard(d), text)

// ---- a client's part, up to an open channel

#define PROTOCOL_HEADER "AMQP\0\0\x09\x01"

static inline void door_start_ok(struct door *d, const char *password, bool capable) {
    struct buf properties, response;
    buf_init(&properties, SIZE_MAX);
    buf_init(&response, SIZE_MAX);
    size_t table = table_put_table(&properties, "capabilities");
    table_put_bool(&properties, "authentication_failure_close", capable);
    table_put_bool(&properties, "connection.blocked", true);
    table_end(&properties, table);
    buf_add(&response, "\0guest", 7);
    buf_add_str(&response, password);
    SAY(d, 0, .id = METHOD_CONNECTION_START_OK,
        .connection_start_ok = {.client_properties = {properties.data, (uint32_t)properties.len},
                                .mechanism = view_of("PLAIN"),
                                .response = {response.data, (uint32_t)response.len},
                                .locale = view_of("en_US")});
    buf_release(&properties);
    buf_release(&response);
}

static inline void door_tune(struct door *d, uint16_t channel_max, uint32_t frame_max, uint16_t heartbeat) {
    door_feed(d, PROTOCOL_HEADER, 8);
    door_start_ok(d, "guest", true);
    HEARD(d, "0 connection.start");
    HEARD(d, "0 connection.tune");
    SAY(d, 0, .id = METHOD_CONNECTION_TUNE_OK,
        .connection_tune_ok = {.channel_max = channel_max, .frame_max = frame_max, .heartbeat = heartbeat});
}

static inline void door_open(struct door *d, const char *vhost) {
    door_tune(d, 0, 4096, 10);
    SAY(d, 0, .id = METHOD_CONNECTION_OPEN, .connection_open.virtual_host = view_of(vhost));
}

static inline void door_open_channel(struct door *d) {
    door_open(d, "/");
    HEARD(d, "0 connection.open-ok");
    SAY(d, 1, .id = METHOD_CHANNEL_OPEN);
    HEARD(d, "1 channel.open-ok");
}

#endif
