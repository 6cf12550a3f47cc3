// The keeper: finds a server that was away, and listens to notices, on a thread of its own. See postgres_listen.c.
#ifndef BARID_DATABASE_POSTGRES_LISTEN_H
#define BARID_DATABASE_POSTGRES_LISTEN_H

#include "database/database.h"

struct postgres_health;
struct postgres_listener;

// The url is copied; the health is the pool's and must outlive the listener.
struct postgres_listener *postgres_listener_new(struct loop *loop, const char *url, struct postgres_health *health);
void postgres_listener_free(struct postgres_listener *l);
// On the loop thread.
enum err postgres_listener_add(struct postgres_listener *l, const char *channel, database_notice_fn *fn, void *arg,
                               struct error *e);
void postgres_listener_remove(struct postgres_listener *l, const char *channel, database_notice_fn *fn, void *arg);
enum database_notices postgres_listener_state(struct postgres_listener *l);

#endif
