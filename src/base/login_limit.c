#include "base/login_limit.h"

#include "base/assert.h"
#include "base/io.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>

#define SETS      512
#define WAYS      8
#define WINDOW_MS (5 * 60 * 1000)
#define SOON_S    1 // when those under way have been answered

struct slot {
    uint64_t key; // keyed hash of the name; 0: free
    uint64_t since_ms;
    uint32_t failures, under_way;
};
struct login_limit {
    struct io *io;
    uint8_t hash_key[crypto_shorthash_KEYBYTES];
    struct slot slots[SETS][WAYS];
};

enum limit_of { LIMIT_USER_AT_ADDRESS, LIMIT_USER, LIMIT_ADDRESS, LIMITS };

// An address may stand for a whole office, whose people may well come to work at the same time.
static const struct limit {
    uint32_t failures;
    bool at_once; // attempts under way count
} limits[LIMITS] = {[LIMIT_USER_AT_ADDRESS] = {10, true}, [LIMIT_USER] = {100, true}, [LIMIT_ADDRESS] = {50, false}};

struct login_limit *login_limit_new(struct io *io) {
    struct login_limit *l = calloc(1, sizeof *l);
    ASSERT(l != NULL);
    l->io = io;
    crypto_shorthash_keygen(l->hash_key);
    return l;
}

void login_limit_free(struct login_limit *l) { free(l); }

static uint64_t now_ms(const struct login_limit *l) { return io_monotonic_ns(l->io) / 1000000; }

static uint64_t key_of(struct login_limit *l, enum limit_of of, const char *user_id, const char *address) {
    char text[512];
    int n = snprintf(text, sizeof text, "%d %s %s", (int)of, of == LIMIT_ADDRESS ? "" : user_id,
                     of == LIMIT_USER ? "" : address);
    if ((size_t)n >= sizeof text) n = sizeof text - 1;
    uint64_t key;
    crypto_shorthash((unsigned char *)&key, (unsigned char *)text, (size_t)n, l->hash_key);
    return key == 0 ? 1 : key;
}

// The slot of the key; with `claim` one is made, else NULL when there is none or its window is over.
static struct slot *find(struct login_limit *l, uint64_t key, bool claim) {
    struct slot *set = l->slots[key % SETS], *oldest = &set[0];
    uint64_t now = now_ms(l);
    for (int i = 0; i < WAYS; i++) {
        bool over = set[i].key != 0 && now - set[i].since_ms >= WINDOW_MS;
        if (over) set[i] = (struct slot){0};
        if (set[i].key == key) return &set[i];
        if (set[i].since_ms < oldest->since_ms) oldest = &set[i];
    }
    if (!claim) return NULL;
    *oldest = (struct slot){.key = key, .since_ms = now};
    return oldest;
}

static uint32_t wait_of(struct login_limit *l, enum limit_of of, uint64_t key) {
    const struct slot *s = find(l, key, false);
    if (s == NULL || s->failures + (limits[of].at_once ? s->under_way : 0) < limits[of].failures) return 0;
    if (s->failures < limits[of].failures) return SOON_S;
    uint64_t left = WINDOW_MS - (now_ms(l) - s->since_ms);
    return (uint32_t)((left + 999) / 1000);
}

uint32_t login_limit_enter(struct login_limit *l, const char *user_id, const char *address) {
    uint64_t keys[LIMITS];
    uint32_t longest = 0;
    for (int of = 0; of < LIMITS; of++) {
        keys[of] = key_of(l, (enum limit_of)of, user_id, address);
        uint32_t wait = wait_of(l, (enum limit_of)of, keys[of]);
        if (wait > longest) longest = wait;
    }
    for (int of = 0; of < LIMITS && longest == 0; of++) find(l, keys[of], true)->under_way++;
    return longest;
}

// Its slot may have been taken by another meanwhile.
void login_limit_leave(struct login_limit *l, const char *user_id, const char *address, enum login_outcome outcome) {
    for (int of = 0; of < LIMITS; of++) {
        struct slot *s = find(l, key_of(l, (enum limit_of)of, user_id, address), outcome == LOGIN_WRONG);
        if (s == NULL) continue;
        if (s->under_way > 0) s->under_way--;
        if (outcome == LOGIN_WRONG) s->failures++;
        if (outcome == LOGIN_RIGHT && of == LIMIT_USER_AT_ADDRESS) s->failures = 0;
        if (s->failures + s->under_way == 0) *s = (struct slot){0};
    }
}
