#include "access/verified.h"

#include "base/assert.h"
#include "base/io.h"
#include "base/list.h"
#include "base/map.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES_MAX 16384
#define VALID_MS    (UINT64_C(5) * 60 * 1000)

struct entry {
    struct list_node used; // the one used last at the end
    uint8_t key[VERIFIED_KEY];
    uint64_t user; // keyed hash of the name
    uint64_t until_ms;
    bool right;
};
struct verified {
    struct io *io;
    struct map by_key;
    struct list used;
    uint8_t secret[crypto_generichash_KEYBYTES];
    uint8_t name_secret[crypto_shorthash_KEYBYTES];
};

struct verified *verified_new(struct io *io) {
    struct verified *v = calloc(1, sizeof *v);
    if (v == NULL) die("out of memory");
    v->io = io;
    map_init(&v->by_key, 0); // the keys are hashed with a secret already
    list_init(&v->used);
    randombytes_buf(v->secret, sizeof v->secret);
    crypto_shorthash_keygen(v->name_secret);
    return v;
}

static void entry_drop(struct verified *v, struct entry *x) {
    map_remove(&v->by_key, x->key, sizeof x->key);
    list_remove(&x->used);
    free(x);
}

void verified_free(struct verified *v) {
    if (v == NULL) return;
    LIST_EACH_SAFE(&v->used, at)
    entry_drop(v, LIST_ITEM(at, struct entry, used));
    map_release(&v->by_key);
    sodium_memzero(v, sizeof *v);
    free(v);
}

void verified_key(const struct verified *v, const char *user, const char *password, uint8_t out[static VERIFIED_KEY]) {
    crypto_generichash_state s;
    crypto_generichash_init(&s, v->secret, sizeof v->secret, VERIFIED_KEY);
    crypto_generichash_update(&s, (const uint8_t *)user, strlen(user) + 1); // the end of it keeps the two apart
    crypto_generichash_update(&s, (const uint8_t *)password, strlen(password));
    crypto_generichash_final(&s, out, VERIFIED_KEY);
}

static uint64_t name_hash(const struct verified *v, const char *user) {
    uint64_t hash;
    crypto_shorthash((uint8_t *)&hash, (const uint8_t *)user, strlen(user), v->name_secret);
    return hash;
}

static uint64_t now_ms(const struct verified *v) { return io_monotonic_ns(v->io) / 1000000; }

enum verdict_known verified_get(struct verified *v, const uint8_t key[static VERIFIED_KEY]) {
    struct entry *x = map_get(&v->by_key, key, VERIFIED_KEY);
    if (x == NULL) return VERIFIED_UNKNOWN;
    if (x->until_ms <= now_ms(v)) {
        entry_drop(v, x);
        return VERIFIED_UNKNOWN;
    }
    list_remove(&x->used);
    list_push_back(&v->used, &x->used);
    return x->right ? VERIFIED_RIGHT : VERIFIED_WRONG;
}

void verified_put(struct verified *v, const uint8_t key[static VERIFIED_KEY], const char *user, bool right) {
    struct entry *x = map_get(&v->by_key, key, VERIFIED_KEY);
    if (x != NULL) entry_drop(v, x);
    if (v->by_key.len >= ENTRIES_MAX) entry_drop(v, LIST_ITEM(list_first(&v->used), struct entry, used));
    x = calloc(1, sizeof *x);
    if (x == NULL) die("out of memory");
    memcpy(x->key, key, sizeof x->key);
    x->user = name_hash(v, user);
    x->until_ms = now_ms(v) + VALID_MS;
    x->right = right;
    if (!map_put(&v->by_key, x->key, sizeof x->key, x)) die("out of memory");
    list_push_back(&v->used, &x->used);
}

void verified_forget(struct verified *v, const char *user) {
    uint64_t hash = name_hash(v, user);
    LIST_EACH_SAFE(&v->used, at) {
        struct entry *x = LIST_ITEM(at, struct entry, used);
        if (x->user == hash) entry_drop(v, x);
    }
}
