// One WebSocket: /events, subprotocol barid.v1 (docs/http-api.md).
//
//   opened ─hello─> authenticating ─> attached (a chat_link) ─> … ─> closing ─> gone
//
// Closing: our close frame goes out behind what is queued, then we read on until the peer has answered or
// CLOSE_WAIT_MS are over; closing at once could take the frame back, were anything of the peer's unread.
//
// Frames out gather in `out` and go out together, once a turn of the loop: one send for however many frames. They
// are framed here and handed to libwebsockets as plain bytes, which spares it a writability round trip a frame.
//
// Bounds. Entries: chat's window, which asks in_flight. Answers: no more than CALLS_MAX requests are open, and
// nothing is read while more than OUT_PAUSE bytes wait. A peer that is silent for two pings, or that has taken
// nothing off a waiting queue for as long, is dead. The socket outlives its connection while calls are open.
#ifndef BARID_HTTP_SOCKET_H
#define BARID_HTTP_SOCKET_H

#include "chat/chat.h"
#include "http/json_in.h"
#include "http/server.h"

#define CALLS_MAX     256
#define OUT_PAUSE     (256 * 1024)
#define OUT_MAX       (8 * 1024 * 1024)
#define BAD_MAX       10
#define HELLO_MS      10000
#define CLOSE_WAIT_MS 2000 // for the peer's half of the closing handshake
#define REF_MAX       64

enum close_code {
    CLOSE_GOING_AWAY = 1001,
    CLOSE_UNSUPPORTED = 1003,
    CLOSE_TOO_BIG = 1009,
    CLOSE_ERROR = 1011,
    CLOSE_BAD_FRAMES = 4400,
    CLOSE_UNAUTHORIZED = 4401,
    CLOSE_NO_HELLO = 4408,
    CLOSE_REPLACED = 4409,
    CLOSE_SLOW = 4429,
};

enum socket_state { SOCKET_NEW, SOCKET_AUTHENTICATING, SOCKET_ATTACHED };

struct socket {
    struct http *http;
    struct lws *wsi; // NULL: gone
    struct list_node node, dirty;
    struct chat_link *link;
    struct chat_actor who;
    enum socket_state state;
    uint64_t after; // hello's
    struct buf in;  // a frame that came in pieces
    struct buf out;
    size_t with_lws; // bytes handed over of which some may still wait inside
    uint64_t heard_ms, wrote_ms, pinged_ms;
    unsigned calls; // requests (and the authentication) that will call back
    unsigned bad;
    bool reading_stopped, out_of_tokens, killed;
    int close_code; // not 0: our close frame is queued or sent
    uint64_t closing_ms;
    char address[ADDRESS_TEXT];
};

// A request frame under way.
struct socket_call {
    struct list_node node; // when kept for reuse
    struct socket *s;
    char kind[12];
    bool has_message_id;
    struct id message_id;
    char ref[REF_MAX * 6 + 3]; // as JSON, "" when there was none
};

// ---- from the server's callbacks
struct socket *socket_new(struct http *h, struct lws *wsi, const char *address);
void socket_receive(struct socket *s, const void *data, size_t n, bool binary);
void socket_writable(struct socket *s);
void socket_pong(struct socket *s);
int socket_peer_closes(struct socket *s);
void socket_gone(struct socket *s);

// ---- socket_out.c
struct buf *socket_frame(struct socket *s); // begin a text frame: write its JSON into the buffer …
void socket_frame_end(struct socket *s);    // … and queue it
void socket_flush(struct socket *s);
void sockets_flush(struct loop_idle *i); // all dirty ones, before the loop blocks
void socket_ping(struct socket *s);
void socket_close_frame(struct socket *s, int code, const char *reason);

// ---- socket.c
void socket_close(struct socket *s, int code, const char *reason); // soon; what is queued goes out first
void socket_review_reading(struct socket *s);                      // stop or go on reading, as the bounds say
void socket_call_began(struct socket *s);
void socket_call_ended(struct socket *s); // may free s
void sockets_sweep(struct http *h);
void sockets_close_all(struct http *h, int code, const char *reason);

// ---- socket_frames.c
void socket_frame_in(struct socket *s, const void *data, size_t n);
void socket_calls_release(struct http *h);
extern const struct chat_link_events socket_link_events;

#endif
