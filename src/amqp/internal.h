// What the files of amqp/ share.
//
//   server.c      what is there once; listener.c, socket.c, tls.c: bytes to and from …
//   connection.c  … a connection: frames, closing; with handshake.c, sasl.c, heartbeat.c; sans-IO: connection_input,
//                 and what it answers is in `out` (core.h)
//   channel.c     a channel: which method may come now; content.c gathers content; hands each command to …
//   on_*.c        … one file a class: exchange, queue, basic, confirm, tx
//
// Backpressure. A connection that is paused takes no more input: what is unread stays with the server, which stops
// reading the socket. It is paused while an answer waits for the disk (so answers keep their order), while the engine
// refuses a publish for now, while the broker is blocked and it publishes. Each is a count in `pauses`.
// With more than OUT_HIGH bytes to write its sessions are paused, until fewer than OUT_LOW are left.
//
// Large bodies (claims.h) are never in memory as a whole: upload.c writes what comes to a file, and the command is
// done when that has its name; stream.c reads a file as the socket takes it, and what its channel says meanwhile waits
// behind it (channel_out).
#ifndef BARID_AMQP_INTERNAL_H
#define BARID_AMQP_INTERNAL_H

#include "access/access.h"
#include "amqp/amqp.h"
#include "amqp/codec.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/map.h"
#include "engine/engine.h"

#define OUT_HIGH (1u << 20)
#define OUT_LOW  (256u << 10)

// Reply codes (spec section 1.2), as RabbitMQ uses them.
enum reply {
    REPLY_SUCCESS = 200,
    REPLY_CONTENT_TOO_LARGE = 311,
    REPLY_NO_ROUTE = 312,
    REPLY_CONNECTION_FORCED = 320,
    REPLY_INVALID_PATH = 402, // RabbitMQ says NOT_ALLOWED (530) for a vhost that is not there
    REPLY_ACCESS_REFUSED = 403,
    REPLY_NOT_FOUND = 404,
    REPLY_RESOURCE_LOCKED = 405,
    REPLY_PRECONDITION_FAILED = 406,
    REPLY_FRAME_ERROR = 501,
    REPLY_SYNTAX_ERROR = 502,
    REPLY_COMMAND_INVALID = 503,
    REPLY_CHANNEL_ERROR = 504,
    REPLY_UNEXPECTED_FRAME = 505,
    REPLY_RESOURCE_ERROR = 506,
    REPLY_NOT_ALLOWED = 530,
    REPLY_NOT_IMPLEMENTED = 540,
    REPLY_INTERNAL_ERROR = 541,
};

struct connection;
struct channel;

// ---- connection.c, as the channels see it
struct connection {
    struct amqp *amqp;
    struct list_node of_amqp;
    struct buf out;            // to be written by the server
    struct channel **channels; // by number, NULL: not open; channels[0] is never used
    uint32_t n_channels;       // length of that array
    uint32_t frame_max;        // agreed on
    uint16_t channel_max, heartbeat_s;
    struct vhost *vhost;
    const struct access_user *user; // access.h says how long it lives
    char *user_name;
    bool client_blocked;       // capability connection.blocked
    bool client_cancel_notify; // capability consumer_cancel_notify
    bool client_auth_failure;  // capability authentication_failure_close
    bool closing;              // close was sent or got: commands are dropped
    uint32_t pauses;
    uint64_t behind; // bytes that wait behind streamed bodies
    void *private_;  // connection.c's own: handshake, counters, client properties
};

// Ends the connection with connection.close; `method` is what caused it, 0: none. The text goes out as
// "CODE_NAME - text", as RabbitMQ's do.
void connection_error(struct connection *c, enum reply code, uint32_t method, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void connection_pause(struct connection *c);
void connection_resume(struct connection *c); // reading goes on from the loop, never from inside this call
void connection_wrote(struct connection *c);  // `out` has grown: it will be written before the loop blocks

// ---- channel.c
// A command: a method, and its content when it has one. Views are valid during the call.
struct command {
    const struct method *method;
    struct view properties; // of the content
    struct view body;       // in one piece: as it came, or gathered
    bool claimed;           // body is a ticket
    uint64_t claimed_length;
};

// When `closed` is set (after channel_basic_release and channel_tx_release), the connection may be gone: nothing but
// channel_release may be done with it.
struct channel {
    struct connection *connection;
    uint16_t number;
    uint32_t references; // the connection's, and one each publish whose callback is to come
    bool closed;         // only references are left
    bool close_sent;     // waits for close-ok: everything else is dropped
    bool confirms, transactional;
    struct session *session;
    struct channel_basic *basic; // on_basic*.c's own: consumers, confirms, prefetch
    struct channel_tx *tx;       // on_tx.c's own
    char last_queue[256];        // declared last: what an empty queue name means
    struct buf *behind;          // a body is being streamed: what is said comes after it; NULL: none is
    void *private_;              // channel.c's own: content being gathered
};

// Ends the channel with channel.close: "CODE_NAME - text".
void channel_error(struct channel *ch, enum reply code, uint32_t method, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
// channel_error or connection_error by what an engine error means: NOT_FOUND 404, CONFLICT 406, LOCKED 405, FORBIDDEN
// 403, INVALID 406, UNSUPPORTED 540, LIMIT and TOO_LARGE 406 …
void channel_fail(struct channel *ch, uint32_t method, const struct error *e);
void channel_send(struct channel *ch, const struct method *m); // an answer, at once
// An answer that must not be seen before what was done is durable: pauses the connection until then.
void channel_send_durable(struct channel *ch, const struct method *m);
// basic.deliver, get-ok with a claimed body (or return): streamed out of the data store. What the channel sends
// meanwhile waits behind it.
void channel_send_claimed(struct channel *ch, const struct method *m, struct view properties, const uint8_t *ticket,
                          uint64_t length);
// Where a channel writes what it has to say, and tells that it did.
static inline struct buf *channel_out(struct channel *ch) { return ch->behind ? ch->behind : &ch->connection->out; }
void channel_wrote_behind(struct channel *ch);
static inline void channel_wrote(struct channel *ch) {
    if (ch->behind) channel_wrote_behind(ch);
    else connection_wrote(ch->connection);
}
void channel_hold(struct channel *ch);    // another reference
void channel_release(struct channel *ch); // frees it with the last

// ---- on_*.c: each takes the commands of its class; made by channel.c for every channel
void on_exchange(struct channel *ch, const struct command *c);
void on_queue(struct channel *ch, const struct command *c);
void on_basic(struct channel *ch, const struct command *c);
void on_confirm(struct channel *ch, const struct command *c);
void on_tx(struct channel *ch, const struct command *c);
void channel_basic_init(struct channel *ch);    // makes session and basic
void channel_basic_release(struct channel *ch); // the channel ends: consumers, held messages
void channel_tx_release(struct channel *ch);
// deliver_fn and ended_fn of the session are on_basic's. Once a pass of the loop, after the engine was driven and
// before sockets are written: publishes that the engine had no room for are tried again, then gathered confirms are
// sent.
void publishes_retry(struct amqp *a);
void confirms_flush(struct amqp *a);
// For amqp_each_channel and amqp_each_consumer: fill in what the commands know. `of` has connection, vhost and user.
void channel_basic_info(const struct channel *ch, struct amqp_channel_info *out); // consumers … redelivered
void channel_each_consumer(struct channel *ch, const struct amqp_consumer_info *of,
                           void (*each)(void *arg, const struct amqp_consumer_info *), void *arg);

// ---- server.c
struct amqp {
    struct amqp_options o;
    struct list connections;
    struct list confirming; // channels with confirms to send
    struct list holding;    // channels with a publish that the engine had no room for
    struct list uploading;  // uploads that wait for their turn (upload.c)
    // consumers, published … redelivered are counted by on_*.c, the rest by server and connection
    struct amqp_stats stats;
    struct map reply_queues; // direct reply-to: token -> channel (on_reply_to.c)
    bool blocked;            // the engine refuses publishes
    struct list writing;     // connections with output
    struct list resuming;    // connections that may be read on
    struct list ending;      // connections with closed channels to be released
    struct loop_post wake;   // amqp_wake
    char cluster_name[80];   // "barid@host"
    void *private_;          // server.c's own: listeners, TLS, timers
};

#endif
