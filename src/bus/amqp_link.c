#include "bus/amqp_link.h"

#include "base/assert.h"
#include "base/backoff.h"
#include "base/io.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/waker.h"

#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_SECONDS   5
#define ANSWER_SECONDS    20
#define HEARTBEAT_SECONDS 20
#define FRAME_MAX         131072
#define WAIT_MS           (HEARTBEAT_SECONDS * 1000 / 4)
#define FRAMES_AT_ONCE    512
#define WHY_MAX           512
#define STEADY_NS         10000000000ull

struct amqp_link {
    struct loop *loop;
    struct io *io;
    const struct amqp_settings *settings;
    const struct amqp_role *r;
    void *role;
    pthread_t thread;
    struct waker waker;
    struct loop_post post;

    // The thread's.
    amqp_connection_state_t c;
    uint64_t up_at_ns;
    uint32_t failures;
    char failed[WHY_MAX], logged[WHY_MAX];

    // Under the lock.
    pthread_mutex_t lock;
    enum amqp_link_state state;
    char why[WHY_MAX];
    int fd;
    bool stopping, ended, posted;
    bool freed; // with a post under way
};

// ---- what both sides ask

void amqp_link_lock(struct amqp_link *l) { pthread_mutex_lock(&l->lock); }
void amqp_link_unlock(struct amqp_link *l) { pthread_mutex_unlock(&l->lock); }
enum amqp_link_state amqp_link_state(struct amqp_link *l) { return l->state; }
const char *amqp_link_why(struct amqp_link *l) { return l->why; }
void amqp_link_wake(struct amqp_link *l) { waker_wake(&l->waker); }
amqp_connection_state_t amqp_link_connection(struct amqp_link *l) { return l->c; }
void amqp_link_proved(struct amqp_link *l) { l->failures = 0; }

void amqp_link_post(struct amqp_link *l) {
    if (l->posted) return;
    l->posted = true;
    loop_post(l->loop, &l->post);
}

static bool stopping(struct amqp_link *l) {
    amqp_link_lock(l);
    bool is = l->stopping;
    amqp_link_unlock(l);
    return is;
}

static void set_state(struct amqp_link *l, enum amqp_link_state state, const char *why) {
    amqp_link_lock(l);
    l->state = state;
    snprintf(l->why, sizeof l->why, "%s", why);
    amqp_link_post(l);
    amqp_link_unlock(l);
}

// ---- failing

bool amqp_link_fail(struct amqp_link *l, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(l->failed, sizeof l->failed, format, args);
    va_end(args);
    return false;
}

bool amqp_link_sent(struct amqp_link *l, int status) {
    return status == AMQP_STATUS_OK || amqp_link_fail(l, "the connection broke: %s", amqp_error_string2(status));
}

static void describe(const amqp_method_t *m, char *out, size_t size) {
    uint16_t code = 0;
    amqp_bytes_t text = {0};
    if (m->id == AMQP_CHANNEL_CLOSE_METHOD) {
        const amqp_channel_close_t *close = m->decoded;
        code = close->reply_code, text = close->reply_text;
    } else if (m->id == AMQP_CONNECTION_CLOSE_METHOD) {
        const amqp_connection_close_t *close = m->decoded;
        code = close->reply_code, text = close->reply_text;
    }
    snprintf(out, size, "%u %.*s", code, (int)text.len, (const char *)text.bytes);
}

static bool replied(struct amqp_link *l, amqp_rpc_reply_t reply, const char *doing) {
    char text[WHY_MAX - 64];
    if (reply.reply_type == AMQP_RESPONSE_NORMAL) return true;
    if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION) {
        describe(&reply.reply, text, sizeof text);
        return amqp_link_fail(l, "%s: the broker says %s", doing, text);
    }
    return amqp_link_fail(l, "%s: %s", doing, amqp_error_string2(reply.library_error));
}

bool amqp_link_replied(struct amqp_link *l, const char *doing) { return replied(l, amqp_get_rpc_reply(l->c), doing); }

// ---- what roles declare

static bool open_channel(struct amqp_link *l) {
    amqp_channel_open(l->c, AMQP_CHANNEL);
    return amqp_link_replied(l, "opening a channel");
}

static bool reopen_channel(struct amqp_link *l) {
    amqp_channel_close_ok_t ok = {0};
    return amqp_link_sent(l, amqp_send_method(l->c, AMQP_CHANNEL, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok)) &&
           open_channel(l);
}

struct amqp_queue_wanted {
    const char *name;
    amqp_table_t arguments;
};

// What exists otherwise than we would make it, or what we may not make, is taken as it is, if it is there.
static bool declare(struct amqp_link *l, void (*send)(struct amqp_link *l, const void *arg, bool passive),
                    const void *arg, const char *doing) {
    send(l, arg, false);
    amqp_rpc_reply_t reply = amqp_get_rpc_reply(l->c);
    if (reply.reply_type != AMQP_RESPONSE_SERVER_EXCEPTION || reply.reply.id != AMQP_CHANNEL_CLOSE_METHOD)
        return replied(l, reply, doing);
    if (!reopen_channel(l)) return false;
    send(l, arg, true);
    return amqp_link_replied(l, doing);
}

static void send_queue(struct amqp_link *l, const void *arg, bool passive) {
    const struct amqp_queue_wanted *q = arg;
    amqp_queue_declare(l->c, AMQP_CHANNEL, amqp_cstring_bytes(q->name), passive, 1, 0, 0, q->arguments);
}

bool amqp_link_queue(struct amqp_link *l, const char *name, amqp_table_t arguments) {
    struct amqp_queue_wanted wanted = {name, arguments};
    return declare(l, send_queue, &wanted, "declaring the queue");
}

static void send_exchange(struct amqp_link *l, const void *arg, bool passive) {
    amqp_exchange_declare(l->c, AMQP_CHANNEL, amqp_cstring_bytes(arg), amqp_cstring_bytes("topic"), passive, 1, 0, 0,
                          amqp_empty_table);
}

static bool look_for_exchange(struct amqp_link *l, const struct amqp_settings *s) {
    send_exchange(l, s->exchange, true);
    amqp_rpc_reply_t reply = amqp_get_rpc_reply(l->c);
    bool missing = reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION && reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD &&
                   ((const amqp_channel_close_t *)reply.reply.decoded)->reply_code == AMQP_NOT_FOUND;
    if (missing) return amqp_link_fail(l, "there is no exchange '%s' at %s", s->exchange, s->place);
    return replied(l, reply, "looking for the exchange");
}

bool amqp_link_exchange(struct amqp_link *l, const struct amqp_settings *s) {
    if (s->exchange[0] == 0) return true;
    return s->named ? look_for_exchange(l, s) : declare(l, send_exchange, s->exchange, "declaring the exchange");
}

// ---- connecting

static amqp_socket_t *new_socket(struct amqp_link *l) {
    if (!l->settings->info.ssl) return amqp_tcp_socket_new(l->c);
    amqp_socket_t *s = amqp_ssl_socket_new(l->c);
    if (s) SSL_CTX_set_default_verify_paths(amqp_ssl_socket_get_context(s)); // SSL_CERT_FILE, or the system's
    return s;
}

static bool open_socket(struct amqp_link *l) {
    const struct amqp_connection_info *info = &l->settings->info;
    struct timeval patience = {.tv_sec = CONNECT_SECONDS}, answers = {.tv_sec = ANSWER_SECONDS};
    l->c = amqp_new_connection();
    amqp_socket_t *s = l->c ? new_socket(l) : NULL;
    if (!s) return amqp_link_fail(l, "out of memory");
    amqp_set_handshake_timeout(l->c, &patience);
    amqp_set_rpc_timeout(l->c, &answers);
    int status = amqp_socket_open_noblock(s, info->host, info->port, &patience);
    if (status) return amqp_link_fail(l, "no connection to %s: %s", l->settings->place, amqp_error_string2(status));
    amqp_link_lock(l);
    l->fd = amqp_get_sockfd(l->c);
    amqp_link_unlock(l);
    return true;
}

#define YES(name)                                                                                                      \
    {                                                                                                                  \
        .key = {sizeof(name) - 1, (void *)(name)}, .value = {.kind = AMQP_FIELD_KIND_BOOLEAN, .value.boolean = 1 }     \
    }

static bool login(struct amqp_link *l) {
    const struct amqp_connection_info *info = &l->settings->info;
    amqp_table_entry_t can[] = {YES("publisher_confirms"), YES("basic.nack"), YES("connection.blocked"),
                                YES("consumer_cancel_notify"), YES("authentication_failure_close")};
    amqp_table_entry_t entries[] = {
        {.key = amqp_cstring_bytes("capabilities"),
         .value = {.kind = AMQP_FIELD_KIND_TABLE, .value.table = {sizeof can / sizeof *can, can}}},
        {.key = amqp_cstring_bytes("connection_name"),
         .value = {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes("barid bus")}},
    };
    amqp_table_t properties = {sizeof entries / sizeof *entries, entries};
    amqp_rpc_reply_t reply = amqp_login_with_properties(l->c, info->vhost, 0, FRAME_MAX, HEARTBEAT_SECONDS, &properties,
                                                        AMQP_SASL_METHOD_PLAIN, info->user, info->password);
    return replied(l, reply, "logging in");
}

static bool connect_it(struct amqp_link *l) {
    return open_socket(l) && login(l) && open_channel(l) && l->r->ready(l->role);
}

static void disconnect(struct amqp_link *l) {
    amqp_link_lock(l);
    l->fd = -1;
    amqp_link_unlock(l);
    if (l->c) amqp_destroy_connection(l->c);
    l->c = NULL;
}

// ---- frames

// As rabbitmq-c wants it answered; the connection is then given up.
static bool on_close(struct amqp_link *l, const amqp_frame_t *f) {
    char text[WHY_MAX - 64];
    describe(&f->payload.method, text, sizeof text);
    if (f->payload.method.id == AMQP_CONNECTION_CLOSE_METHOD) {
        amqp_connection_close_ok_t ok = {0};
        amqp_send_method(l->c, 0, AMQP_CONNECTION_CLOSE_OK_METHOD, &ok);
        return amqp_link_fail(l, "the broker closed the connection: %s", text);
    }
    const amqp_channel_close_t *close = f->payload.method.decoded;
    if (l->r->closed) l->r->closed(l->role, close->reply_code, text);
    amqp_channel_close_ok_t ok = {0};
    amqp_send_method(l->c, f->channel, AMQP_CHANNEL_CLOSE_OK_METHOD, &ok);
    return amqp_link_fail(l, "the broker closed the channel: %s", text);
}

static void on_blocked(struct amqp_link *l, const amqp_connection_blocked_t *m) {
    char why[WHY_MAX];
    snprintf(why, sizeof why, "the broker takes nothing now: %.*s", (int)m->reason.len, (const char *)m->reason.bytes);
    log_event(LOG_WARN, "bus_blocked", "broker", l->settings->place, "why", why, NULL);
    set_state(l, AMQP_BLOCKED, why);
    if (l->r->blocked) l->r->blocked(l->role, why);
}

static bool on_frame(struct amqp_link *l, const amqp_frame_t *f) {
    if (f->frame_type != AMQP_FRAME_METHOD) return l->r->frame(l->role, f);
    switch (f->payload.method.id) {
    case AMQP_CONNECTION_CLOSE_METHOD:
    case AMQP_CHANNEL_CLOSE_METHOD: return on_close(l, f);
    case AMQP_CONNECTION_BLOCKED_METHOD: on_blocked(l, f->payload.method.decoded); return true;
    case AMQP_CONNECTION_UNBLOCKED_METHOD: set_state(l, AMQP_UP, ""); return true;
    default: return l->r->frame(l->role, f);
    }
}

// What has come; `more` when there may be more of it.
static bool read_frames(struct amqp_link *l, bool *more) {
    struct timeval now = {0};
    for (int i = 0; i < FRAMES_AT_ONCE; i++) {
        amqp_frame_t f;
        int status = amqp_simple_wait_frame_noblock(l->c, &f, &now);
        if (status == AMQP_STATUS_TIMEOUT) return true;
        if (!amqp_link_sent(l, status) || !on_frame(l, &f)) return false;
        amqp_maybe_release_buffers_on_channel(l->c, f.channel);
    }
    *more = true;
    return true;
}

// ---- the thread

// Until the connection is lost, or the link is stopped and nothing is under way.
static void serve(struct amqp_link *l) {
    uint64_t stop_at = 0;
    for (;;) {
        enum amqp_work work = l->r->work(l->role);
        bool more = work == AMQP_WORK_MORE;
        if (work == AMQP_WORK_LOST || !read_frames(l, &more)) return;
        if (stopping(l)) {
            uint64_t now = io_monotonic_ns(l->io);
            if (!stop_at) stop_at = now + AMQP_STOP_MS * 1000000ull;
            if (l->r->idle(l->role) || now > stop_at) {
                amqp_connection_close(l->c, AMQP_REPLY_SUCCESS);
                return;
            }
        }
        if (!more) waker_wait(&l->waker, amqp_get_sockfd(l->c), stop_at ? 100 : WAIT_MS);
    }
}

static void note_up(struct amqp_link *l) {
    if (l->logged[0]) log_event(LOG_INFO, "bus_back", "broker", l->settings->place, NULL);
    l->logged[0] = 0;
    l->up_at_ns = io_monotonic_ns(l->io);
    set_state(l, AMQP_UP, "");
}

static void note_away(struct amqp_link *l) {
    if (strcmp(l->logged, l->failed) != 0)
        log_event(LOG_WARN, "bus_away", "broker", l->settings->place, "why", l->failed, NULL);
    snprintf(l->logged, sizeof l->logged, "%s", l->failed);
    set_state(l, AMQP_AWAY, l->failed);
    l->r->lost(l->role, l->failed);
}

static void *run(void *arg) {
    struct amqp_link *l = arg;
    const struct backoff backoff = {.base_ms = 500, .cap_ms = 10000, .multiplier = 2.0};
    while (!stopping(l)) {
        l->up_at_ns = 0;
        amqp_link_fail(l, "closed");
        if (connect_it(l)) {
            note_up(l);
            serve(l);
        }
        disconnect(l);
        if (stopping(l)) break;
        note_away(l);
        if (l->up_at_ns && io_monotonic_ns(l->io) - l->up_at_ns > STEADY_NS) l->failures = 0;
        uint32_t wait = backoff_delay(&backoff, l->io, l->failures++, 50);
        uint64_t until = io_monotonic_ns(l->io) + wait * 1000000ull;
        for (uint64_t now; !stopping(l) && (now = io_monotonic_ns(l->io)) < until;)
            waker_wait(&l->waker, -1, (uint32_t)((until - now) / 1000000) + 1);
    }
    amqp_link_lock(l);
    l->state = AMQP_AWAY;
    snprintf(l->why, sizeof l->why, "the bus is closing");
    amqp_link_unlock(l);
    l->r->lost(l->role, "the bus is closing");
    amqp_link_lock(l);
    l->ended = true;
    amqp_link_post(l);
    amqp_link_unlock(l);
    return NULL;
}

// ---- opening and closing

static void release(struct amqp_link *l) {
    pthread_mutex_destroy(&l->lock);
    waker_release(&l->waker);
    free(l);
}

// The role goes first: it may look at the link a last time.
static void finish(struct amqp_link *l) {
    l->r->post(l->role);
    l->r->ended(l->role);
    if (l->posted) l->freed = true;
    else release(l);
}

static void on_post(struct loop_post *p) {
    struct amqp_link *l = LIST_ITEM(p, struct amqp_link, post);
    amqp_link_lock(l);
    l->posted = false;
    bool ended = l->ended, freed = l->freed;
    amqp_link_unlock(l);
    if (freed) release(l);
    else if (ended) {
        pthread_join(l->thread, NULL);
        finish(l);
    } else l->r->post(l->role);
}

void amqp_link_stop(struct amqp_link *l) {
    amqp_link_lock(l);
    l->stopping = true;
    amqp_link_unlock(l);
    amqp_link_wake(l);
}

// A thread that is stuck in its socket is cut off once its time is over.
void amqp_link_end(struct amqp_link *l) {
    amqp_link_stop(l);
    int64_t until = io_wall_ms(l->io) + AMQP_STOP_MS + 1000;
    struct timespec at = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
    if (pthread_timedjoin_np(l->thread, NULL, &at) != 0) {
        amqp_link_lock(l);
        if (l->fd >= 0) waker_cut(l->fd);
        amqp_link_unlock(l);
        pthread_join(l->thread, NULL);
    }
    finish(l);
}

enum err amqp_link_open(struct amqp_link **out, struct loop *loop, struct io *io, const struct amqp_settings *s,
                        const struct amqp_role *r, void *role, struct error *e) {
    struct amqp_link *l = calloc(1, sizeof *l);
    if (!l) return error_set(e, ERR_NOMEM, "out of memory");
    l->loop = loop;
    l->io = io;
    l->settings = s;
    l->r = r;
    l->role = role;
    l->fd = -1;
    l->post.fn = on_post;
    snprintf(l->why, sizeof l->why, "connecting to %s", s->place);
    enum err code = waker_init(&l->waker, e);
    if (code) {
        free(l);
        return code;
    }
    pthread_mutex_init(&l->lock, NULL);
    *out = l;
    if (pthread_create(&l->thread, NULL, run, l) == 0) return ERR_OK;
    release(l);
    *out = NULL;
    return error_set(e, ERR_NOMEM, "no thread for the connection to %s", s->place);
}
