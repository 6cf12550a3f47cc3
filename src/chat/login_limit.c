#include "chat/login_limit.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define SETS      512
#define WAYS      8
#define WINDOW_MS (5 * 60 * 1000)

struct slot {
    uint64_t key; // keyed hash of the name; 0: free
    uint64_t since_ms;
    uint32_t failures;
};
struct login_limit {
    struct chat *chat;
    uint8_t hash_key[crypto_shorthash_KEYBYTES];
    struct slot slots[SETS][WAYS];
};

// An address may stand for a whole office.
static uint32_t limit_for(enum limit_of of) { return of == LIMIT_USER ? 10 : 50; }

struct login_limit *login_limit_new(struct chat *c) {
    struct login_limit *l = chat_alloc(sizeof *l);
    l->chat = c;
    crypto_shorthash_keygen(l->hash_key);
    return l;
}

void login_limit_free(struct login_limit *l) { free(l); }

static uint64_t key_of(struct login_limit *l, enum limit_of of, const char *who) {
    char text[128];
    size_t n = strnlen(who, sizeof text - 1);
    text[0] = (char)('0' + of);
    memcpy(text + 1, who, n);
    uint64_t key;
    crypto_shorthash((unsigned char *)&key, (unsigned char *)text, n + 1, l->hash_key);
    return key == 0 ? 1 : key;
}

// The slot of the key; with `claim` one is made, else NULL when there is none or its window is over.
static struct slot *find(struct login_limit *l, uint64_t key, bool claim) {
    struct slot *set = l->slots[key % SETS], *oldest = &set[0];
    uint64_t now = loop_now_ms(l->chat->loop);
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

uint32_t login_limit_wait(struct login_limit *l, enum limit_of of, const char *who) {
    struct slot *s = find(l, key_of(l, of, who), false);
    if (s == NULL || s->failures < limit_for(of)) return 0;
    uint64_t left = WINDOW_MS - (loop_now_ms(l->chat->loop) - s->since_ms);
    return (uint32_t)((left + 999) / 1000);
}

void login_limit_failed(struct login_limit *l, enum limit_of of, const char *who) {
    find(l, key_of(l, of, who), true)->failures++;
}

void login_limit_clear(struct login_limit *l, enum limit_of of, const char *who) {
    struct slot *s = find(l, key_of(l, of, who), false);
    if (s != NULL) *s = (struct slot){0};
}
