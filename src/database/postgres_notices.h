// Between the listener's thread and the loop: who listens to what, and what is to be told. See postgres_notices.c.
#ifndef BARID_DATABASE_POSTGRES_NOTICES_H
#define BARID_DATABASE_POSTGRES_NOTICES_H

#include "database/database.h"

#define CHANNEL_NAME_MAX 63
#define CHANNELS_MAX     64

struct postgres_notices;

struct postgres_notices *postgres_notices_new(struct loop *loop);
void postgres_notices_free(struct postgres_notices *n); // once the listener's thread has ended

// On the loop thread. ERR_INVALID for what is not a plain identifier, ERR_LIMIT beyond CHANNELS_MAX.
enum err postgres_notices_add(struct postgres_notices *n, const char *channel, database_notice_fn *fn, void *arg,
                              struct error *e);
void postgres_notices_remove(struct postgres_notices *n, const char *channel, database_notice_fn *fn, void *arg);

// On the listener's thread. Does anybody listen?
bool postgres_notices_are_wanted(struct postgres_notices *n);
// A channel that the server has to be told of: to listen, or no more. False: none.
bool postgres_notices_next_change(struct postgres_notices *n, char name[CHANNEL_NAME_MAX + 1], bool *listen);
// It has been told: who listens hears NULL.
void postgres_notices_changed(struct postgres_notices *n, const char *name, bool listens);
void postgres_notices_disconnected(struct postgres_notices *n); // the server knows of no channel any more
void postgres_notices_missed(struct postgres_notices *n);       // everybody hears NULL
void postgres_notices_put(struct postgres_notices *n, const char *name, const char *payload);

#endif
