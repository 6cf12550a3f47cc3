// What the files below the commands share beside internal.h: a connection as the sockets see it (bytes in, bytes out,
// a tick now and then), and its own state.
//
//   bytes ─► connection_input ─► frame ─► channel 0: handshake.c      ┐
//                                        channel n: channel.c, on_*.c ├─► c->out ─► connection_wrote
//   time  ─► connection_tick (heartbeat.c)                            ┘
//
// A connection knows no socket: tests drive it with bytes alone.
#ifndef BARID_AMQP_CORE_H
#define BARID_AMQP_CORE_H

#include "amqp/internal.h"

#include <stdarg.h>

// Where a connection stands, in the order in which it goes on.
enum stage {
    STAGE_PROTOCOL, // waits for the protocol header
    STAGE_START,    // … for start-ok
    STAGE_LOGIN,    // … for access_login
    STAGE_TUNE,     // … for tune-ok
    STAGE_OPEN,     // … for connection.open
    STAGE_RUNNING,
    STAGE_CLOSING, // we sent connection.close and wait for close-ok
    STAGE_SILENT,  // refused: nothing is said for a while, so that guessing is slow
    STAGE_DONE,    // nothing is read any more; the socket may go when `out` is written
};

#define FRAME_EARLY_MAX 8192 // until it is agreed on: who has not logged in costs little
#define CLOSE_OK_MS     10000
#define SILENT_MS       3000
#define OUT_MAX         (UINT64_C(1) << 32) // far beyond what OUT_HIGH and OUT_STOP allow
#define OUT_STOP        (16u << 20)         // a client that does not read its answers is not asked for more
#define TEXT_REPLY_MAX  255

// How a connection came to us. Copied.
struct connection_peer {
    char peer_host[46], host[46];
    uint16_t peer_port, port;
    bool loopback;
};

// What TLS agreed on; `common_name` of the client's certificate, "" without one.
struct connection_tls {
    char protocol[16], cipher[48], common_name[128];
};

struct login; // a log-in under way (handshake.c)

struct connection_core {
    struct connection *connection; // whose core this is
    enum stage stage;
    char *name; // "127.0.0.1:51234 -> 127.0.0.1:5672"
    struct connection_peer peer;
    struct connection_tls *tls; // NULL: none
    void *socket;               // socket.c's own, NULL in tests
    char mechanism[16];         // of authentication, "" until start-ok
    struct login *login;        // NULL: none under way
    struct buf client_properties;

    int64_t connected_at_ms; // wall clock
    uint64_t received_bytes, sent_bytes, received_frames, sent_frames;
    uint64_t in_flight; // bytes taken from `out` that the system has not taken yet

    // heartbeat.c: all in the milliseconds that connection_tick is given, 0: not yet known
    uint64_t deadline_ms, heard_ms, spoke_ms, consumers_checked_ms;
    uint64_t heard_bytes, spoke_bytes; // received_bytes and sent_bytes when that was noted

    struct list gathering; // channels whose content has begun and leads into the input
    struct list_node of_writing, of_resuming, of_ending;
    struct list streams;    // bodies on their way out: the first is being read
    uint32_t uploads;       // bodies on their way in
    bool published;         // has published something ever
    bool unseen;            // … and has not looked into a queue since
    bool told_blocked;      // connection.blocked was sent
    bool waits_unblocked;   // paused with a publish in front while the broker is blocked
    bool out_high;          // its sessions are paused
    bool out_stopped;       // more than OUT_STOP waits to be written
    bool ended;             // its channels have been released
    uint32_t open_channels; // channels that are there
};

static inline struct connection_core *core_of(const struct connection *c) { return c->private_; }

// ---- connection.c, as the sockets see it
struct connection *connection_new(struct amqp *a, const struct connection_peer *peer); // NULL: no memory
void connection_free(struct connection *c);                                            // the socket is gone
void connection_secured(struct connection *c, const struct connection_tls *tls);       // before any input
// Bytes came from the network: counted for heartbeats, whatever becomes of them.
void connection_heard(struct connection *c, size_t n);
// Takes what can be taken: whole frames, unless the connection is paused. The rest is to be given again, with more.
size_t connection_input(struct connection *c, const uint8_t *data, size_t n);
bool connection_reads(const struct connection *c); // false: nothing would be taken now
// `sent` more bytes went to the network, `in_flight` of what was taken from `out` wait for it.
void connection_sent(struct connection *c, size_t sent, uint64_t in_flight);
bool connection_done(const struct connection *c); // close the socket once `out` is written
void connection_tick(struct connection *c, uint64_t now_ms);

// ---- connection.c, as the rest sees it
void connection_send(struct connection *c, uint16_t channel, const struct method *m);
void connection_finish(struct connection *c); // STAGE_DONE
void connection_silence(struct connection *c);
void connection_end_later(struct connection *c); // closed channels are released when nobody uses them any more
void connection_end(struct connection *c);       // … which is now
void connection_blocked(struct connection *c, const char *reason); // NULL: not any more
const char *reply_name(enum reply code);                           // "NOT_FOUND"
// "NOT_FOUND - no queue …", cut to what a short string holds, never inside a UTF-8 character.
struct view reply_text(char out[static TEXT_REPLY_MAX + 1], enum reply code, const char *format, va_list args);

// ---- handshake.c
void on_connection(struct connection *c, const struct method *m);
size_t on_protocol_header(struct connection *c, const uint8_t *data, size_t n); // bytes consumed
void login_abandon(struct connection *c);

// ---- sasl.c: who is it, by the mechanism's response? False: it cannot be read. Views lead into the response.
bool sasl_plain(struct view response, struct view *user, struct view *password);
bool sasl_amqplain(struct view response, struct view *user, struct view *password);

// ---- channel.c, as the connection sees it
bool channel_frame(struct connection *c, const struct frame *f); // false: not taken, give it again later
bool channel_waits(struct channel *ch, uint32_t id); // this method has to wait for what was published: it is not taken
void channel_keep_content(struct connection *c);     // what leads into the input is copied
void channel_release_closed(struct channel *ch);     // after channel_error: session and all
void channel_end(struct channel *ch);                // takes it off the connection
void channel_flow(struct channel *ch);               // pauses or resumes its session
void channel_check_consumers(struct channel *ch, uint64_t now_ms);

// The channel alone is closed, whatever the code.
void channel_give_up(struct channel *ch, enum reply code, uint32_t method, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void channel_uploaded(struct channel *ch, const uint8_t *ticket); // its content is complete
void channel_streamed(struct channel *ch);                        // no body is on its way out any more
struct list *channel_streams(struct channel *ch);

// ---- upload.c: a large body comes in
struct upload;
struct upload *upload_new(struct channel *ch, uint32_t method, uint64_t bytes);
void upload_body(struct upload *u, struct view part); // the next part of it
void upload_free(struct upload *u);
void uploads_retry(struct amqp *a); // those that wait for their turn

// ---- stream.c: large bodies go out
void streams_pump(struct connection *c);       // there may be room in `out`
bool stream_begun(struct channel *ch);         // a part of a body was sent: nothing may come in between
void streams_drop_unbegun(struct channel *ch); // what was said after them is kept
void streams_drop(struct channel *ch);

// ---- server.c
void amqp_wake(struct amqp *a); // another pass of the loop, and resumed connections are read on

// ---- socket.c
struct tcp;
void tcp_pump(struct tcp *s);                  // takes what was left unread, then reads on
void tcp_flush(struct tcp *s);                 // writes `out`
void tcp_next_turn(struct list_node *waiting); // a new pass has begun: reads again
void tcp_look(struct tcp *s);                  // tells the connection how much of a write under way is gone
void tcp_close(struct tcp *s);                 // frees the connection

#endif
