// The device's WebSocket to the service (libwebsockets on the libuv loop): connects, says hello with the cursor,
// and when it breaks connects again with full jitter, for ever.
//
// Requests are answered exactly once, never from inside the call, by the service, after ANSWER_TIMEOUT_MS, or when
// the socket goes down; then with status 0. All on the loop thread.
#ifndef BARID_CLIENT_UPLINK_H
#define BARID_CLIENT_UPLINK_H

#include "client/answer.h"

struct loop;
struct uplink;

#define UPLINK_REQUESTS_MAX 1024

struct uplink_events {
    uint64_t (*cursor)(void *arg); // asked at every connect: replay after it
    void (*opened)(void *arg);
    // After every pending request was answered. It connects again after retry_ms.
    void (*closed)(void *arg, const char *why, uint32_t retry_ms);
    void (*frame)(void *arg, const json_t *frame);   // whatever is no answer
    void (*ended)(void *arg, const struct error *e); // turned away for good: wrong token, replaced
    void *arg;
};

// Strings are copied. The first connect is begun at once.
enum err uplink_new(struct uplink **out, struct loop *loop, struct io *io, const char *server, const char *token,
                    const struct uplink_events *events, struct error *e);
// Closes the socket; turns the loop a little to let it. Outside loop_run only. Calls nothing any more.
void uplink_free(struct uplink *u);

typedef void uplink_answer_fn(void *arg, struct answer *a); // `a` is released afterwards
// Takes over `frame`. False: not connected, or too many pending; nothing will be called. `crash`: a crash point to
// pass once the frame is written, or NULL.
bool uplink_request(struct uplink *u, json_t *frame, const char *crash, uplink_answer_fn *done, void *arg);
void uplink_say(struct uplink *u, json_t *frame); // no answer wanted; takes over `frame`
bool uplink_busy(const struct uplink *u);         // something is still to be written or answered

#endif
