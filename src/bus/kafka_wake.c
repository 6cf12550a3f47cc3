// librdkafka's threads wake the loop: its queues call on_event when they were empty, which posts to the loop at most
// once until the loop has come to look. A post is all that crosses between the threads.
#include "bus/kafka.h"

#include "base/assert.h"

#include <stdatomic.h>
#include <stdlib.h>

struct kafka_wake {
    struct loop_post post;
    struct loop *loop;
    void (*fn)(void *arg); // NULL: free when the post comes
    void *arg;
    atomic_bool posted;
};

static void on_post(struct loop_post *p) {
    struct kafka_wake *w = LIST_ITEM(p, struct kafka_wake, post);
    if (!w->fn) {
        free(w);
        return;
    }
    atomic_store(&w->posted, false); // before looking: what comes from now on posts anew
    w->fn(w->arg);
}

struct kafka_wake *kafka_wake_new(struct loop *loop, void (*fn)(void *arg), void *arg) {
    struct kafka_wake *w = calloc(1, sizeof *w);
    if (!w) die("out of memory");
    w->post.fn = on_post;
    w->loop = loop;
    w->fn = fn;
    w->arg = arg;
    return w;
}

void kafka_wake_again(struct kafka_wake *w) {
    if (!atomic_exchange(&w->posted, true)) loop_post(w->loop, &w->post);
}

static void on_event(rd_kafka_t *rk, void *arg) { kafka_wake_again(arg); }

// What came before there was anybody to tell must be looked at too.
void kafka_wake_on(struct kafka_wake *w, rd_kafka_queue_t *queue) {
    rd_kafka_queue_cb_event_enable(queue, on_event, w);
    kafka_wake_again(w);
}

// The queue's lock is held while it calls; after this it does not call any more.
void kafka_wake_off(rd_kafka_queue_t *queue) { rd_kafka_queue_cb_event_enable(queue, NULL, NULL); }

void kafka_wake_free(struct kafka_wake *w) {
    w->fn = NULL;
    if (!atomic_exchange(&w->posted, true)) free(w);
}
