#include "chat/token_cache.h"

#include "base/hex.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define TOKENS_MAX 16384

struct slot {
    struct list_node used; // the one used last at the end
    uint8_t hash[CHAT_HASH];
    struct session session;
};
struct token_cache {
    struct map by_hash, by_did;
    struct list used;
    uint64_t epoch;
};

struct token_cache *token_cache_new(struct chat *c) {
    struct token_cache *t = chat_alloc(sizeof *t);
    map_init(&t->by_hash, c->map_seed);
    map_init(&t->by_did, c->map_seed);
    list_init(&t->used);
    return t;
}

static void slot_drop(struct token_cache *t, struct slot *s) {
    map_remove(&t->by_hash, s->hash, sizeof s->hash);
    map_remove(&t->by_did, &s->session.actor.did, sizeof s->session.actor.did);
    list_remove(&s->used);
    free(s);
}

void token_cache_free(struct token_cache *t) {
    LIST_EACH_SAFE(&t->used, at)
    slot_drop(t, LIST_ITEM(at, struct slot, used));
    map_release(&t->by_hash);
    map_release(&t->by_did);
    free(t);
}

struct session *token_cache_get(struct token_cache *t, const uint8_t hash[CHAT_HASH], int64_t now) {
    struct slot *s = map_get(&t->by_hash, hash, CHAT_HASH);
    if (s == NULL) return NULL;
    if (s->session.expires_at <= now) {
        slot_drop(t, s);
        return NULL;
    }
    list_remove(&s->used);
    list_push_back(&t->used, &s->used);
    return &s->session;
}

void token_cache_put(struct token_cache *t, const uint8_t hash[CHAT_HASH], const struct session *session,
                     uint64_t epoch) {
    if (epoch != t->epoch) return;
    struct slot *s = map_get(&t->by_did, &session->actor.did, sizeof session->actor.did);
    if (s != NULL) slot_drop(t, s);
    if (t->by_hash.len >= TOKENS_MAX) slot_drop(t, LIST_ITEM(list_first(&t->used), struct slot, used));
    s = chat_alloc(sizeof *s);
    memcpy(s->hash, hash, sizeof s->hash);
    s->session = *session;
    if (!map_put(&t->by_hash, s->hash, sizeof s->hash, s) ||
        !map_put(&t->by_did, &s->session.actor.did, sizeof s->session.actor.did, s))
        die("out of memory");
    list_push_back(&t->used, &s->used);
}

uint64_t token_cache_epoch(const struct token_cache *t) { return t->epoch; }

void token_cache_drop(struct token_cache *t, int64_t did) {
    t->epoch++;
    struct slot *s = map_get(&t->by_did, &did, sizeof did);
    if (s != NULL) slot_drop(t, s);
}

void token_cache_clear(struct token_cache *t) {
    t->epoch++;
    LIST_EACH_SAFE(&t->used, at)
    slot_drop(t, LIST_ITEM(at, struct slot, used));
}

bool token_cache_knows(const struct token_cache *t, int64_t did) {
    return map_get(&t->by_did, &did, sizeof did) != NULL;
}

size_t token_cache_count(const struct token_cache *t) { return t->by_did.len; }

void token_cache_dids(const struct token_cache *t, int64_t *out) {
    LIST_EACH(&t->used, at) *out++ = LIST_ITEM(at, struct slot, used)->session.actor.did;
}

void token_cache_check(struct token_cache *t, int64_t did, const uint8_t hash[CHAT_HASH]) {
    struct slot *s = map_get(&t->by_did, &did, sizeof did);
    if (s != NULL && memcmp(s->hash, hash, CHAT_HASH) != 0) token_cache_drop(t, did);
}

bool secret_hash(const char *text, size_t n, uint8_t hash[CHAT_HASH]) {
    uint8_t secret[32];
    if (text == NULL || !hex_decode(text, n, secret, sizeof secret)) return false;
    crypto_generichash(hash, CHAT_HASH, secret, sizeof secret, NULL, 0);
    sodium_memzero(secret, sizeof secret);
    return true;
}

void secret_new(char text[static CHAT_TOKEN_TEXT], uint8_t hash[CHAT_HASH]) {
    uint8_t secret[32];
    randombytes_buf(secret, sizeof secret);
    hex_encode(secret, sizeof secret, text);
    crypto_generichash(hash, CHAT_HASH, secret, sizeof secret, NULL, 0);
    sodium_memzero(secret, sizeof secret);
}
