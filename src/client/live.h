// `barid listen`: the client while connected. Receives what comes, stores it, says so; sends what waits in the
// outbox, also what other processes of the profile put there; tells what was read. Everything resumes after a
// break from what the store says.
#ifndef BARID_CLIENT_LIVE_H
#define BARID_CLIENT_LIVE_H

#include "client/client.h"
#include "client/entry.h"
#include "client/store_inbox.h"

struct loop;
struct live;

struct live_events {
    void (*connected)(void *arg);
    void (*disconnected)(void *arg, const char *why, uint32_t retry_ms);
    void (*drained)(void *arg);                              // all that waited has been received and stored
    void (*message)(void *arg, const struct in_message *m);  // stored, for the first time
    void (*receipt)(void *arg, const struct entry *receipt); // stored, for the first time
    void (*outbox_changed)(void *arg);                       // look into the store
    void (*trouble)(void *arg, const char *text);            // something fails and will be tried again
    // ERR_OK: `once` and everything is done; else why it cannot go on.
    void (*ended)(void *arg, const struct error *e);
    void *arg;
};

struct live_options {
    struct client *client;
    struct loop *loop;
    struct io *downloads; // where media are saved
    const char *downloads_path;
    bool mark_read; // what is shown counts as read
    bool once;      // end when all that waited, here and there, is done
    struct live_events events;
};

enum err live_new(struct live **out, const struct live_options *o, struct error *e);
void live_free(struct live *l);          // after loop_run
void live_look(struct live *l);          // something was put into the outbox
void live_end_when_done(struct live *l); // as if `once` had been asked for

#endif
