// One HTTP request, from its head to its answer.
//
// It is answered exactly once, from any later turn of the loop; it outlives its connection when the peer goes
// away first (`wsi` is NULL then, and the answer falls on the floor). It is freed when it is both answered and
// off its connection.
//
//   head ─> route, limits, length ─> session (chat_auth) ─┬─> body complete ─> handler ─> answer ─> written
//                                                          └─> handler (ROUTE_STREAM) ─> body as it comes …
#ifndef BARID_HTTP_REQUEST_H
#define BARID_HTTP_REQUEST_H

#include "chat/chat.h"
#include "http/json_in.h"
#include "http/routes.h"
#include "http/server.h"

struct request {
    struct http *http;
    struct list_node streaming; // in http's streams or polls
    struct conn *conn;
    struct lws *wsi; // NULL: the peer has gone
    const struct route *route;
    char param[ROUTE_PARAM_MAX];
    char path[256];
    bool head, keep_alive, has_length, reading_stopped;
    bool authenticated, body_complete, handled;
    bool unread;              // refused with some of its body to come
    bool answered;            // nothing more will be said; with `out` or a stream still being written
    uint64_t length;          // Content-Length
    uint64_t began_ms, taken; // body bytes so far
    struct chat_actor who;
    struct buf body;
    struct buf out; // head and body of the answer

    // A handler that streams sets these and `stream`. All run on the loop; gone() at most once.
    void *stream;
    void (*on_body)(struct request *r);  // more is in `body` (which it consumes), or body_complete is set
    bool (*on_write)(struct request *r); // the head is out and there is room; true when all is written
    void (*on_gone)(struct request *r);  // the peer has gone: let go, then request_release
};

// ---- called by the server's callbacks; a value other than 0 closes the connection
int request_begin(struct conn *c, struct lws *wsi, const char *path);
int request_body(struct request *r, const void *data, size_t n);
int request_body_end(struct request *r);
int request_writable(struct request *r);
void request_gone(struct request *r);

// ---- for handlers
bool request_header(struct request *r, enum lws_token_indexes token, char *out, size_t size); // false: not there
bool request_custom_header(struct request *r, const char *name, char *out, size_t size);
bool request_query(struct request *r, const char *name, char *out, size_t size);
json_t *request_json(struct request *r);                    // NULL: answered already
bool request_message_id(struct request *r, struct id *out); // the path's; false: answered already (404)
void request_stop_reading(struct request *r);
void request_go_on_reading(struct request *r);

// ---- answering (respond.c)
// Begins the answer's body; write into it, then request_answer. Content type JSON unless `type` says otherwise.
struct buf *request_out(struct request *r);
void request_answer(struct request *r, int status); // the body in request_out, JSON
void request_answer_as(struct request *r, int status, const char *type, const char *headers, const void *body,
                       size_t n); // headers: "Name: value\r\n…" or ""
void request_answer_stream(struct request *r, int status, const char *headers, uint64_t length); // then on_write
void request_fail(struct request *r, const struct error *e);
void request_fail_with(struct request *r, int status, const char *code, const char *reason, const char *headers);
void request_release(struct request *r); // an orphan whose work has ended without an answer
void request_want_write(struct request *r);
void requests_sweep(struct http *h); // once a second or so

// {"code":…, "field":…, "reason":…} for the error, its status, and Retry-After (0: none): shared with the socket.
int error_status(const struct error *e);
uint32_t error_retry_after(const struct error *e);
void error_write(struct buf *b, const char *key, const struct error *e);
void request_free_if_done(struct request *r);

#endif
