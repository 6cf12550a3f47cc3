// Which token is whose, for the tokens in use: bounded, the one unused longest gives way. Only a shortcut: what it
// does not know is asked of the database, and whatever ends a session takes its token out.
#ifndef BARID_CHAT_TOKEN_CACHE_H
#define BARID_CHAT_TOKEN_CACHE_H

#include "chat/internal.h"

struct session {
    struct chat_actor actor;
    int64_t expires_at;
    int64_t touch_at; // use after this time renews the session
};

struct token_cache *token_cache_new(struct chat *c);
void token_cache_free(struct token_cache *t);
// NULL: not known. The caller may move touch_at.
struct session *token_cache_get(struct token_cache *t, const uint8_t hash[CHAT_HASH], int64_t now);
// `epoch` is token_cache_epoch of before the database was asked: an answer from before a session ended is not kept.
void token_cache_put(struct token_cache *t, const uint8_t hash[CHAT_HASH], const struct session *s, uint64_t epoch);
uint64_t token_cache_epoch(const struct token_cache *t);
void token_cache_drop(struct token_cache *t, int64_t did);
void token_cache_clear(struct token_cache *t); // a session may have ended unheard
bool token_cache_knows(const struct token_cache *t, int64_t did);
size_t token_cache_count(const struct token_cache *t);
void token_cache_dids(const struct token_cache *t, int64_t *out); // token_cache_count of them
// This is the device's token, says the database: another one that is known has ended.
void token_cache_check(struct token_cache *t, int64_t did, const uint8_t hash[CHAT_HASH]);

// A secret as the database keeps it. False: not 64 hex digits.
bool secret_hash(const char *text, size_t n, uint8_t hash[CHAT_HASH]);
// A new secret, 256 random bits, and its hash.
void secret_new(char text[static CHAT_TOKEN_TEXT], uint8_t hash[CHAT_HASH]);

#endif
