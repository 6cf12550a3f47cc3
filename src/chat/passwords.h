// Password hashing (argon2id) on the loop's pool: at most two at once, since each takes 19 MiB for tens of
// milliseconds, and a bounded queue behind them.
#ifndef BARID_CHAT_PASSWORDS_H
#define BARID_CHAT_PASSWORDS_H

#include "chat/internal.h"

#define PASSWORD_MIN  8
#define PASSWORD_MAX  1024
#define PASSWORD_HASH 128

struct passwords *passwords_new(struct chat *c);
void passwords_free(struct passwords *p);
// ok: made, or verified. `hash` is the one made, else NULL. Also called when the service is closing, with false:
// what waited for the password must be let go of.
typedef void password_fn(void *arg, bool ok, const char *hash);
enum err password_make(struct passwords *p, const char *password, password_fn *done, void *arg);
// hash NULL: there is no such user; takes as long, and is never ok.
enum err password_verify(struct passwords *p, const char *password, const char *hash, password_fn *done, void *arg);

#endif
