// Token buckets and connection counts.
#include "http/limits.h"

#include <stdlib.h>
#include <string.h>

#define RATE_SLOTS  4096 // a power of two
#define RATE_PROBES 8

bool rates_init(struct rates *r, uint32_t per_second) {
    r->slots = calloc(RATE_SLOTS, sizeof *r->slots);
    r->per_second = per_second;
    r->burst = 2.0 * per_second;
    return r->slots != NULL;
}

void rates_release(struct rates *r) {
    free(r->slots);
    r->slots = NULL;
}

// FNV-1a: spread, not secrecy; a collision only shares a bucket.
uint64_t rates_key(const void *data, size_t n) {
    const uint8_t *bytes = data;
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < n; i++) h = (h ^ bytes[i]) * 1099511628211u;
    return h != 0 ? h : 1;
}

static struct rate *find(struct rates *r, uint64_t key, uint64_t now_ms) {
    uint64_t at = key * 0x9E3779B97F4A7C15u >> 52;
    struct rate *oldest = NULL;
    for (uint64_t i = 0; i < RATE_PROBES; i++) {
        struct rate *slot = &r->slots[(at + i) & (RATE_SLOTS - 1)];
        if (slot->key == key) return slot;
        if (oldest == NULL || slot->at_ms < oldest->at_ms) oldest = slot;
    }
    *oldest = (struct rate){.key = key, .at_ms = now_ms, .tokens = r->burst};
    return oldest;
}

bool rates_take(struct rates *r, uint64_t key, uint64_t now_ms) {
    struct rate *slot = find(r, key, now_ms);
    double gained = (double)(now_ms - slot->at_ms) * r->per_second / 1000.0;
    slot->tokens = slot->tokens + gained < r->burst ? slot->tokens + gained : r->burst;
    slot->at_ms = now_ms;
    if (slot->tokens < 1.0) return false;
    slot->tokens -= 1.0;
    return true;
}

struct address_count {
    uint32_t connections;
    char address[48];
};

void addresses_init(struct address_counts *a, uint64_t seed) { map_init(&a->map, seed); }

void addresses_release(struct address_counts *a) {
    size_t at = 0;
    struct address_count *c;
    while ((c = map_next(&a->map, &at)) != NULL) free(c);
    map_release(&a->map);
}

bool addresses_enter(struct address_counts *a, const char *address, uint32_t max) {
    size_t n = strlen(address);
    struct address_count *c = map_get(&a->map, address, n);
    if (c == NULL) {
        c = calloc(1, sizeof *c);
        if (c == NULL || n >= sizeof c->address) {
            free(c);
            return false;
        }
        memcpy(c->address, address, n + 1);
        if (!map_put(&a->map, c->address, n, c)) {
            free(c);
            return false;
        }
    }
    if (c->connections >= max) return false;
    c->connections++;
    return true;
}

void addresses_leave(struct address_counts *a, const char *address) {
    struct address_count *c = map_get(&a->map, address, strlen(address));
    if (c == NULL || --c->connections > 0) return;
    map_remove(&a->map, address, strlen(address));
    free(c);
}

bool address_is_loopback(const char *address) {
    if (strncmp(address, "::ffff:", 7) == 0) address += 7;
    return strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0;
}
