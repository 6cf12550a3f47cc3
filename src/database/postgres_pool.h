// PostgreSQL's connections, each with a thread and a queue of its own: lanes for writing, and some for reading.
//
//   loop thread                          a lane's thread
//   push ── the lane's queue ──────────> a unit, its transaction; again after a deadlock or a lost connection
//   done()s, a lane's in order <──────── handed back after the commit
#ifndef BARID_DATABASE_POSTGRES_POOL_H
#define BARID_DATABASE_POSTGRES_POOL_H

#include "database/driver.h"

struct loop;
struct postgres_pool;

// On the loop thread, once a unit. `committed`: it took a commit.
typedef void postgres_pool_done_fn(void *arg, struct db_unit *u, unsigned commits);

// Makes no connection but the first, `first`, which is the pool's from then on; the url is copied.
struct postgres_pool *postgres_pool_new(struct loop *loop, const struct database_options *o, struct db *first,
                                        postgres_pool_done_fn *done, void *arg);
void postgres_pool_push(struct postgres_pool *p, struct db_unit *u);
// Finishes what was pushed and calls its done()s.
void postgres_pool_free(struct postgres_pool *p);
void postgres_pool_stats(struct postgres_pool *p, struct database_stats *out); // fills `again` and `connected`

// database_listen and its kin; the listening connection is made when the first listens.
enum err postgres_pool_listen(struct postgres_pool *p, const char *channel, database_notice_fn *fn, void *arg,
                              struct error *e);
void postgres_pool_unlisten(struct postgres_pool *p, const char *channel, database_notice_fn *fn, void *arg);
enum database_notices postgres_pool_notices(const struct postgres_pool *p);

#endif
