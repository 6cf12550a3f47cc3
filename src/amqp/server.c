// The door itself: what is there once. Listeners, the hook that ends every pass of the loop, the tick, draining.
//
// A pass of the loop: sockets are read and commands done; the engine is driven (the bus's hook, which was there before
// ours); then, here: publishes that had no room are tried again, confirms gathered in this pass are sent, channels that
// ended are released, and every connection with output is written. So what a pass brought goes out in that pass.
#include "amqp/server.h"

#include "base/io.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TICK_MS        500
#define DRAIN_LOOK_MS  20
#define INPUT_SIZE     (256u << 10)
#define INPUT_BESIDE   (64u << 10) // beside the largest frame
#define FRAME_MAX_MOST (64u << 20)
#define BODY_MAX_MOST  (UINT64_C(2) << 30)
#define CLAIM_MOST     (4u << 20) // larger ones the engine does not take

// ---- a pass

static void look_whether_blocked(struct amqp *a) {
    const char *reason = NULL;
    bool blocked = engine_blocked(a->o.engine, &reason);
    if (blocked == a->blocked) return;
    a->blocked = blocked;
    log_text(LOG_WARN, blocked ? "amqp_blocked" : "amqp_unblocked", "%s",
             blocked ? (reason ? reason : "no room") : "publishes are taken again");
    LIST_EACH(&a->connections, at) {
        connection_blocked(LIST_ITEM(at, struct connection, of_amqp), blocked ? (reason ? reason : "") : NULL);
    }
}

static struct connection *of_writing(struct list_node *n) {
    const struct connection_core *core = LIST_ITEM(n, struct connection_core, of_writing);
    return core->connection;
}

static void before_block(struct loop_idle *i) {
    struct amqp *a = LIST_ITEM(i, struct server, before_block)->amqp;
    struct list_node *n;
    look_whether_blocked(a);
    publishes_retry(a);
    confirms_flush(a);
    while ((n = list_first(&a->ending)) != NULL)
        connection_end(LIST_ITEM(n, struct connection_core, of_ending)->connection);
    while ((n = list_pop_front(&a->writing)) != NULL) {
        struct connection *c = of_writing(n);
        if (core_of(c)->socket) tcp_flush(core_of(c)->socket);
    }
    server_of(a)->pass++;
    while ((n = list_pop_front(&server_of(a)->waiting)) != NULL) tcp_next_turn(n);
}

static void on_wake(struct loop_post *p) {
    struct amqp *a = LIST_ITEM(p, struct amqp, wake);
    struct list now; // those that are resumed meanwhile wait for the next pass
    list_init(&now);
    struct list_node *n;
    while ((n = list_pop_front(&a->resuming)) != NULL) list_push_back(&now, n);
    while ((n = list_pop_front(&now)) != NULL) {
        struct connection *c = LIST_ITEM(n, struct connection_core, of_resuming)->connection;
        if (core_of(c)->socket) tcp_pump(core_of(c)->socket);
    }
}

void amqp_wake(struct amqp *a) {
    if (!a->wake.posted) loop_post(a->o.loop, &a->wake);
}

static void on_tick(struct loop_timer *t) {
    struct server *s = LIST_ITEM(t, struct server, tick);
    uint64_t now_ms = io_monotonic_ns(s->amqp->o.io) / 1000000;
    LIST_EACH(&s->amqp->connections, at) {
        struct connection *c = LIST_ITEM(at, struct connection, of_amqp);
        if (core_of(c)->socket) tcp_look(core_of(c)->socket);
        connection_tick(c, now_ms);
    }
    uploads_retry(s->amqp);
    loop_timer_start(s->amqp->o.loop, t, TICK_MS);
}

// ---- opening

static void set_defaults(struct amqp_options *o) {
    if (o->max_connections == 0) o->max_connections = 10000;
    if (o->frame_max == 0) o->frame_max = 131072;
    if (o->frame_max < FRAME_MIN_SIZE) o->frame_max = FRAME_MIN_SIZE;
    if (o->frame_max > FRAME_MAX_MOST) o->frame_max = FRAME_MAX_MOST;
    if (o->channel_max == 0) o->channel_max = 2047;
    if (o->heartbeat_s == 0) o->heartbeat_s = 60;
    if (o->max_consumers == 0) o->max_consumers = 10000;
    if (o->max_body == 0) o->max_body = UINT64_C(128) << 20;
    if (o->max_body > BODY_MAX_MOST) o->max_body = BODY_MAX_MOST;
    if (o->claim_bytes == 0) o->claim_bytes = 256 << 10;
    if (o->claim_bytes > CLAIM_MOST) o->claim_bytes = CLAIM_MOST;
    if (o->consumer_timeout_ms == 0) o->consumer_timeout_ms = 30 * 60 * 1000;
    if (o->handshake_timeout_ms == 0) o->handshake_timeout_ms = 10000;
}

static void init(struct amqp *a, const struct amqp_options *o) {
    a->o = *o;
    set_defaults(&a->o);
    list_init(&a->connections);
    list_init(&a->confirming);
    list_init(&a->holding);
    list_init(&a->uploading);
    list_init(&a->writing);
    list_init(&a->resuming);
    list_init(&a->ending);
    map_init(&a->reply_queues, io_random_u64(o->io));
    a->wake.fn = on_wake;
    char host[64] = "localhost";
    gethostname(host, sizeof host - 1);
    snprintf(a->cluster_name, sizeof a->cluster_name, "barid@%s", host);
}

static enum err open_listeners(struct amqp *a, struct error *e) {
    struct server *s = server_of(a);
    const struct amqp_options *o = &a->o;
    enum err code = ERR_OK;
    if (o->tls_address) {
        code = tls_context_new(&s->tls, o->tls_certificate, o->tls_key, o->tls_ca, e);
        s->encrypted = malloc(ENCRYPTED_SIZE);
        if (code == ERR_OK && !s->encrypted) code = error_set(e, ERR_NOMEM, "out of memory");
        if (code == ERR_OK) code = listener_new(&s->secure, s, o->tls_address, o->tls_port, true, e);
    }
    if (code == ERR_OK && o->address) code = listener_new(&s->plain, s, o->address, o->port, false, e);
    return code;
}

enum err amqp_new(struct amqp **out, const struct amqp_options *o, struct error *e) {
    struct amqp *a = calloc(1, sizeof *a);
    struct server *s = calloc(1, sizeof *s);
    if (!a || !s) {
        free(a);
        free(s);
        return error_set(e, ERR_NOMEM, "out of memory");
    }
    init(a, o);
    a->private_ = s;
    s->amqp = a;
    s->input_size = a->o.frame_max + INPUT_BESIDE > INPUT_SIZE ? a->o.frame_max + INPUT_BESIDE : INPUT_SIZE;
    s->input = malloc(s->input_size);
    s->before_block.fn = before_block;
    list_init(&s->waiting);
    s->tick.fn = on_tick;
    loop_before_block(a->o.loop, &s->before_block);
    loop_timer_start(a->o.loop, &s->tick, TICK_MS);
    enum err code = s->input ? open_listeners(a, e) : error_set(e, ERR_NOMEM, "out of memory");
    if (code == ERR_OK) *out = a;
    else amqp_free(a);
    return code;
}

uint16_t amqp_port(const struct amqp *a) { return listener_port(server_of(a)->plain); }
uint16_t amqp_tls_port(const struct amqp *a) { return listener_port(server_of(a)->secure); }

// ---- closing

static void stop_listening(struct server *s) {
    listener_close(s->plain);
    listener_close(s->secure);
    s->plain = s->secure = NULL;
}

static void look_drained(struct loop_timer *t) {
    struct server *s = LIST_ITEM(t, struct server, drain_timer);
    bool late = loop_now_ms(s->amqp->o.loop) >= s->drain_until_ms;
    if (!late && !list_empty(&s->amqp->connections)) {
        loop_timer_start(s->amqp->o.loop, t, DRAIN_LOOK_MS);
        return;
    }
    s->drained(s->drained_arg);
}

void amqp_drain(struct amqp *a, uint32_t limit_ms, void (*done)(void *arg), void *arg) {
    struct server *s = server_of(a);
    s->draining = true;
    stop_listening(s);
    LIST_EACH(&a->connections, at) {
        struct connection *c = LIST_ITEM(at, struct connection, of_amqp);
        if (core_of(c)->stage < STAGE_TUNE) connection_finish(c); // it would not know what to make of it
        else connection_error(c, REPLY_CONNECTION_FORCED, 0, "broker forced connection closure with reason 'shutdown'");
    }
    s->drained = done;
    s->drained_arg = arg;
    s->drain_until_ms = loop_now_ms(a->o.loop) + limit_ms;
    s->drain_timer.fn = look_drained;
    loop_timer_start(a->o.loop, &s->drain_timer, 0);
}

static void free_itself(struct amqp *a) {
    map_release(&a->reply_queues);
    free(a);
}

static void on_last_wake(struct loop_post *p) { free_itself(LIST_ITEM(p, struct amqp, wake)); }

void amqp_free(struct amqp *a) {
    if (!a) return;
    struct server *s = server_of(a);
    stop_listening(s);
    LIST_EACH_SAFE(&a->connections, at) {
        struct connection *c = LIST_ITEM(at, struct connection, of_amqp);
        if (core_of(c)->socket) tcp_close(core_of(c)->socket);
        else connection_free(c);
    }
    loop_before_block_end(a->o.loop, &s->before_block);
    loop_timer_stop(a->o.loop, &s->tick);
    loop_timer_stop(a->o.loop, &s->drain_timer);
    tls_context_free(s->tls);
    free(s->input);
    free(s->encrypted);
    free(s);
    if (a->wake.posted) a->wake.fn = on_last_wake;
    else free_itself(a);
}
