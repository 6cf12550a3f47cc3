// Failed log-ins are counted per user and per address, in windows of five minutes; past the limit nothing is tried.
// The table is bounded: a newer failure takes the place of the oldest of its set.
#ifndef BARID_CHAT_LOGIN_LIMIT_H
#define BARID_CHAT_LOGIN_LIMIT_H

#include "chat/internal.h"

enum limit_of { LIMIT_USER, LIMIT_ADDRESS };

struct login_limit *login_limit_new(struct chat *c);
void login_limit_free(struct login_limit *l);
// Seconds until it may be tried again; 0: now.
uint32_t login_limit_wait(struct login_limit *l, enum limit_of of, const char *who);
void login_limit_failed(struct login_limit *l, enum limit_of of, const char *who);
void login_limit_clear(struct login_limit *l, enum limit_of of, const char *who); // it was the right password

#endif
