// What is stored of a password, and whether a password fits it.
//
//   argon2id                        $argon2id$v=19$m=19456,t=2,p=1$salt$hash      made here
//   rabbit_password_hashing_sha256  base64(salt[4] + sha256(salt + password))     came with a definitions file
//   rabbit_password_hashing_sha512  base64(salt[4] + sha512(salt + password))
//
// Making and verifying take tens of milliseconds and 19 MiB: they are for the pool (hasher.h).
#ifndef BARID_ACCESS_HASH_H
#define BARID_ACCESS_HASH_H

#include "base/error.h"

#include <stdbool.h>

#define HASH_MAX      256 // with its end
#define PASSWORD_MAX  1024
#define HASH_ARGON2ID "argon2id"

// Is this a hash that can be verified, at a bearable price? ERR_INVALID with the field it is about, else.
enum err hash_check(const char *algorithm, const char *hash, struct error *e);
// False: no memory for it.
bool hash_make(const char *password, char out[static HASH_MAX]);
// hash NULL: there is none, or no such user. Whatever the algorithm and the outcome, it takes as long as argon2id.
bool hash_verify(const char *algorithm, const char *hash, const char *password);

#endif
