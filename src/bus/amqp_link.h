// A connection to an AMQP broker with a thread of its own, which connects, logs in, keeps the heartbeat, and connects
// again with backoff for as long as the link is not stopped. rabbitmq-c blocks, so nothing of it is touched elsewhere.
//
//   loop                         the link's thread
//   role's queue (link's lock) ──> work ──> socket ──> frame ──> role's queue ──> loop_post ──> post
//
// What is done with the connection is its role's: the publisher (amqp_publish.c), or a group (amqp_group.c).
#ifndef BARID_BUS_AMQP_LINK_H
#define BARID_BUS_AMQP_LINK_H

#include "base/error.h"

#include <amqp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct io;
struct loop;
struct amqp_link;

#define AMQP_CHANNEL 1
#define AMQP_EVENTS  "barid.events"
#define AMQP_STOP_MS 5000

// What the URL says.
struct amqp_settings {
    char *text;      // that `info` points into
    char *exchange;  // "": the default exchange
    bool named;      // the exchange must exist
    char place[280]; // "host:port/vhost" for people
    struct amqp_connection_info info;
};
enum err amqp_settings_parse(struct amqp_settings *s, const char *url, struct error *e);
void amqp_settings_release(struct amqp_settings *s);

enum amqp_work { AMQP_WORK_DONE, AMQP_WORK_MORE, AMQP_WORK_LOST };

struct amqp_role {
    // On the thread. A false or LOST answer follows upon amqp_link_fail.
    bool (*ready)(void *role);
    enum amqp_work (*work)(void *role);
    bool (*frame)(void *role, const amqp_frame_t *f);
    void (*closed)(void *role, uint16_t code,
                   const char *text);             // the broker has closed the channel; NULL: nothing to do
    void (*blocked)(void *role, const char *why); // it takes nothing; what is under way is given up
    void (*lost)(void *role, const char *why);    // the connection is gone; also before the end
    bool (*idle)(void *role);                     // nothing is under way
    // On the loop.
    void (*post)(void *role);
    void (*ended)(void *role); // the thread has ended by amqp_link_stop, and the link is free
};

enum amqp_link_state { AMQP_OPENING, AMQP_UP, AMQP_BLOCKED, AMQP_AWAY };

enum err amqp_link_open(struct amqp_link **out, struct loop *loop, struct io *io, const struct amqp_settings *s,
                        const struct amqp_role *r, void *role, struct error *e);
void amqp_link_stop(struct amqp_link *l); // soon: what is under way has AMQP_STOP_MS; then `ended`
void amqp_link_end(struct amqp_link *l);  // now: stops, waits, calls `post` and `ended` before it returns

void amqp_link_lock(struct amqp_link *l);
void amqp_link_unlock(struct amqp_link *l);
enum amqp_link_state amqp_link_state(struct amqp_link *l); // under the lock
const char *amqp_link_why(struct amqp_link *l);            // under the lock; why it is not up
void amqp_link_wake(struct amqp_link *l);                  // from the loop: there is work
void amqp_link_post(struct amqp_link *l);                  // from the thread, under the lock: call `post` soon

// For roles, on the thread.
amqp_connection_state_t amqp_link_connection(struct amqp_link *l);
bool amqp_link_fail(struct amqp_link *l, const char *format, ...) __attribute__((format(printf, 2, 3))); // false
bool amqp_link_sent(struct amqp_link *l, int status);           // of a call that only sends
bool amqp_link_replied(struct amqp_link *l, const char *doing); // of the last call that waits for an answer
void amqp_link_proved(struct amqp_link *l);                     // it works: the next backoff starts small
// Durable; made if it is missing, otherwise taken as it is: an administrator may have made a quorum queue of it.
bool amqp_link_queue(struct amqp_link *l, const char *name, amqp_table_t arguments);
bool amqp_link_exchange(struct amqp_link *l, const struct amqp_settings *s); // is there, or is made

#endif
