// A connection: frames in, closing, flow. It knows no socket and no clock: bytes are given to connection_input, what it
// answers is in `out`, time comes by connection_tick (heartbeat.c).
//
// Ending happens in two steps. An error marks the connection (or a channel) closed at once and writes the close
// method; sessions and consumers are released only when no command and no callback of theirs is under way: at the end
// of the command in connection_input, or in the next pass of the loop (connection_end_later).
#include "amqp/core.h"
#include "base/io.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- making and freeing

static char *name_of(const struct connection_peer *p) {
    char text[128];
    bool v6 = strchr(p->peer_host, ':') != NULL;
    const char *open = v6 ? "[" : "", *close = v6 ? "]" : "";
    snprintf(text, sizeof text, "%s%s%s:%u -> %s%s%s:%u", open, p->peer_host, close, p->peer_port, open, p->host, close,
             p->port);
    return strdup(text);
}

struct connection *connection_new(struct amqp *a, const struct connection_peer *peer) {
    struct {
        struct connection connection;
        struct connection_core core;
    } *both = calloc(1, sizeof *both);
    if (!both) return NULL;
    struct connection *c = &both->connection;
    struct connection_core *core = &both->core;
    c->private_ = core;
    core->connection = c;
    c->amqp = a;
    c->frame_max = FRAME_EARLY_MAX;
    c->channel_max = a->o.channel_max;
    core->peer = *peer;
    core->name = name_of(peer);
    if (!core->name) {
        free(both);
        return NULL;
    }
    core->connected_at_ms = io_wall_ms(a->o.io);
    buf_init(&c->out, OUT_MAX);
    buf_init(&core->client_properties, a->o.frame_max);
    list_init(&core->gathering);
    list_init(&core->streams);
    list_push_back(&a->connections, &c->of_amqp);
    a->stats.connections_opened++;
    return c;
}

void connection_free(struct connection *c) {
    struct connection_core *core = core_of(c);
    c->closing = true;
    core->stage = STAGE_DONE;
    login_abandon(c);
    connection_end(c);
    list_remove(&core->of_writing);
    list_remove(&core->of_resuming);
    list_remove(&core->of_ending);
    list_remove(&c->of_amqp);
    c->amqp->stats.connections_closed++;
    if (c->user) access_user_release(c->user);
    buf_release(&core->client_properties);
    buf_release(&c->out);
    free(c->channels);
    free(c->user_name);
    free(core->tls);
    free(core->name);
    free(c); // the core with it
}

void connection_secured(struct connection *c, const struct connection_tls *tls) {
    struct connection_core *core = core_of(c);
    core->tls = malloc(sizeof *core->tls);
    if (core->tls) *core->tls = *tls;
    else connection_finish(c);
}

// ---- texts

static const struct {
    enum reply code;
    const char *name;
} replies[] = {
    {REPLY_CONTENT_TOO_LARGE, "CONTENT_TOO_LARGE"},
    {REPLY_NO_ROUTE, "NO_ROUTE"},
    {REPLY_CONNECTION_FORCED, "CONNECTION_FORCED"},
    {REPLY_INVALID_PATH, "INVALID_PATH"},
    {REPLY_ACCESS_REFUSED, "ACCESS_REFUSED"},
    {REPLY_NOT_FOUND, "NOT_FOUND"},
    {REPLY_RESOURCE_LOCKED, "RESOURCE_LOCKED"},
    {REPLY_PRECONDITION_FAILED, "PRECONDITION_FAILED"},
    {REPLY_FRAME_ERROR, "FRAME_ERROR"},
    {REPLY_SYNTAX_ERROR, "SYNTAX_ERROR"},
    {REPLY_COMMAND_INVALID, "COMMAND_INVALID"},
    {REPLY_CHANNEL_ERROR, "CHANNEL_ERROR"},
    {REPLY_UNEXPECTED_FRAME, "UNEXPECTED_FRAME"},
    {REPLY_RESOURCE_ERROR, "RESOURCE_ERROR"},
    {REPLY_NOT_ALLOWED, "NOT_ALLOWED"},
    {REPLY_NOT_IMPLEMENTED, "NOT_IMPLEMENTED"},
    {REPLY_INTERNAL_ERROR, "INTERNAL_ERROR"},
};

const char *reply_name(enum reply code) {
    for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++) {
        if (replies[i].code == code) return replies[i].name;
    }
    return "INTERNAL_ERROR";
}

struct view reply_text(char out[static TEXT_REPLY_MAX + 1], enum reply code, const char *format, va_list args) {
    size_t n = (size_t)snprintf(out, TEXT_REPLY_MAX + 1, "%s - ", reply_name(code));
    int more = vsnprintf(out + n, TEXT_REPLY_MAX + 1 - n, format, args);
    n += more > 0 ? (size_t)more : 0;
    if (n > TEXT_REPLY_MAX) {
        n = TEXT_REPLY_MAX;
        while (n > 0 && ((uint8_t)out[n - 1] & 0xC0) == 0x80) n--; // cut back to before a character that was cut
        if (n > 0 && ((uint8_t)out[n - 1] & 0x80) != 0) n--;
    }
    return (struct view){.data = (const uint8_t *)out, .length = (uint32_t)n};
}

// ---- output

void connection_wrote(struct connection *c) {
    struct connection_core *core = core_of(c);
    if (!list_linked(&core->of_writing)) list_push_back(&c->amqp->writing, &core->of_writing);
    core->sent_frames++;
    connection_sent(c, 0, core->in_flight);
}

static void read_on(struct connection *c) {
    struct connection_core *core = core_of(c);
    if (list_linked(&core->of_resuming)) return;
    list_push_back(&c->amqp->resuming, &core->of_resuming);
    amqp_wake(c->amqp);
}

static void flow(struct connection *c, bool high) {
    struct connection_core *core = core_of(c);
    if (core->out_high == high) return;
    core->out_high = high;
    for (uint32_t i = 1; i < c->n_channels; i++) {
        if (c->channels[i]) channel_flow(c->channels[i]);
    }
    if (!high) amqp_wake(c->amqp); // so that the engine is asked for more
}

void connection_sent(struct connection *c, size_t sent, uint64_t in_flight) {
    struct connection_core *core = core_of(c);
    core->sent_bytes += sent;
    c->amqp->stats.sent_bytes += sent;
    core->in_flight = in_flight;
    uint64_t waiting = c->out.len + in_flight;
    if (waiting > OUT_HIGH) flow(c, true);
    else if (waiting < OUT_LOW) flow(c, false);
    bool stopped = core->out_stopped;
    core->out_stopped = waiting + c->behind > OUT_STOP;
    if (stopped && !core->out_stopped) read_on(c);
    if (waiting < OUT_LOW && !list_empty(&core->streams)) streams_pump(c);
}

void connection_send(struct connection *c, uint16_t channel, const struct method *m) {
    method_encode(&c->out, channel, m);
    connection_wrote(c);
}

// ---- pausing

bool connection_reads(const struct connection *c) {
    // One that is closing takes everything and drops it, to find close-ok.
    return c->closing || (c->pauses == 0 && !core_of(c)->out_stopped);
}

void connection_pause(struct connection *c) { c->pauses++; }

void connection_resume(struct connection *c) {
    ASSERT(c->pauses > 0);
    if (--c->pauses == 0) read_on(c);
}

void connection_blocked(struct connection *c, const char *reason) {
    struct connection_core *core = core_of(c);
    if (reason && core->published && c->client_blocked && !core->told_blocked && core->stage == STAGE_RUNNING) {
        connection_send(
            c, 0, &(struct method){.id = METHOD_CONNECTION_BLOCKED, .connection_blocked.reason = view_of(reason)});
        core->told_blocked = true;
    }
    if (reason) return;
    if (core->told_blocked && core->stage == STAGE_RUNNING)
        connection_send(c, 0, &(struct method){.id = METHOD_CONNECTION_UNBLOCKED});
    core->told_blocked = false;
    if (core->waits_unblocked) {
        core->waits_unblocked = false;
        connection_resume(c);
    }
}

// ---- ending

void connection_end_later(struct connection *c) {
    struct connection_core *core = core_of(c);
    if (!list_linked(&core->of_ending)) list_push_back(&c->amqp->ending, &core->of_ending);
}

void connection_end(struct connection *c) {
    struct connection_core *core = core_of(c);
    list_remove(&core->of_ending);
    for (uint32_t i = 1; i < c->n_channels; i++) {
        struct channel *ch = c->channels[i];
        if (!ch) continue;
        if (c->closing) channel_end(ch);
        else if (ch->close_sent) channel_release_closed(ch);
    }
    if (!c->closing || core->ended) return;
    core->ended = true;
    engine_delete_owned(c->amqp->o.engine, c);
    if (core->stage != STAGE_DONE) read_on(c);
}

void connection_finish(struct connection *c) {
    c->closing = true;
    core_of(c)->stage = STAGE_DONE;
    connection_end_later(c);
    connection_wrote(c); // so that the socket is looked at
}

void connection_silence(struct connection *c) {
    struct connection_core *core = core_of(c);
    if (core->stage >= STAGE_SILENT) return;
    c->closing = true;
    core->stage = STAGE_SILENT;
    core->deadline_ms = 0;
    connection_end_later(c);
}

static void log_close(struct connection *c, struct view text) {
    char line[TEXT_REPLY_MAX + 1];
    memcpy(line, text.data, text.length);
    line[text.length] = 0;
    log_event(LOG_WARN, "amqp_connection_error", "connection", core_of(c)->name, "user",
              c->user_name ? c->user_name : "", "vhost", c->vhost ? vhost_name(c->vhost) : "", "error", line, NULL);
}

void connection_error(struct connection *c, enum reply code, uint32_t method, const char *format, ...) {
    struct connection_core *core = core_of(c);
    if (c->closing) return;
    char text[TEXT_REPLY_MAX + 1];
    va_list args;
    va_start(args, format);
    struct view reply = reply_text(text, code, format, args);
    va_end(args);
    log_close(c, reply);
    // Who has not shown yet that it speaks AMQP, and who it is, is told nothing.
    if (core->stage < STAGE_TUNE && code != REPLY_ACCESS_REFUSED && code != REPLY_CONNECTION_FORCED) {
        connection_silence(c);
        return;
    }
    connection_send(c, 0,
                    &(struct method){.id = METHOD_CONNECTION_CLOSE,
                                     .connection_close = {.reply_code = (uint16_t)code,
                                                          .reply_text = reply,
                                                          .class_id = METHOD_CLASS(method),
                                                          .method_id = METHOD_INDEX(method)}});
    c->closing = true;
    core->stage = STAGE_CLOSING;
    core->deadline_ms = 0;
    connection_end_later(c);
}

// ---- input

static void frame_error(struct connection *c, enum frame_result r, const uint8_t *data, size_t n) {
    unsigned type = n > 0 ? data[0] : 0, channel = n > 2 ? (unsigned)data[1] << 8 | data[2] : 0;
    unsigned long size = 0;
    for (size_t i = 3; i < 7 && i < n; i++) size = size << 8 | data[i];
    if (r == FRAME_TOO_LARGE)
        connection_error(c, REPLY_FRAME_ERROR, 0, "type %u, channel %u, {frame_too_large,%lu,%lu}", type, channel, size,
                         (unsigned long)c->frame_max - FRAME_OVERHEAD);
    else if (r == FRAME_BAD_END)
        connection_error(c, REPLY_FRAME_ERROR, 0, "type %u, channel %u, size %lu: invalid frame end marker", type,
                         channel, size);
    else connection_error(c, REPLY_FRAME_ERROR, 0, "unknown frame type %u on channel %u", type, channel);
}

static bool close_waits(struct connection *c, uint32_t id) {
    if (id != METHOD_CONNECTION_CLOSE || c->closing) return false;
    for (uint32_t i = 1; i < c->n_channels; i++)
        if (c->channels[i] && !c->channels[i]->closed) return channel_waits(c->channels[i], id);
    return false;
}

// False: it is not taken now.
static bool on_channel_0(struct connection *c, const struct frame *f) {
    if (f->type != FRAME_METHOD) {
        connection_error(c, REPLY_UNEXPECTED_FRAME, 0, "unexpected frame on channel 0: type %d", (int)f->type);
        return true;
    }
    struct method m;
    switch (method_decode(f->payload, &m)) {
    case METHOD_DONE:
        if (close_waits(c, m.id)) return false;
        on_connection(c, &m);
        break;
    case METHOD_UNKNOWN: connection_error(c, REPLY_NOT_IMPLEMENTED, 0, "unknown method on channel 0"); break;
    case METHOD_DAMAGED: connection_error(c, REPLY_SYNTAX_ERROR, 0, "cannot decode a method on channel 0"); break;
    }
    return true;
}

// False: it is not taken now.
static bool on_frame(struct connection *c, const struct frame *f) {
    if (f->type == FRAME_HEARTBEAT) {
        if (f->channel != 0) connection_error(c, REPLY_UNEXPECTED_FRAME, 0, "a heartbeat on channel %u", f->channel);
        else if (f->payload.length != 0) connection_error(c, REPLY_FRAME_ERROR, 0, "a heartbeat with a payload");
        return true;
    }
    if (f->channel == 0) return on_channel_0(c, f);
    if (c->closing) return true;
    if (core_of(c)->stage != STAGE_RUNNING) {
        connection_error(c, REPLY_CHANNEL_ERROR, 0, "a frame on channel %u before the connection is open", f->channel);
        return true;
    }
    return channel_frame(c, f);
}

static size_t take_frames(struct connection *c, const uint8_t *data, size_t n) {
    struct connection_core *core = core_of(c);
    size_t at = 0;
    while (core->stage < STAGE_SILENT && connection_reads(c)) {
        struct frame f;
        size_t used = 0;
        enum frame_result r = frame_decode(data + at, n - at, c->frame_max, &f, &used);
        if (r == FRAME_MORE) return at;
        if (r != FRAME_DONE) {
            if (c->closing) connection_finish(c);
            else frame_error(c, r, data + at, n - at);
            return n; // where the next frame begins is not known any more
        }
        if (!on_frame(c, &f)) return at;
        at += used;
        core->received_frames++;
        if (list_linked(&core->of_ending)) connection_end(c);
    }
    return core->stage >= STAGE_SILENT ? n : at;
}

size_t connection_input(struct connection *c, const uint8_t *data, size_t n) {
    struct connection_core *core = core_of(c);
    size_t at = 0;
    if (core->stage == STAGE_PROTOCOL) {
        at = on_protocol_header(c, data, n);
        if (core->stage == STAGE_PROTOCOL) return at;
    }
    at += take_frames(c, data + at, n - at);
    channel_keep_content(c);
    if (list_linked(&core->of_ending)) connection_end(c);
    return at;
}

void connection_heard(struct connection *c, size_t n) {
    core_of(c)->received_bytes += n;
    c->amqp->stats.received_bytes += n;
}

bool connection_done(const struct connection *c) { return core_of(c)->stage == STAGE_DONE; }
