// A channel: which frame may come now, whole commands to the files that know them, errors, answers.
//
//   channel.open ─► open ─► method … method header body ─► on_basic, …
//                    │
//                    ├─ channel.close ─► close-ok: it is gone
//                    └─ an error ─► close was sent: everything but close-ok is dropped
#include "amqp/content.h"
#include "amqp/core.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct channel_core {
    struct content content;
    uint32_t waits;        // answers that wait for the disk: each a pause of the connection
    bool released;         // session and all
    bool closed_by_both;   // the client sent close after we did: it may not send close-ok any more
    bool ending;           // the client has closed it: close-ok waits behind a body
    struct upload *upload; // the content is a large one
    struct list streams;   // large bodies on their way out
};

static struct channel_core *of(const struct channel *ch) { return ch->private_; }

// ---- making, ending, freeing

static bool make_room(struct connection *c, uint16_t number) {
    if (number < c->n_channels) return true;
    uint32_t n = c->n_channels < 2 ? 2 : c->n_channels * 2;
    if (n <= number) n = (uint32_t)number + 1;
    struct channel **channels = realloc(c->channels, n * sizeof *channels);
    if (!channels) return false;
    memset(channels + c->n_channels, 0, (n - c->n_channels) * sizeof *channels);
    c->channels = channels;
    c->n_channels = n;
    return true;
}

static struct channel *channel_new(struct connection *c, uint16_t number) {
    struct {
        struct channel channel;
        struct channel_core core;
    } *both = calloc(1, sizeof *both);
    if (!both || !make_room(c, number)) {
        free(both);
        return NULL;
    }
    struct channel *ch = &both->channel;
    ch->connection = c;
    ch->number = number;
    ch->references = 1;
    ch->private_ = &both->core;
    content_init(&both->core.content);
    list_init(&both->core.streams);
    c->channels[number] = ch;
    core_of(c)->open_channels++;
    c->amqp->stats.channels_opened++;
    channel_basic_init(ch);
    channel_flow(ch);
    return ch;
}

void channel_hold(struct channel *ch) { ch->references++; }

void channel_release(struct channel *ch) {
    ASSERT(ch->references > 0);
    if (--ch->references > 0) return;
    ASSERT(ch->closed);
    free(ch); // its core with it
}

void channel_release_closed(struct channel *ch) {
    struct channel_core *core = of(ch);
    if (core->released) return;
    core->released = true;
    content_clear(&core->content);
    if (core->upload) upload_free(core->upload);
    core->upload = NULL;
    channel_tx_release(ch);
    channel_basic_release(ch);
    for (; core->waits > 0; core->waits--) connection_resume(ch->connection);
}

void channel_end(struct channel *ch) {
    struct connection *c = ch->connection;
    channel_release_closed(ch);
    streams_drop(ch);
    content_release(&of(ch)->content);
    c->channels[ch->number] = NULL;
    core_of(c)->open_channels--;
    c->amqp->stats.channels_closed++;
    ch->closed = true;
    ch->connection = NULL;
    channel_release(ch);
}

void channel_flow(struct channel *ch) {
    if (ch->session && !of(ch)->released)
        engine_session_pause(ch->session, ch->close_sent || ch->behind || core_of(ch->connection)->out_high);
}

// ---- errors

static bool ends_connection(enum reply code) {
    switch (code) {
    case REPLY_CONTENT_TOO_LARGE:
    case REPLY_NO_ROUTE:
    case REPLY_ACCESS_REFUSED:
    case REPLY_NOT_FOUND:
    case REPLY_RESOURCE_LOCKED:
    case REPLY_PRECONDITION_FAILED: return false;
    default: return true;
    }
}

static void close_channel(struct channel *ch, enum reply code, uint32_t method, struct view text) {
    struct connection *c = ch->connection;
    log_text(LOG_WARN, "amqp_channel_error", "%s channel %u: %.*s", core_of(c)->name, ch->number, (int)text.length,
             (const char *)text.data);
    streams_drop_unbegun(ch);
    channel_send(ch, &(struct method){.id = METHOD_CHANNEL_CLOSE,
                                      .channel_close = {.reply_code = (uint16_t)code,
                                                        .reply_text = text,
                                                        .class_id = METHOD_CLASS(method),
                                                        .method_id = METHOD_INDEX(method)}});
    ch->close_sent = true;
    channel_flow(ch);
    connection_end_later(c);
}

void channel_error(struct channel *ch, enum reply code, uint32_t method, const char *format, ...) {
    if (ch->closed || ch->close_sent || ch->connection->closing) return;
    char text[TEXT_REPLY_MAX + 1], message[TEXT_REPLY_MAX + 1];
    va_list args;
    va_start(args, format);
    if (ends_connection(code)) {
        vsnprintf(message, sizeof message, format, args);
        connection_error(ch->connection, code, method, "%s", message);
    } else close_channel(ch, code, method, reply_text(text, code, format, args));
    va_end(args);
}

void channel_give_up(struct channel *ch, enum reply code, uint32_t method, const char *format, ...) {
    if (ch->closed || ch->close_sent || ch->connection->closing) return;
    char text[TEXT_REPLY_MAX + 1];
    va_list args;
    va_start(args, format);
    close_channel(ch, code, method, reply_text(text, code, format, args));
    va_end(args);
}

static enum reply reply_of(enum err code) {
    switch (code) {
    case ERR_NOT_FOUND:
    case ERR_GONE: return REPLY_NOT_FOUND;
    case ERR_FORBIDDEN:
    case ERR_UNAUTHORIZED: return REPLY_ACCESS_REFUSED;
    case ERR_LOCKED: return REPLY_RESOURCE_LOCKED;
    case ERR_CONFLICT:
    case ERR_INVALID:
    case ERR_LIMIT:
    case ERR_TOO_LARGE: return REPLY_PRECONDITION_FAILED;
    case ERR_UNSUPPORTED: return REPLY_NOT_IMPLEMENTED;
    case ERR_BUSY:
    case ERR_FULL:
    case ERR_NOMEM: return REPLY_RESOURCE_ERROR;
    default: return REPLY_INTERNAL_ERROR;
    }
}

void channel_fail(struct channel *ch, uint32_t method, const struct error *e) {
    channel_error(ch, reply_of(e->code), method, "%s", e->text);
}

// ---- answers

void channel_send(struct channel *ch, const struct method *m) {
    if (ch->closed || ch->close_sent || ch->connection->closing) return;
    method_encode(channel_out(ch), ch->number, m);
    channel_wrote(ch);
}

struct waiting_answer {
    struct channel *channel;
    struct buf frame;
};

static void on_answer_durable(void *arg, enum publish_result result) {
    (void)result;
    struct waiting_answer *w = arg;
    struct channel *ch = w->channel;
    if (!ch->closed && of(ch)->waits > 0) {
        of(ch)->waits--;
        if (!ch->close_sent && !ch->connection->closing) {
            buf_add(channel_out(ch), w->frame.data, w->frame.len);
            channel_wrote(ch);
        }
        connection_resume(ch->connection);
    }
    channel_release(ch);
    buf_release(&w->frame);
    free(w);
}

void channel_send_durable(struct channel *ch, const struct method *m) {
    if (ch->closed || ch->close_sent || ch->connection->closing) return;
    struct waiting_answer *w = malloc(sizeof *w);
    if (!w) {
        channel_error(ch, REPLY_RESOURCE_ERROR, m->id, "out of memory");
        return;
    }
    w->channel = ch;
    buf_init(&w->frame, ch->connection->frame_max + FRAME_OVERHEAD);
    if (!engine_when_durable(ch->connection->amqp->o.engine, on_answer_durable, w)) {
        buf_release(&w->frame);
        free(w);
        channel_send(ch, m);
        return;
    }
    method_encode(&w->frame, ch->number, m);
    channel_hold(ch);
    of(ch)->waits++;
    connection_pause(ch->connection);
}

// ---- commands

static void on_close(struct channel *ch) {
    struct connection *c = ch->connection;
    uint16_t number = ch->number;
    streams_drop_unbegun(ch);
    if (stream_begun(ch)) { // to its end, or the client would not know what comes
        channel_send(ch, &(struct method){.id = METHOD_CHANNEL_CLOSE_OK});
        ch->close_sent = of(ch)->ending = true;
        channel_release_closed(ch);
        return;
    }
    channel_end(ch);
    connection_send(c, number, &(struct method){.id = METHOD_CHANNEL_CLOSE_OK});
}

// Prefetch is what limits deliveries: like RabbitMQ, nothing is stopped by this.
static void on_flow(struct channel *ch, const struct method *m) {
    if (m->channel_flow.active)
        channel_send(ch, &(struct method){.id = METHOD_CHANNEL_FLOW_OK, .channel_flow_ok.active = true});
    else connection_error(ch->connection, REPLY_NOT_IMPLEMENTED, m->id, "active=false");
}

static void on_channel(struct channel *ch, const struct method *m) {
    switch (m->id) {
    case METHOD_CHANNEL_OPEN: channel_error(ch, REPLY_CHANNEL_ERROR, m->id, "second 'channel.open' seen"); break;
    case METHOD_CHANNEL_CLOSE: on_close(ch); break;
    case METHOD_CHANNEL_CLOSE_OK: break;
    case METHOD_CHANNEL_FLOW: on_flow(ch, m); break;
    case METHOD_CHANNEL_FLOW_OK: break;
    default: channel_error(ch, REPLY_COMMAND_INVALID, m->id, "unimplemented method");
    }
}

static void dispatch(struct channel *ch, const struct command *k) {
    const struct method *m = k->method;
    switch (METHOD_CLASS(m->id)) {
    case 20: on_channel(ch, m); return;
    case 30:
        if (m->id == METHOD_ACCESS_REQUEST)
            channel_send(ch, &(struct method){.id = METHOD_ACCESS_REQUEST_OK, .access_request_ok.ticket = 1});
        else channel_error(ch, REPLY_COMMAND_INVALID, m->id, "unimplemented method");
        return;
    case 40: on_exchange(ch, k); return;
    case 50: on_queue(ch, k); return;
    case 60: on_basic(ch, k); return;
    case 85: on_confirm(ch, k); return;
    case 90: on_tx(ch, k); return;
    default: channel_error(ch, REPLY_COMMAND_INVALID, m->id, "unimplemented method");
    }
}

// The content is complete: what it held is let go of after the command, unless that ended the channel.
static void dispatch_content(struct channel *ch) {
    struct content *k = &of(ch)->content;
    struct command command = {.method = &k->method, .properties = k->properties, .body = k->body_view};
    channel_hold(ch);
    dispatch(ch, &command);
    if (!ch->closed) content_clear(k);
    channel_release(ch);
}

// ---- large bodies

struct list *channel_streams(struct channel *ch) {
    return &of(ch)->streams;
}

void channel_streamed(struct channel *ch) {
    if (of(ch)->ending) channel_end(ch);
    else channel_flow(ch);
}

void channel_uploaded(struct channel *ch, const uint8_t *ticket) {
    struct content *k = &of(ch)->content;
    struct command command = {.method = &k->method,
                              .properties = k->properties,
                              .body = {ticket, CLAIM_TICKET},
                              .claimed = true,
                              .claimed_length = k->body_size};
    upload_free(of(ch)->upload);
    of(ch)->upload = NULL;
    channel_hold(ch);
    dispatch(ch, &command);
    if (!ch->closed) content_clear(k);
    channel_release(ch);
}

static bool is_large(const struct channel *ch) {
    const struct amqp_options *o = &ch->connection->amqp->o;
    return o->claims && of(ch)->content.body_size >= o->claim_bytes;
}

// ---- frames

static void unexpected(struct channel *ch, const char *expected) {
    connection_error(ch->connection, REPLY_UNEXPECTED_FRAME, of(ch)->content.method.id, "%s", expected);
}

// While the broker takes no publishes, one that comes is left where it is, and all that is behind it.
static bool hold_publish(struct connection *c) {
    struct connection_core *core = core_of(c);
    const char *reason = NULL;
    core->published = true;
    core->unseen = true;
    if (!c->amqp->blocked || !engine_blocked(c->amqp->o.engine, &reason)) return false;
    connection_blocked(c, reason ? reason : "");
    core->waits_unblocked = true;
    connection_pause(c);
    return true;
}

static void on_visible(void *arg, enum publish_result result) {
    (void)result;
    struct channel *ch = arg;
    if (!ch->closed && of(ch)->waits > 0) {
        of(ch)->waits--;
        connection_resume(ch->connection);
    }
    channel_release(ch);
}

// A persistent message is in its queue only when it is durable. Who publishes without confirms and then looks into the
// queue expects to find it, and so does whoever looks after the publisher has closed: what would tell is left where it
// is until then.
bool channel_waits(struct channel *ch, uint32_t id) {
    struct connection_core *core = core_of(ch->connection);
    bool looks = id == METHOD_BASIC_GET || id == METHOD_QUEUE_DECLARE || id == METHOD_QUEUE_PURGE ||
                 id == METHOD_QUEUE_DELETE || id == METHOD_CHANNEL_CLOSE || id == METHOD_CONNECTION_CLOSE;
    if (!looks || !core->unseen) return false;
    core->unseen = false;
    if (!engine_when_durable(ch->connection->amqp->o.engine, on_visible, ch)) return false;
    channel_hold(ch);
    of(ch)->waits++;
    connection_pause(ch->connection);
    return true;
}

static bool on_method(struct channel *ch, const struct frame *f, const struct method *m) {
    struct content *k = &of(ch)->content;
    if (k->stage == CONTENT_HEADER) {
        connection_error(ch->connection, REPLY_UNEXPECTED_FRAME, k->method.id,
                         "expected content header for class %u, got non content header frame instead",
                         METHOD_CLASS(k->method.id));
        return true;
    }
    if (k->stage == CONTENT_BODY) {
        unexpected(ch, "expected content body, got non content body frame instead");
        return true;
    }
    if (!method_has_content(m->id)) {
        if (channel_waits(ch, m->id)) return false;
        channel_hold(ch);
        dispatch(ch, &(struct command){.method = m});
        channel_release(ch);
        return true;
    }
    if (m->id == METHOD_BASIC_PUBLISH && hold_publish(ch->connection)) return false;
    content_begin(k, f->payload, m);
    list_push_back(&core_of(ch->connection)->gathering, &k->of_gathering);
    return true;
}

static void on_content_result(struct channel *ch, enum content_result r) {
    struct content *k = &of(ch)->content;
    switch (r) {
    case CONTENT_GOES_ON:
        if (!list_linked(&k->of_gathering)) list_push_back(&core_of(ch->connection)->gathering, &k->of_gathering);
        break;
    case CONTENT_COMPLETE: dispatch_content(ch); break;
    case CONTENT_DAMAGED:
        connection_error(
            ch->connection, k->stage == CONTENT_BODY ? REPLY_FRAME_ERROR : REPLY_SYNTAX_ERROR, k->method.id, "%s",
            k->stage == CONTENT_BODY ? "a body longer than its header said" : "cannot decode a content header");
        break;
    case CONTENT_OTHER_CLASS:
        connection_error(ch->connection, REPLY_UNEXPECTED_FRAME, k->method.id,
                         "expected content header for class %u, got one for another class instead",
                         METHOD_CLASS(k->method.id));
        break;
    case CONTENT_TOO_LARGE:
        channel_error(ch, REPLY_PRECONDITION_FAILED, k->method.id,
                      "message size %llu is larger than configured max size %llu", (unsigned long long)k->body_size,
                      (unsigned long long)ch->connection->amqp->o.max_body);
        break;
    case CONTENT_NO_MEMORY:
        connection_error(ch->connection, REPLY_RESOURCE_ERROR, k->method.id, "out of memory");
        break;
    }
}

static void on_header(struct channel *ch, struct view payload) {
    struct content *k = &of(ch)->content;
    enum content_result r = content_header(k, payload, ch->connection->amqp->o.max_body);
    if (r == CONTENT_GOES_ON && is_large(ch)) of(ch)->upload = upload_new(ch, k->method.id, k->body_size);
    on_content_result(ch, r);
}

static void on_body(struct channel *ch, struct view payload) {
    struct content *k = &of(ch)->content;
    if (!of(ch)->upload) on_content_result(ch, content_body(k, payload));
    else if (payload.length > k->body_size - k->got) on_content_result(ch, CONTENT_DAMAGED);
    else {
        k->got += payload.length;
        upload_body(of(ch)->upload, payload);
    }
}

static void on_content(struct channel *ch, const struct frame *f) {
    struct content *k = &of(ch)->content;
    if (k->stage == CONTENT_NONE) unexpected(ch, "expected method frame, got non method frame instead");
    else if (k->stage == CONTENT_HEADER && f->type == FRAME_HEADER) on_header(ch, f->payload);
    else if (k->stage == CONTENT_HEADER)
        connection_error(ch->connection, REPLY_UNEXPECTED_FRAME, k->method.id,
                         "expected content header for class %u, got non content header frame instead",
                         METHOD_CLASS(k->method.id));
    else if (f->type == FRAME_BODY) on_body(ch, f->payload);
    else unexpected(ch, "expected content body, got non content body frame instead");
}

static void open_channel(struct connection *c, uint16_t number) {
    uint32_t id = METHOD_CHANNEL_OPEN;
    if (number > c->channel_max || core_of(c)->open_channels >= c->channel_max) {
        connection_error(c, REPLY_NOT_ALLOWED, id,
                         "number of channels opened (%u) has reached the negotiated channel_max (%u)",
                         core_of(c)->open_channels, c->channel_max);
        return;
    }
    struct channel *ch = channel_new(c, number);
    if (!ch) connection_error(c, REPLY_RESOURCE_ERROR, id, "out of memory");
    else channel_send(ch, &(struct method){.id = METHOD_CHANNEL_OPEN_OK});
}

static void on_closing(struct connection *c, struct channel *ch, const struct method *m) {
    uint16_t number = ch->number;
    if (of(ch)->ending) return;
    if (m->id == METHOD_CHANNEL_CLOSE) {
        of(ch)->closed_by_both = true;
        method_encode(channel_out(ch), number, &(struct method){.id = METHOD_CHANNEL_CLOSE_OK});
        channel_wrote(ch);
    } else if (stream_begun(ch)) { // it cannot have heard of what it answers
        if (m->id == METHOD_CHANNEL_CLOSE_OK || m->id == METHOD_CHANNEL_OPEN)
            connection_error(c, REPLY_UNEXPECTED_FRAME, m->id, "%s while a message is being sent", method_name(m->id));
        return;
    }
    if (m->id == METHOD_CHANNEL_CLOSE_OK) channel_end(ch);
    if (m->id == METHOD_CHANNEL_OPEN && of(ch)->closed_by_both) {
        channel_end(ch);
        open_channel(c, number);
    }
}

bool channel_frame(struct connection *c, const struct frame *f) {
    struct channel *ch = f->channel < c->n_channels ? c->channels[f->channel] : NULL;
    if (f->type != FRAME_METHOD) {
        if (!ch) connection_error(c, REPLY_CHANNEL_ERROR, 0, "expected 'channel.open'");
        else if (!ch->close_sent) on_content(ch, f);
        return true;
    }
    struct method m;
    enum method_result r = method_decode(f->payload, &m);
    if (r == METHOD_UNKNOWN) connection_error(c, REPLY_NOT_IMPLEMENTED, 0, "unknown method on channel %u", f->channel);
    else if (r == METHOD_DAMAGED)
        connection_error(c, REPLY_SYNTAX_ERROR, 0, "cannot decode a method on channel %u", f->channel);
    else if (METHOD_CLASS(m.id) == 10)
        connection_error(c, REPLY_COMMAND_INVALID, m.id, "%s on channel %u", method_name(m.id), f->channel);
    else if (ch && ch->close_sent) on_closing(c, ch, &m);
    else if (ch) return on_method(ch, f, &m);
    else if (m.id == METHOD_CHANNEL_OPEN) open_channel(c, f->channel);
    else if (m.id != METHOD_CHANNEL_CLOSE_OK) connection_error(c, REPLY_CHANNEL_ERROR, m.id, "expected 'channel.open'");
    return true;
}

void channel_keep_content(struct connection *c) {
    struct list_node *n;
    while ((n = list_pop_front(&core_of(c)->gathering)) != NULL) {
        struct content *k = LIST_ITEM(n, struct content, of_gathering);
        if (!content_keep(k)) connection_error(c, REPLY_RESOURCE_ERROR, k->method.id, "out of memory");
    }
}

// ---- consumers that hold what they were given for too long

void channel_check_consumers(struct channel *ch, uint64_t now_ms) {
    if (ch->close_sent || !ch->session || of(ch)->released) return;
    uint64_t limit = ch->connection->amqp->o.consumer_timeout_ms;
    uint64_t oldest = engine_session_oldest_ms(ch->session);
    if (oldest == 0 || now_ms < oldest || now_ms - oldest < limit) return;
    channel_error(
        ch, REPLY_PRECONDITION_FAILED, 0,
        "delivery acknowledgement on channel %u timed out. Timeout value used: %llu ms. This timeout value can "
        "be configured, see consumers doc guide to learn more",
        ch->number, (unsigned long long)limit);
}
