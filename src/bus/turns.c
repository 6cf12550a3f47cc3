#include "bus/turns.h"

#include <stdlib.h>
#include <string.h>

struct turn_key {
    struct turn *first;
    struct list waiting;
    size_t length;
    char text[];
};

void turns_init(struct turns *t, uint64_t seed) { map_init(&t->keys, seed); }

void turns_release(struct turns *t) {
    ASSERT(t->keys.len == 0);
    map_release(&t->keys);
}

static struct turn_key *key_get(struct turns *t, const char *text) {
    size_t length = strlen(text);
    struct turn_key *k = map_get(&t->keys, text, length);
    if (k) return k;
    k = calloc(1, sizeof *k + length);
    if (!k) die("out of memory");
    list_init(&k->waiting);
    k->length = length;
    memcpy(k->text, text, length);
    if (!map_put(&t->keys, k->text, length, k)) die("out of memory");
    return k;
}

bool turns_add(struct turns *t, struct turn *v, const char *key) {
    if (!key || key[0] == 0) return true;
    v->key = key_get(t, key);
    if (v->key->first) {
        list_push_back(&v->key->waiting, &v->node);
        return false;
    }
    v->key->first = v;
    return true;
}

struct turn *turns_leave(struct turns *t, struct turn *v) {
    struct turn_key *k = v->key;
    if (!k) return NULL;
    v->key = NULL;
    if (k->first != v) {
        list_remove(&v->node);
        return NULL;
    }
    struct list_node *next = list_pop_front(&k->waiting);
    if (next) return k->first = LIST_ITEM(next, struct turn, node);
    map_remove(&t->keys, k->text, k->length);
    free(k);
    return NULL;
}
