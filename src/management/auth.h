// Who calls: Basic auth, through access.
#ifndef BARID_MANAGEMENT_AUTH_H
#define BARID_MANAGEMENT_AUTH_H

struct call;

// Sets c->user and calls `next`, later; or answers 401 (429 after too many wrong ones).
void auth_check(struct call *c, void (*next)(struct call *c));

#endif
