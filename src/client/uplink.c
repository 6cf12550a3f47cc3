#include "client/uplink.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/crash.h"
#include "base/io.h"
#include "base/list.h"
#include "base/loop.h"

#include <libwebsockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAME_MAX         (2u << 20)
#define PING_SECONDS      25
#define HANGUP_SECONDS    60
#define CONNECT_SECONDS   10
#define CLOSE_MS          20
#define CLOSE_TURNED_AWAY 4401
#define CLOSE_REPLACED    4409

struct out_frame {
    struct list_node node;
    const char *crash;
    size_t len;
    unsigned char bytes[]; // LWS_PRE of headroom, then the frame
};

struct request {
    struct list_node node;
    json_int_t ref;
    uint64_t due_ms;
    uplink_answer_fn *done;
    void *arg;
};

struct uplink {
    struct loop *loop;
    struct io *io;
    struct uplink_events events;
    struct lws_context *context;
    struct lws *wsi;
    char *token;
    char host[256];
    int port;
    bool tls, open, ending, freeing;
    uint32_t attempts;
    struct loop_timer reconnect, timeouts;
    struct list out;      // struct out_frame
    struct list requests; // struct request, oldest first
    size_t request_count;
    json_int_t last_ref;
    struct buf in;
    char why[160];
    struct error turned_away;
};

static const lws_retry_bo_t idle_policy = {.secs_since_valid_ping = PING_SECONDS,
                                           .secs_since_valid_hangup = HANGUP_SECONDS};

// ---- requests -------------------------------------------------------------------------------------------

static void answer_request(struct uplink *u, struct request *r, struct answer *a) {
    list_remove(&r->node);
    u->request_count--;
    r->done(r->arg, a);
    answer_release(a);
    free(r);
}

static void fail_requests(struct uplink *u, const char *why) {
    for (struct list_node *n; (n = list_first(&u->requests));) {
        struct answer a;
        answer_none(&a, ERR_UNAVAILABLE, why);
        answer_request(u, LIST_ITEM(n, struct request, node), &a);
    }
}

static void arm_timeouts(struct uplink *u) {
    struct list_node *n = list_first(&u->requests);
    if (!n) {
        loop_timer_stop(u->loop, &u->timeouts);
        return;
    }
    uint64_t due = LIST_ITEM(n, struct request, node)->due_ms, now = loop_now_ms(u->loop);
    loop_timer_start(u->loop, &u->timeouts, due > now ? due - now : 0);
}

static void on_timeouts(struct loop_timer *t) {
    struct uplink *u = LIST_ITEM(t, struct uplink, timeouts);
    uint64_t now = loop_now_ms(u->loop);
    for (struct list_node *n; (n = list_first(&u->requests));) {
        struct request *r = LIST_ITEM(n, struct request, node);
        if (r->due_ms > now) break;
        struct answer a;
        answer_none(&a, ERR_TIMEOUT, "no answer in time");
        answer_request(u, r, &a);
    }
    arm_timeouts(u);
}

static void on_answer(struct uplink *u, json_t *frame) {
    json_int_t ref = json_integer_value(json_object_get(frame, "ref"));
    LIST_EACH(&u->requests, n) {
        struct request *r = LIST_ITEM(n, struct request, node);
        if (r->ref != ref) continue;
        uint64_t seconds = member_count(frame, "retry_after");
        if (!seconds) seconds = member_count(json_object_get(frame, "error"), "retry_after");
        struct answer a;
        answer_set(&a, (int)json_integer_value(json_object_get(frame, "status")), json_incref(frame),
                   seconds < 3600 ? (uint32_t)seconds * 1000 : 3600000);
        answer_request(u, r, &a);
        arm_timeouts(u);
        return;
    }
}

// ---- writing --------------------------------------------------------------------------------------------

static void put(struct uplink *u, json_t *frame, const char *crash) {
    size_t n = json_dumpb(frame, NULL, 0, JSON_COMPACT);
    struct out_frame *f = calloc(1, sizeof *f + LWS_PRE + n);
    if (!f || n == 0) die("out of memory");
    f->len = json_dumpb(frame, (char *)f->bytes + LWS_PRE, n, JSON_COMPACT);
    ASSERT(f->len == n);
    f->crash = crash;
    json_decref(frame);
    list_push_back(&u->out, &f->node);
    lws_callback_on_writable(u->wsi);
}

void uplink_say(struct uplink *u, json_t *frame) {
    if (u->open) put(u, frame, NULL);
    else json_decref(frame);
}

bool uplink_request(struct uplink *u, json_t *frame, const char *crash, uplink_answer_fn *done, void *arg) {
    if (!u->open || u->request_count >= UPLINK_REQUESTS_MAX) {
        json_decref(frame);
        return false;
    }
    struct request *r = calloc(1, sizeof *r);
    if (!r) die("out of memory");
    *r = (struct request){
        .ref = ++u->last_ref, .due_ms = loop_now_ms(u->loop) + ANSWER_TIMEOUT_MS, .done = done, .arg = arg};
    list_push_back(&u->requests, &r->node);
    u->request_count++;
    if (u->request_count == 1) arm_timeouts(u);
    json_object_set_new(frame, "ref", json_integer(r->ref));
    put(u, frame, crash);
    return true;
}

bool uplink_busy(const struct uplink *u) { return !list_empty(&u->out) || !list_empty(&u->requests); }

static int on_writable(struct uplink *u) {
    struct list_node *n = list_pop_front(&u->out);
    if (!n) return 0;
    struct out_frame *f = LIST_ITEM(n, struct out_frame, node);
    int written = lws_write(u->wsi, f->bytes + LWS_PRE, f->len, LWS_WRITE_TEXT);
    bool ok = written >= (int)f->len;
    if (ok && f->crash) crash_point(f->crash);
    free(f);
    if (ok && !list_empty(&u->out)) lws_callback_on_writable(u->wsi);
    return ok ? 0 : -1;
}

// ---- reading --------------------------------------------------------------------------------------------

static void turned_away(struct uplink *u, const json_t *frame) {
    struct answer a;
    answer_set(&a, (int)json_integer_value(json_object_get(frame, "status")), json_deep_copy(frame), 0);
    if (answer_verdict(&a) == VERDICT_LOGIN) u->turned_away = a.error;
    answer_release(&a);
}

static int on_frame(struct uplink *u) {
    json_t *frame = json_loadb((const char *)u->in.data, u->in.len, 0, NULL);
    buf_clear(&u->in);
    if (!json_is_object(frame)) {
        json_decref(frame);
        snprintf(u->why, sizeof u->why, "the service sent something that is no JSON object");
        return -1;
    }
    const char *type = member_text(frame, "type", "");
    bool answer = !strcmp(type, "answer");
    if (answer && !strcmp(member_text(frame, "to", ""), "hello")) turned_away(u, frame);
    else if (answer) on_answer(u, frame);
    else {
        u->attempts = 0; // a live service: the next break is a new one
        u->events.frame(u->events.arg, frame);
    }
    json_decref(frame);
    return 0;
}

static int on_receive(struct uplink *u, const void *data, size_t n) {
    buf_add(&u->in, data, n);
    if (!buf_ok(&u->in)) {
        snprintf(u->why, sizeof u->why, "the service sent a frame that is too large");
        return -1;
    }
    if (lws_remaining_packet_payload(u->wsi) || !lws_is_final_fragment(u->wsi)) return 0;
    return on_frame(u);
}

// ---- up and down ----------------------------------------------------------------------------------------

static void on_open(struct uplink *u) {
    u->open = true;
    u->why[0] = 0;
    buf_clear(&u->in);
    put(u,
        json_pack("{s:s, s:s, s:I}", "type", "hello", "token", u->token, "after",
                  (json_int_t)u->events.cursor(u->events.arg)),
        NULL);
    u->events.opened(u->events.arg);
}

static void on_down(struct uplink *u, const char *why) {
    if (u->wsi == NULL && loop_timer_active(&u->reconnect)) return;
    u->wsi = NULL;
    u->open = false;
    for (struct list_node *n; (n = list_pop_front(&u->out));) free(LIST_ITEM(n, struct out_frame, node));
    if (u->freeing) return;
    if (u->why[0]) why = u->why;
    struct backoff backoff = BACKOFF_DEFAULT;
    uint32_t delay = backoff_delay(&backoff, u->io, u->attempts++, 0);
    fail_requests(u, "the connection to the service broke");
    arm_timeouts(u);
    u->events.closed(u->events.arg, why, delay);
    if (u->turned_away.code) u->events.ended(u->events.arg, &u->turned_away);
    else loop_timer_start(u->loop, &u->reconnect, delay);
}

static void on_peer_close(struct uplink *u, const unsigned char *data, size_t n) {
    int code = n >= 2 ? data[0] << 8 | data[1] : 0;
    snprintf(u->why, sizeof u->why, "closed by the service: %.*s", n > 2 ? (int)(n - 2) : 0,
             n > 2 ? (const char *)data + 2 : "");
    bool replaced = code == CLOSE_REPLACED || strstr(u->why, "replaced");
    if (replaced) error_set(&u->turned_away, ERR_LOCKED, "another program listens as this device now");
    else if ((code == CLOSE_TURNED_AWAY || strstr(u->why, "logged_out")) && !u->turned_away.code)
        error_set(&u->turned_away, ERR_UNAUTHORIZED, "not logged in any more");
}

static int on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len) {
    struct uplink *u = lws_get_opaque_user_data(wsi);
    if (!u) return 0;
    switch (reason) {
    case LWS_CALLBACK_CLIENT_ESTABLISHED: on_open(u); return 0;
    case LWS_CALLBACK_CLIENT_RECEIVE: return on_receive(u, in, len);
    case LWS_CALLBACK_CLIENT_WRITEABLE: return on_writable(u);
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE: on_peer_close(u, in, len); return 0;
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR: on_down(u, in ? (const char *)in : "cannot connect"); return 0;
    case LWS_CALLBACK_CLIENT_CLOSED: on_down(u, "the connection broke"); return 0;
    default: return 0;
    }
}

static void connect_now(struct loop_timer *t) {
    struct uplink *u = LIST_ITEM(t, struct uplink, reconnect);
    char host[300];
    snprintf(host, sizeof host, "%s:%d", u->host, u->port);
    struct lws_client_connect_info info = {
        .context = u->context,
        .address = u->host,
        .port = u->port,
        .path = "/events",
        .host = host,
        .protocol = "barid.v1",
        .ssl_connection = u->tls ? LCCSCF_USE_SSL : 0,
        .opaque_user_data = u,
        .pwsi = &u->wsi,
        .retry_and_idle_policy = &idle_policy,
        .ietf_version_or_minus_one = -1,
    };
    u->why[0] = 0;
    if (!lws_client_connect_via_info(&info)) on_down(u, "cannot connect");
}

static void parse_server(struct uplink *u, const char *server) {
    u->tls = !strncmp(server, "https://", 8);
    u->port = u->tls ? 443 : 80;
    const char *host = strstr(server, "//") + 2, *end = host + strlen(host), *colon = strrchr(host, ':');
    const char *bracket = strrchr(host, ']'); // [::1]:8080
    if (colon && (!bracket || colon > bracket)) {
        u->port = (int)strtol(colon + 1, NULL, 10);
        end = colon;
    }
    if (*host == '[' && bracket) {
        host++;
        end = bracket;
    }
    snprintf(u->host, sizeof u->host, "%.*s", (int)(end - host), host);
}

static struct lws_context *make_context(struct uplink *u) {
    static const struct lws_protocols protocols[] = {
        {.name = "barid.v1", .callback = on_event, .rx_buffer_size = 65536}, {0}};
    void *loops[1] = {loop_uv(u->loop)};
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .protocols = protocols,
        .gid = (gid_t)-1,
        .uid = (uid_t)-1,
        .options = LWS_SERVER_OPTION_LIBUV | (u->tls ? LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT : 0),
        .foreign_loops = loops,
        .timeout_secs = CONNECT_SECONDS,
        .connect_timeout_secs = CONNECT_SECONDS,
        .fd_limit_per_thread = 64,
    };
    lws_set_log_level(0, NULL);
    return lws_create_context(&info);
}

enum err uplink_new(struct uplink **out, struct loop *loop, struct io *io, const char *server, const char *token,
                    const struct uplink_events *events, struct error *e) {
    struct uplink *u = calloc(1, sizeof *u);
    if (!u || !(u->token = strdup(token))) die("out of memory");
    u->loop = loop;
    u->io = io;
    u->events = *events;
    u->reconnect.fn = connect_now;
    u->timeouts.fn = on_timeouts;
    list_init(&u->out);
    list_init(&u->requests);
    buf_init(&u->in, FRAME_MAX);
    parse_server(u, server);
    u->context = make_context(u);
    if (!u->context) {
        uplink_free(u);
        return error_set(e, ERR_UNSUPPORTED, "libwebsockets does not start; is its libuv plugin installed?");
    }
    loop_timer_start(loop, &u->reconnect, 0);
    *out = u;
    return ERR_OK;
}

struct turn {
    struct loop_timer timer;
    struct loop *loop;
};

static void turn_over(struct loop_timer *t) { loop_stop(LIST_ITEM(t, struct turn, timer)->loop); }

// On a foreign loop libwebsockets closes in two steps, and between them the loop has to turn.
static void destroy_context(struct uplink *u) {
    struct turn turn = {.timer = {.fn = turn_over}, .loop = u->loop};
    lws_context_destroy(u->context);
    loop_timer_start(u->loop, &turn.timer, CLOSE_MS);
    loop_run(u->loop);
    lws_context_destroy(u->context);
}

void uplink_free(struct uplink *u) {
    if (!u) return;
    u->freeing = true;
    loop_timer_stop(u->loop, &u->reconnect);
    loop_timer_stop(u->loop, &u->timeouts);
    if (u->context) destroy_context(u);
    for (struct list_node *n; (n = list_pop_front(&u->out));) free(LIST_ITEM(n, struct out_frame, node));
    for (struct list_node *n; (n = list_pop_front(&u->requests));) free(LIST_ITEM(n, struct request, node));
    buf_release(&u->in);
    explicit_bzero(u->token, strlen(u->token));
    free(u->token);
    free(u);
}
