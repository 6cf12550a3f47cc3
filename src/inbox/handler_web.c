// The webhook: one POST an event, several at once, connections kept open. libcurl's multi interface on the loop: curl
// says which sockets it waits for and for how long, the loop tells it what happened.
//
//   take ─> call ─> 2xx                                        taken
//                   408, 425, 429, 5xx, broken off, too late   refused: an attempt; Retry-After is a floor
//                   any other answer                           never: parked at once (3xx too: nothing is followed)
//                   never got there (refused, unresolved, TLS) away: no attempt
#include "inbox/handler_internal.h"
#include "inbox/web_headers.h"

#include "base/assert.h"
#include "base/crash.h"
#include "base/list.h"
#include "base/local_server.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define CONCURRENCY        16
#define CONCURRENCY_MAX    1024
#define CONNECT_TIMEOUT_MS 10000
#define ANSWER_KEPT        160 // bytes of an answer's body, for the reason
#define ANSWER_MAX         (1u << 20)
#define RETRY_AFTER_MAX_S  3600

struct web_handler {
    struct handler base; // first
    CURLM *multi;
    struct list calls;
    struct loop_timer timer;
    uint32_t retry_floor_ms; // of the answer at hand
};

struct call {
    struct list_node node;
    struct web_handler *h;
    struct handler_event event;
    CURL *easy;
    struct curl_slist *headers;
    char why[CURL_ERROR_SIZE];
    char answer[ANSWER_KEPT + 1];
    size_t answer_n, answer_bytes;
};

struct poller {
    uv_poll_t poll; // first
    struct web_handler *h;
    curl_socket_t socket;
};

// ---- the end of a call

static void call_free(struct call *c) {
    list_remove(&c->node);
    curl_multi_remove_handle(c->h->multi, c->easy);
    curl_easy_cleanup(c->easy);
    curl_slist_free_all(c->headers);
    free(c);
}

static bool never_got_there(const struct call *c, CURLcode code) {
    curl_off_t connected = 0;
    curl_easy_getinfo(c->easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE: return true;
    case CURLE_OPERATION_TIMEDOUT: return connected == 0;
    default: return false;
    }
}

static bool may_go_better(long status) { return status == 408 || status == 425 || status == 429 || status >= 500; }

// The first line of what was answered, for a person.
static void say_status(const struct call *c, long status, char *out, size_t size) {
    size_t n = 0;
    while (n < c->answer_n && (unsigned char)c->answer[n] >= ' ' && (unsigned char)c->answer[n] < 0x7f) n++;
    snprintf(out, size, "HTTP %ld%s%.*s", status, n ? ": " : "", (int)n, c->answer);
}

static enum outbox_taken judge(struct call *c, CURLcode code, char *why, size_t size) {
    long status = 0;
    curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    if (code == CURLE_WRITE_ERROR && c->answer_bytes > ANSWER_MAX) code = CURLE_OK; // long, but an answer
    if (code != CURLE_OK) {
        snprintf(why, size, "%s", c->why[0] ? c->why : curl_easy_strerror(code));
        return never_got_there(c, code) ? TAKEN_AWAY : TAKEN_REFUSED;
    }
    if (status >= 200 && status <= 299) {
        why[0] = '\0';
        return TAKEN;
    }
    say_status(c, status, why, size);
    return may_go_better(status) ? TAKEN_REFUSED : TAKEN_NEVER;
}

static void call_ended(struct call *c, CURLcode code) {
    char why[ERROR_TEXT_MAX];
    curl_off_t retry_after = 0;
    enum outbox_taken how = judge(c, code, why, sizeof why);
    if (how == TAKEN_REFUSED) curl_easy_getinfo(c->easy, CURLINFO_RETRY_AFTER, &retry_after);
    if (retry_after > RETRY_AFTER_MAX_S) retry_after = RETRY_AFTER_MAX_S;
    struct web_handler *h = c->h;
    outbox_taken_fn *done = c->event.done;
    void *arg = c->event.arg;
    call_free(c);
    if (how == TAKEN) crash_point("receive.handled");
    h->retry_floor_ms = (uint32_t)retry_after * 1000;
    done(arg, how, why);
    h->retry_floor_ms = 0;
}

static uint32_t retry_floor_ms(void *sink) { return ((struct web_handler *)sink)->retry_floor_ms; }

static void take_answers(struct web_handler *h) {
    int left;
    CURLMsg *m;
    while ((m = curl_multi_info_read(h->multi, &left)) != NULL) {
        struct call *c;
        if (m->msg != CURLMSG_DONE) continue;
        CURLcode code = m->data.result; // the message goes with its handle
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &c);
        call_ended(c, code);
    }
}

// ---- curl on the loop

static void act(struct web_handler *h, curl_socket_t socket, int what) {
    int running;
    curl_multi_socket_action(h->multi, socket, what, &running);
    take_answers(h);
}

static void on_ready(uv_poll_t *poll, int status, int events) {
    struct poller *p = (struct poller *)poll;
    int what = status < 0 ? CURL_CSELECT_ERR : 0;
    if (events & UV_READABLE) what |= CURL_CSELECT_IN;
    if (events & UV_WRITABLE) what |= CURL_CSELECT_OUT;
    act(p->h, p->socket, what);
}

static void on_timer(struct loop_timer *t) { act(LIST_ITEM(t, struct web_handler, timer), CURL_SOCKET_TIMEOUT, 0); }

static int set_timer(CURLM *multi, long timeout_ms, void *arg) {
    struct web_handler *h = arg;
    if (timeout_ms < 0) loop_timer_stop(h->base.options.loop, &h->timer);
    else loop_timer_start(h->base.options.loop, &h->timer, (uint64_t)timeout_ms);
    return 0;
}

static void on_closed(uv_handle_t *handle) { free(handle); }

static struct poller *poller_new(struct web_handler *h, curl_socket_t socket) {
    struct poller *p = calloc(1, sizeof *p);
    if (!p) die("no memory for a connection");
    p->h = h;
    p->socket = socket;
    if (uv_poll_init(loop_uv(h->base.options.loop), &p->poll, socket) != 0) die("a connection cannot be waited for");
    curl_multi_assign(h->multi, socket, p);
    return p;
}

static int watch(CURL *easy, curl_socket_t socket, int what, void *arg, void *of_socket) {
    struct web_handler *h = arg;
    struct poller *p = of_socket;
    if (what == CURL_POLL_REMOVE) {
        if (!p) return 0;
        curl_multi_assign(h->multi, socket, NULL);
        uv_poll_stop(&p->poll);
        uv_close((uv_handle_t *)&p->poll, on_closed);
        return 0;
    }
    if (!p) p = poller_new(h, socket);
    int events = (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0);
    uv_poll_start(&p->poll, events, on_ready);
    return 0;
}

// ---- a call

static size_t on_body(char *data, size_t one, size_t n, void *arg) {
    struct call *c = arg;
    size_t room = ANSWER_KEPT - c->answer_n, some = n < room ? n : room;
    memcpy(c->answer + c->answer_n, data, some);
    c->answer_n += some;
    c->answer_bytes += n;
    return c->answer_bytes <= ANSWER_MAX ? n : CURL_WRITEFUNC_ERROR;
}

static void set_up(struct call *c) {
    const struct handler_options *o = &c->h->base.options;
    const struct bus_event *event = &c->event.item.event;
    const char *authorities = getenv("SSL_CERT_FILE");
    CURL *easy = c->easy;
    curl_easy_setopt(easy, CURLOPT_URL, o->spec);
    if (server_is_local(o->spec)) curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    if (authorities && *authorities) curl_easy_setopt(easy, CURLOPT_CAINFO, authorities);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "barid");
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)o->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                     o->timeout_ms < CONNECT_TIMEOUT_MS ? (long)o->timeout_ms : (long)CONNECT_TIMEOUT_MS);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, c->why);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, c);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, c);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)event->payload_length);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, event->payload);
    c->headers = web_headers(&c->event.item);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, c->headers);
}

static void take(void *sink, const struct outbox_item *item, outbox_taken_fn *done, void *arg) {
    struct web_handler *h = sink;
    struct call *c = calloc(1, sizeof *c);
    if (!c || !(c->easy = curl_easy_init())) die("no memory for a call");
    c->h = h;
    c->event = (struct handler_event){*item, done, arg};
    set_up(c);
    list_push_back(&h->calls, &c->node);
    CURLMcode code = curl_multi_add_handle(h->multi, c->easy); // which asks for the timer: it begins on the loop
    ASSERT(code == CURLM_OK);
}

// ---- the outside

static void web_free(struct handler *base) {
    struct web_handler *h = (struct web_handler *)base;
    struct list_node *n;
    while ((n = list_first(&h->calls)) != NULL) {
        struct call *c = LIST_ITEM(n, struct call, node);
        struct handler_event event = c->event;
        call_free(c);
        event.done(event.arg, TAKEN_AWAY, "the handler is closed");
    }
    curl_multi_cleanup(h->multi); // closes what is kept open, and says so through watch()
    loop_timer_stop(h->base.options.loop, &h->timer);
    free(h);
}

static const struct handler_vtable vtable = {.check = handler_ready_soon, .free = web_free};

static enum err check_url(const char *url, struct error *e) {
    CURLU *u = curl_url();
    if (!u) return error_set(e, ERR_NOMEM, "no memory for a URL");
    CURLUcode code = curl_url_set(u, CURLUPART_URL, url, 0);
    curl_url_cleanup(u);
    return code == CURLUE_OK ? ERR_OK : error_set(e, ERR_INVALID, "the handler's URL: %s", curl_url_strerror(code));
}

static void global_init(void) {
    if (curl_global_init(CURL_GLOBAL_DEFAULT)) die("libcurl does not start");
}

enum err handler_web_open(struct handler **out, const struct handler_options *o, struct error *e) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, global_init);
    enum err err = check_url(o->spec, e);
    if (err != ERR_OK) return err;
    if (o->concurrency > CONCURRENCY_MAX) return error_set(e, ERR_INVALID, "at most %d calls at once", CONCURRENCY_MAX);
    struct web_handler *h = calloc(1, sizeof *h);
    if (!h || !(h->multi = curl_multi_init())) die("no memory for the webhook");
    handler_init(&h->base, &vtable, o);
    uint32_t at_once = o->concurrency ? o->concurrency : CONCURRENCY;
    h->base.sink = (struct outbox_sink){
        .take = take, .sink = h, .name = "handler", .at_once = at_once, .retry_floor_ms = retry_floor_ms};
    h->timer.fn = on_timer;
    list_init(&h->calls);
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, watch);
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_MAXCONNECTS, (long)at_once);
    *out = &h->base;
    return ERR_OK;
}
