// Large bodies go out: basic.deliver, get-ok and return whose body is a file. It is read piece by piece as the socket
// takes them, so that memory does not grow with it.
//
//   a connection   stream ─► stream ─► …       in the order they began; the first is being read
//   a channel      stream, what was said after it ─► stream, what was said after it
//
// A content may not be interrupted by its own channel: what the channel says meanwhile is kept `behind` its last
// stream, and its session is paused. Other channels go on. A body that cannot be given whole is never taken for one: it
// is checked against its name before its last piece leaves. Is it missing, or not what its name says, the message is
// parked with the reason (in the hands of a consumer that does not acknowledge it is gone) and the channel closed, or
// the connection when a part of it was sent.
#include "amqp/claims.h"
#include "amqp/core.h"
#include "base/hex.h"
#include "base/log.h"
#include "datastore/datastore.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define PIECE (256u << 10)

struct stream {
    struct channel *channel;
    struct list_node of_connection, of_channel;
    uint8_t ticket[CLAIM_TICKET];
    uint64_t length, at;
    uint64_t tag; // of the delivery, 0: none
    uint32_t method;
    struct buf head, behind;
    uint64_t counted; // of what waits, in connection.behind
    struct claims_call *opening;
    struct ds_reader *reader;
    bool reading, begun;
};

static struct connection *connection_of(const struct stream *s) { return s->channel->connection; }

static void count(struct stream *s) {
    uint64_t bytes = sizeof *s + s->head.len + s->behind.len;
    struct connection *c = connection_of(s);
    c->behind += bytes - s->counted;
    s->counted = bytes;
    connection_sent(c, 0, core_of(c)->in_flight); // it may be too much
}

static struct stream *last_of(struct channel *ch) {
    struct list_node *n = list_last(channel_streams(ch));
    return n ? LIST_ITEM(n, struct stream, of_channel) : NULL;
}

void channel_wrote_behind(struct channel *ch) {
    struct stream *s = last_of(ch);
    if (!buf_ok(&s->behind)) connection_error(ch->connection, REPLY_RESOURCE_ERROR, s->method, "out of memory");
    count(s);
}

// ---- ending

// What was said after it goes where it would have gone without it.
static void stream_end(struct stream *s, bool keep_behind) {
    struct channel *ch = s->channel;
    struct connection *c = ch->connection;
    struct list_node *before = s->of_channel.prev;
    bool first = list_first(channel_streams(ch)) == &s->of_channel;
    list_remove(&s->of_connection);
    list_remove(&s->of_channel);
    c->behind -= s->counted;
    if (keep_behind && s->behind.len > 0) {
        struct stream *to = first ? NULL : LIST_ITEM(before, struct stream, of_channel);
        buf_add(to ? &to->behind : &c->out, s->behind.data, s->behind.len);
        if (to) count(to);
        else connection_wrote(c);
    }
    struct stream *last = last_of(ch);
    ch->behind = last ? &last->behind : NULL;
    claims_release(c->amqp->o.claims, s->ticket);
    if (s->opening) claims_call_forget(s->opening);
    if (s->reader) ds_reader_free(s->reader);
    buf_release(&s->head);
    buf_release(&s->behind);
    free(s);
    connection_sent(c, 0, core_of(c)->in_flight); // there may be room again
}

static void stream_done(struct stream *s) {
    struct channel *ch = s->channel;
    struct connection *c = ch->connection;
    stream_end(s, true);
    if (!ch->behind) channel_streamed(ch);
    streams_pump(c);
}

bool stream_begun(struct channel *ch) {
    struct list_node *n = list_first(channel_streams(ch));
    return n && LIST_ITEM(n, struct stream, of_channel)->begun;
}

static void drop(struct channel *ch, bool begun_too) {
    struct connection *c = ch->connection;
    bool any = false;
    LIST_EACH_SAFE(channel_streams(ch), at) {
        struct stream *s = LIST_ITEM(at, struct stream, of_channel);
        if (s->begun && !begun_too) continue;
        any = true;
        stream_end(s, !begun_too);
    }
    if (any && !c->closing) streams_pump(c);
}

void streams_drop_unbegun(struct channel *ch) { drop(ch, false); }
void streams_drop(struct channel *ch) { drop(ch, true); }

// ---- a body that is not there

static bool is_lost(enum err err) { return err == ERR_NOT_FOUND || err == ERR_CORRUPT; }

static void give_up(struct stream *s, enum err err) {
    struct channel *ch = s->channel;
    char name[2 * CLAIM_TICKET + 1];
    struct error ignored;
    const char *what = err == ERR_NOT_FOUND ? "is missing" : err == ERR_CORRUPT ? "is damaged" : err_text(err);
    hex_encode(s->ticket, CLAIM_TICKET, name);
    log_event(LOG_ERROR, "body_lost", "connection", core_of(ch->connection)->name, "body", name, "reason", what, NULL);
    if (is_lost(err) && s->tag != 0 && ch->session)
        engine_settle(ch->session, s->tag, false, SETTLE_PARK,
                      err == ERR_NOT_FOUND ? "its large body is missing" : "its large body is damaged", &ignored);
    if (s->begun)
        connection_error(ch->connection, REPLY_INTERNAL_ERROR, s->method, "the rest of a body of %" PRIu64 " bytes %s",
                         s->length, what);
    else channel_give_up(ch, REPLY_INTERNAL_ERROR, s->method, "a body of %" PRIu64 " bytes %s", s->length, what);
}

// ---- reading

// What a frame holds. A piece is whole frames, as many as fit: the body is cut as any other is.
static size_t frame_room(const struct connection *c) { return c->frame_max - FRAME_OVERHEAD; }

static size_t next_piece(const struct stream *s) {
    size_t frame = frame_room(connection_of(s)), piece = frame < PIECE ? PIECE - PIECE % frame : PIECE;
    return s->length - s->at < piece ? (size_t)(s->length - s->at) : piece;
}

static void send_piece(struct stream *s, const uint8_t *data, size_t n) {
    struct connection *c = connection_of(s);
    size_t most = frame_room(c);
    s->at += n;
    while (n > 0) {
        struct view part = {data, (uint32_t)(n < most ? n : most)};
        body_frame_encode(&c->out, s->channel->number, part);
        data += part.length;
        n -= part.length;
    }
    connection_wrote(c);
}

static void on_read(void *arg, enum err err, const uint8_t *data, size_t n) {
    struct stream *s = arg;
    struct connection *c = connection_of(s);
    s->reading = false;
    if (c->closing) return; // it ends with the connection
    if (err == ERR_OK && n == 0 && s->at < s->length) err = ERR_CORRUPT;
    if (err != ERR_OK) {
        give_up(s, err);
        return;
    }
    send_piece(s, data, n);
    if (s->at == s->length) stream_done(s);
    else streams_pump(c);
}

static void on_opened(void *arg, enum err err, struct ds_reader *r, uint64_t bytes) {
    struct stream *s = arg;
    struct connection *c = connection_of(s);
    s->opening = NULL;
    s->reader = r;
    if (err == ERR_BUSY || c->closing) return; // tried again by the tick
    if (err == ERR_OK && bytes != s->length) err = ERR_CORRUPT;
    if (err != ERR_OK) {
        give_up(s, err);
        return;
    }
    ds_reader_verify(r);
    s->begun = true;
    buf_add(&c->out, s->head.data, s->head.len);
    buf_release(&s->head);
    count(s);
    connection_wrote(c);
    streams_pump(c);
}

void streams_pump(struct connection *c) {
    struct connection_core *core = core_of(c);
    struct list_node *n = list_first(&core->streams);
    struct stream *s = n ? LIST_ITEM(n, struct stream, of_connection) : NULL;
    if (!s || s->opening || s->reading || c->closing || c->out.len + core->in_flight >= OUT_LOW) return;
    if (s->begun && s->at == s->length && s->length > 0) return; // its last piece is just being sent
    if (!s->reader) {
        s->opening = claims_read(c->amqp->o.claims, s->ticket, on_opened, s);
        return;
    }
    s->reading = true;
    ds_reader_read(s->reader, s->at, next_piece(s), on_read, s);
}

// ---- beginning

static uint64_t tag_of(const struct method *m) {
    if (m->id == METHOD_BASIC_DELIVER) return m->basic_deliver.delivery_tag;
    return m->id == METHOD_BASIC_GET_OK ? m->basic_get_ok.delivery_tag : 0;
}

void channel_send_claimed(struct channel *ch, const struct method *m, struct view properties, const uint8_t *ticket,
                          uint64_t length) {
    struct connection *c = ch->connection;
    if (ch->closed || ch->close_sent || c->closing) return;
    struct stream *s = c->amqp->o.claims ? calloc(1, sizeof *s) : NULL;
    if (!s) {
        channel_give_up(ch, REPLY_INTERNAL_ERROR, m->id, "no way to a body of %" PRIu64 " bytes", length);
        return;
    }
    s->channel = ch;
    s->length = length;
    s->tag = tag_of(m);
    s->method = m->id;
    memcpy(s->ticket, ticket, CLAIM_TICKET);
    claims_hold(c->amqp->o.claims, ticket);
    buf_init(&s->head, SIZE_MAX);
    buf_init(&s->behind, OUT_MAX);
    content_head_encode(&s->head, ch->number, m, properties, length);
    list_push_back(channel_streams(ch), &s->of_channel);
    list_push_back(&core_of(c)->streams, &s->of_connection);
    ch->behind = &s->behind;
    channel_wrote_behind(ch);
    channel_flow(ch);
    if (buf_ok(&s->head)) streams_pump(c);
    else connection_error(c, REPLY_RESOURCE_ERROR, m->id, "out of memory");
}
