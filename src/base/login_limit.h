// Log-in attempts that failed are counted in windows of five minutes: of a user at one address, of a user anywhere, and
// of an address. The first is the strict one, so that whoever tries somebody's password over and over locks out
// himself; the second is for many addresses that try together, the third for one that tries many users. What is being
// tried counts as failed until it is known, so that trying at once is no way around.
//
// The table is bounded: a newer attempt takes the place of the oldest of its set.
#ifndef BARID_BASE_LOGIN_LIMIT_H
#define BARID_BASE_LOGIN_LIMIT_H

#include <stdint.h>

struct io;
struct login_limit;

struct login_limit *login_limit_new(struct io *io); // for its clock
void login_limit_free(struct login_limit *l);
// 0: an attempt begins, and login_limit_leave ends it. Else the seconds until it may be tried again.
uint32_t login_limit_enter(struct login_limit *l, const char *user_id, const char *address);
enum login_outcome { LOGIN_RIGHT, LOGIN_WRONG, LOGIN_NOT_TRIED };
void login_limit_leave(struct login_limit *l, const char *user_id, const char *address, enum login_outcome outcome);

#endif
