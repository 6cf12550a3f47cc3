// This server among the others on the same PostgreSQL: a number, a lease by the database's clock that says it is up,
// and how far our own clock is from the database's.
//
// A server that keeps something on its own disk (the embedded bus, media as files) must be the only one: what it keeps
// the others would not see. It says so (`alone`), and whoever comes second is refused.
#ifndef BARID_CHAT_SERVERS_H
#define BARID_CHAT_SERVERS_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct database;
struct io;
struct loop;
struct servers;

struct servers_options {
    struct loop *loop;
    struct io *io; // the clock
    struct database *database;
    const char *name; // for people; of a server alone also who it is, so that after a crash it finds its place free
    bool alone;
    // The lease was lost for so long that somebody else may have taken the place: nothing more may be done.
    void (*lost)(void *arg, const struct error *e);
    void *arg;
};
// `joined` from a turn of the loop, once: ERR_LOCKED when another server does not allow it.
typedef void servers_joined_fn(void *arg, enum err err, const struct error *e);
struct servers *servers_join(const struct servers_options *o, servers_joined_fn *joined);
// After chat_free, before database_close. NULL is fine.
void servers_leave(struct servers *s);
int64_t servers_id(const struct servers *s); // from 1, once joined
// Milliseconds to be added to our clock, so that all servers have the time of the database, to a tenth of a second;
// measured with every renewal. NULL gives 0.
int64_t servers_clock(const struct servers *s);

#endif
