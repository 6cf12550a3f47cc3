// Who listens to what. The listener's thread puts notices in, the loop hands them out.
//
// Equal notices without a payload are one; when more wait than there is room for, the rest is forgotten and those who
// listen are told to look for themselves.
#include "database/postgres_notices.h"

#include "base/assert.h"
#include "base/loop.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define WAITING_MAX 4096

struct channel {
    struct channel *next;
    char name[CHANNEL_NAME_MAX + 1];
    unsigned listeners;
    bool told;   // the server has been told to listen
    bool missed; // NULL is to be told
    bool empty;  // a notice without payload is to be told
};

struct notice {
    struct notice *next;
    struct channel *channel;
    char payload[];
};

struct listener {
    struct listener *next;
    struct channel *channel;
    database_notice_fn *fn;
    void *arg;
    bool gone;
};

// What is posted to the loop; outlives its owner when it is still on its way.
struct relay {
    struct loop_post post;
    struct postgres_notices *notices; // NULL once they are gone
};

struct postgres_notices {
    struct loop *loop;
    struct relay *relay;
    struct listener *listeners; // the loop's
    bool telling;

    pthread_mutex_t mutex; // guards what follows
    struct channel *channels;
    unsigned channel_count, waiting;
    struct notice *head, **tail;
    bool posting;
};

static struct channel *find(struct postgres_notices *n, const char *name) {
    struct channel *c = n->channels;
    while (c && strcmp(c->name, name) != 0) c = c->next;
    return c;
}

// With the mutex held.
static void post(struct postgres_notices *n) {
    if (n->posting) return;
    n->posting = true;
    loop_post(n->loop, &n->relay->post);
}

// ---- the loop's side

static void sweep(struct postgres_notices *n) {
    for (struct listener **at = &n->listeners; *at;) {
        struct listener *l = *at;
        if (!l->gone) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        free(l);
    }
}

// Those who are added while it is being told hear the next one.
static void tell(struct postgres_notices *n, const struct channel *c, const char *payload) {
    for (struct listener *l = n->listeners; l; l = l->next)
        if (l->channel == c && !l->gone) l->fn(l->arg, payload);
}

static struct notice *take_waiting(struct postgres_notices *n) {
    struct notice *head = n->head;
    n->head = NULL;
    n->tail = &n->head;
    n->waiting = 0;
    return head;
}

// A channel stays until nobody listens and nothing is told, so its pointer holds meanwhile.
static void tell_flags(struct postgres_notices *n) {
    for (;;) {
        bool missed = false, empty = false;
        pthread_mutex_lock(&n->mutex);
        struct channel *c = n->channels;
        while (c && !c->missed && !c->empty) c = c->next;
        if (c) {
            missed = c->missed;
            empty = c->empty && !missed;
            c->missed = c->empty = false;
        }
        pthread_mutex_unlock(&n->mutex);
        if (!c) return;
        if (missed) tell(n, c, NULL);
        if (empty) tell(n, c, "");
    }
}

static void drop_unused_channels(struct postgres_notices *n) {
    pthread_mutex_lock(&n->mutex);
    for (struct channel **at = &n->channels; *at && !n->head;) {
        struct channel *c = *at;
        if (c->listeners || c->told) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        n->channel_count--;
        free(c);
    }
    pthread_mutex_unlock(&n->mutex);
}

static void deliver(struct postgres_notices *n) {
    pthread_mutex_lock(&n->mutex);
    struct notice *waiting = take_waiting(n);
    n->posting = false;
    pthread_mutex_unlock(&n->mutex);
    n->telling = true;
    tell_flags(n);
    while (waiting) {
        struct notice *one = waiting;
        waiting = one->next;
        tell(n, one->channel, one->payload);
        free(one);
    }
    n->telling = false;
    sweep(n);
    drop_unused_channels(n);
}

static void relay_run(struct loop_post *p) {
    struct relay *r = (struct relay *)p;
    if (r->notices) deliver(r->notices);
    else free(r);
}

struct postgres_notices *postgres_notices_new(struct loop *loop) {
    struct postgres_notices *n = calloc(1, sizeof *n);
    struct relay *r = calloc(1, sizeof *r);
    if (!n || !r) die("no memory for notices");
    *r = (struct relay){.post.fn = relay_run, .notices = n};
    *n = (struct postgres_notices){.loop = loop, .relay = r};
    n->tail = &n->head;
    pthread_mutex_init(&n->mutex, NULL);
    return n;
}

void postgres_notices_free(struct postgres_notices *n) {
    ASSERT(!n->telling);
    n->relay->notices = NULL;
    if (!n->posting) free(n->relay);
    for (struct listener *l = n->listeners; l; l = l->next) l->gone = true;
    sweep(n);
    for (struct notice *one = take_waiting(n), *next; one; one = next) {
        next = one->next;
        free(one);
    }
    for (struct channel *c = n->channels, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    pthread_mutex_destroy(&n->mutex);
    free(n);
}

static bool is_plain(const char *name) {
    size_t n = strlen(name);
    return n > 0 && n <= CHANNEL_NAME_MAX && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == n;
}

static struct channel *channel_new(struct postgres_notices *n, const char *name) {
    struct channel *c = calloc(1, sizeof *c);
    if (!c) die("no memory for notices");
    memcpy(c->name, name, strlen(name));
    c->next = n->channels;
    n->channels = c;
    n->channel_count++;
    return c;
}

enum err postgres_notices_add(struct postgres_notices *n, const char *channel, database_notice_fn *fn, void *arg,
                              struct error *e) {
    if (!is_plain(channel)) return error_set(e, ERR_INVALID, "a channel is a plain identifier in lower case");
    pthread_mutex_lock(&n->mutex);
    struct channel *c = find(n, channel);
    bool room = c || n->channel_count < CHANNELS_MAX;
    if (!c && room) c = channel_new(n, channel);
    if (c) c->listeners++;
    if (c && c->told) {
        c->missed = true;
        post(n);
    }
    pthread_mutex_unlock(&n->mutex);
    if (!room) return error_set(e, ERR_LIMIT, "no more than %d channels are listened to", CHANNELS_MAX);
    struct listener *l = calloc(1, sizeof *l);
    if (!l) die("no memory for notices");
    *l = (struct listener){.next = n->listeners, .channel = c, .fn = fn, .arg = arg};
    n->listeners = l;
    return ERR_OK;
}

void postgres_notices_remove(struct postgres_notices *n, const char *channel, database_notice_fn *fn, void *arg) {
    struct listener *l = n->listeners;
    while (l && (l->gone || l->fn != fn || l->arg != arg || strcmp(l->channel->name, channel) != 0)) l = l->next;
    if (!l) return;
    l->gone = true;
    pthread_mutex_lock(&n->mutex);
    l->channel->listeners--;
    pthread_mutex_unlock(&n->mutex);
    if (!n->telling) sweep(n);
}

// ---- the listener's side

bool postgres_notices_are_wanted(struct postgres_notices *n) {
    pthread_mutex_lock(&n->mutex);
    struct channel *c = n->channels;
    while (c && !c->listeners) c = c->next;
    pthread_mutex_unlock(&n->mutex);
    return c != NULL;
}

bool postgres_notices_next_change(struct postgres_notices *n, char name[CHANNEL_NAME_MAX + 1], bool *listen) {
    pthread_mutex_lock(&n->mutex);
    struct channel *c = n->channels;
    while (c && c->told == (c->listeners > 0)) c = c->next;
    if (c) {
        memcpy(name, c->name, sizeof c->name);
        *listen = c->listeners > 0;
    }
    pthread_mutex_unlock(&n->mutex);
    return c != NULL;
}

void postgres_notices_changed(struct postgres_notices *n, const char *name, bool listens) {
    pthread_mutex_lock(&n->mutex);
    struct channel *c = find(n, name);
    if (c) {
        c->told = listens;
        c->missed = listens;
        post(n);
    }
    pthread_mutex_unlock(&n->mutex);
}

void postgres_notices_disconnected(struct postgres_notices *n) {
    pthread_mutex_lock(&n->mutex);
    for (struct channel *c = n->channels; c; c = c->next) c->told = false;
    pthread_mutex_unlock(&n->mutex);
}

void postgres_notices_missed(struct postgres_notices *n) {
    pthread_mutex_lock(&n->mutex);
    for (struct channel *c = n->channels; c; c = c->next) c->missed = true;
    post(n);
    pthread_mutex_unlock(&n->mutex);
}

// With the mutex held.
static void put(struct postgres_notices *n, struct channel *c, const char *payload) {
    size_t size = strlen(payload) + 1;
    if (size == 1) {
        c->empty = true;
        return;
    }
    struct notice *one = n->waiting < WAITING_MAX ? malloc(sizeof *one + size) : NULL;
    if (!one) {
        c->missed = true;
        return;
    }
    one->next = NULL;
    one->channel = c;
    memcpy(one->payload, payload, size);
    *n->tail = one;
    n->tail = &one->next;
    n->waiting++;
}

void postgres_notices_put(struct postgres_notices *n, const char *name, const char *payload) {
    pthread_mutex_lock(&n->mutex);
    struct channel *c = find(n, name);
    if (c) {
        put(n, c, payload);
        post(n);
    }
    pthread_mutex_unlock(&n->mutex);
}
