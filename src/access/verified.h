// Which name and password were found right or wrong a short while ago, so that the many connections of one user, and a
// program that tries the same wrong password over and over, cost one argon2id each few minutes. Kept is a keyed hash of
// the two, with a key of this process alone. Bounded: the one unused longest gives way.
#ifndef BARID_ACCESS_VERIFIED_H
#define BARID_ACCESS_VERIFIED_H

#include <stdbool.h>
#include <stdint.h>

#define VERIFIED_KEY 32

struct io;
struct verified;

struct verified *verified_new(struct io *io); // for its clock
void verified_free(struct verified *v);
void verified_key(const struct verified *v, const char *user, const char *password, uint8_t out[static VERIFIED_KEY]);

enum verdict_known { VERIFIED_UNKNOWN, VERIFIED_RIGHT, VERIFIED_WRONG };
enum verdict_known verified_get(struct verified *v, const uint8_t key[static VERIFIED_KEY]);
void verified_put(struct verified *v, const uint8_t key[static VERIFIED_KEY], const char *user, bool right);
void verified_forget(struct verified *v, const char *user); // what was said about this user

#endif
