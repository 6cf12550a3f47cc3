#include "engine/present.h"

#include "base/map.h"
#include "engine/memory.h"

struct member {
    struct value_key key;
    uint64_t seq;
};

struct present {
    struct map by_key, by_seq;
};

struct present *present_new(uint64_t seed) {
    struct present *p = memory_zero(sizeof *p);
    map_init(&p->by_key, seed);
    map_init(&p->by_seq, seed);
    return p;
}

void present_free(struct present *p) {
    if (!p) return;
    size_t at = 0;
    for (struct member *m; (m = map_next(&p->by_seq, &at));) free(m);
    map_release(&p->by_key);
    map_release(&p->by_seq);
    free(p);
}

bool present_has(const struct present *p, const struct value_key *key) {
    return map_get(&p->by_key, key->bytes, sizeof key->bytes) != NULL;
}

void present_add(struct present *p, const struct value_key *key, uint64_t seq) {
    struct member *m = memory_new(sizeof *m);
    *m = (struct member){.key = *key, .seq = seq};
    if (!map_put(&p->by_key, m->key.bytes, sizeof m->key.bytes, m) || !map_put(&p->by_seq, &m->seq, sizeof m->seq, m))
        die("out of memory");
}

void present_remove(struct present *p, uint64_t seq) {
    struct member *m = map_remove(&p->by_seq, &seq, sizeof seq);
    if (!m) return;
    if (map_get(&p->by_key, m->key.bytes, sizeof m->key.bytes) == m)
        map_remove(&p->by_key, m->key.bytes, sizeof m->key.bytes);
    free(m);
}

bool present_lift(struct present *p, uint64_t seq, struct value_key *out) {
    struct member *m = p ? map_get(&p->by_seq, &seq, sizeof seq) : NULL;
    if (!m) return false;
    *out = m->key;
    present_remove(p, seq);
    return true;
}

void present_put_back(struct present *p, uint64_t seq, const struct value_key *key) {
    if (!present_has(p, key)) present_add(p, key, seq);
}
