#include "engine/topic_trie.h"

#include "base/assert.h"
#include "engine/memory.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct node {
    struct node *parent;
    struct node **children; // sorted by word
    uint32_t n_children, cap_children;
    void **values;
    uint32_t n_values, cap_values;
    uint64_t stamp; // in which step it was last put into the active set
    uint32_t globs; // children whose word is a glob
    bool many;      // its word is "#"
    bool glob;      // there is a * in its longer word
    uint8_t length;
    char word[]; // not terminated
};

struct topic_trie {
    struct node *root;
    uint64_t stamp;
    bool globs;
    struct node **active, **next; // scratch of match
    uint32_t n_active, cap_active, n_next, cap_next;
};

static struct node *node_new(struct node *parent, const char *word, size_t length) {
    ASSERT(length <= 255);
    struct node *n = memory_zero(sizeof *n + length);
    n->parent = parent;
    n->length = (uint8_t)length;
    memcpy(n->word, word, length);
    n->many = parent && length == 1 && word[0] == '#';
    n->glob = length > 1 && memchr(word, '*', length);
    return n;
}

static void node_free(struct node *n) {
    for (uint32_t i = 0; i < n->n_children; i++) node_free(n->children[i]);
    free(n->children);
    free(n->values);
    free(n);
}

struct topic_trie *topic_trie_new(void) {
    struct topic_trie *t = memory_zero(sizeof *t);
    t->root = node_new(NULL, "", 0);
    return t;
}

void topic_trie_free(struct topic_trie *t) {
    if (!t) return;
    node_free(t->root);
    free(t->active);
    free(t->next);
    free(t);
}

void topic_trie_globs(struct topic_trie *t) { t->globs = true; }

static int word_compare(const struct node *n, const char *word, size_t length) {
    size_t shared = n->length < length ? n->length : length;
    int order = memcmp(n->word, word, shared);
    if (order) return order;
    return n->length < length ? -1 : n->length > length;
}

// Where the child is, or where it belongs.
static uint32_t child_place(const struct node *n, const char *word, size_t length, bool *found) {
    uint32_t low = 0, high = n->n_children;
    *found = false;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = word_compare(n->children[middle], word, length);
        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return low;
}

static struct node *child_get(const struct node *n, const char *word, size_t length) {
    bool found;
    uint32_t at = child_place(n, word, length, &found);
    return found ? n->children[at] : NULL;
}

static struct node *child_make(struct node *n, const char *word, size_t length) {
    bool found;
    uint32_t at = child_place(n, word, length, &found);
    if (found) return n->children[at];
    ROOM_FOR_ONE(n->children, n->n_children, n->cap_children);
    memmove(&n->children[at + 1], &n->children[at], (n->n_children - at) * sizeof *n->children);
    n->n_children++;
    struct node *child = n->children[at] = node_new(n, word, length);
    n->globs += child->glob;
    return child;
}

// The next word of *text; NULL after the last. An empty text has one empty word, as in AMQP.
static const char *next_word(const char **text, size_t *length) {
    const char *word = *text;
    if (!word) return NULL;
    const char *dot = strchr(word, '.');
    *length = dot ? (size_t)(dot - word) : strlen(word);
    *text = dot ? dot + 1 : NULL;
    return word;
}

void topic_trie_add(struct topic_trie *t, const char *pattern, void *value) {
    struct node *n = t->root;
    size_t length;
    for (const char *word; (word = next_word(&pattern, &length));) n = child_make(n, word, length);
    for (uint32_t i = 0; i < n->n_values; i++)
        if (n->values[i] == value) return;
    ROOM_FOR_ONE(n->values, n->n_values, n->cap_values);
    n->values[n->n_values++] = value;
}

static void prune(struct node *n) {
    while (n->parent && n->n_children == 0 && n->n_values == 0) {
        struct node *parent = n->parent;
        bool found;
        uint32_t at = child_place(parent, n->word, n->length, &found);
        ASSERT(found);
        memmove(&parent->children[at], &parent->children[at + 1],
                (parent->n_children - at - 1) * sizeof *parent->children);
        parent->n_children--;
        parent->globs -= n->glob;
        node_free(n);
        n = parent;
    }
}

void topic_trie_remove(struct topic_trie *t, const char *pattern, void *value) {
    struct node *n = t->root;
    size_t length;
    for (const char *word; n && (word = next_word(&pattern, &length));) n = child_get(n, word, length);
    if (!n) return;
    for (uint32_t i = 0; i < n->n_values; i++) {
        if (n->values[i] != value) continue;
        n->values[i] = n->values[--n->n_values];
        break;
    }
    prune(n);
}

// Puts n into the next active set, and the # below it too: # may stand for no word at all.
static void enter(struct topic_trie *t, struct node *n) {
    while (n && n->stamp != t->stamp) {
        n->stamp = t->stamp;
        ROOM_FOR_ONE(t->next, t->n_next, t->cap_next);
        t->next[t->n_next++] = n;
        n = child_get(n, "#", 1);
    }
}

static void step(struct topic_trie *t) {
    struct node **nodes = t->active;
    uint32_t cap = t->cap_active;
    t->active = t->next;
    t->n_active = t->n_next;
    t->cap_active = t->cap_next;
    t->next = nodes;
    t->n_next = 0;
    t->cap_next = cap;
    t->stamp++;
}

// After a * that did not work out it goes back to the last one only: what came before it matched already.
static bool glob_matches(const struct node *n, const char *word, size_t length) {
    size_t p = 0, w = 0, star = SIZE_MAX, from = 0;
    while (w < length) {
        if (p < n->length && n->word[p] == '*') {
            star = p++;
            from = w;
        } else if (p < n->length && n->word[p] == word[w]) {
            p++;
            w++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            w = ++from;
        } else {
            return false;
        }
    }
    while (p < n->length && n->word[p] == '*') p++;
    return p == n->length;
}

static void enter_globs(struct topic_trie *t, const struct node *n, const char *word, size_t length) {
    for (uint32_t i = 0; i < n->n_children; i++)
        if (n->children[i]->glob && glob_matches(n->children[i], word, length)) enter(t, n->children[i]);
}

void topic_trie_match(struct topic_trie *t, const char *key, void (*each)(void *arg, void *value), void *arg) {
    size_t length;
    step(t);
    t->n_next = 0;
    enter(t, t->root);
    for (const char *word; (word = next_word(&key, &length));) {
        step(t);
        for (uint32_t i = 0; i < t->n_active; i++) {
            struct node *n = t->active[i];
            if (n->many) enter(t, n);
            enter(t, child_get(n, "*", 1));
            // A key may itself contain a lone * or #: it is a word like others and matches only * and #.
            bool wild = length == 1 && (word[0] == '*' || word[0] == '#');
            if (!wild) enter(t, child_get(n, word, length));
            if (t->globs && n->globs > 0) enter_globs(t, n, word, length);
        }
    }
    for (uint32_t i = 0; i < t->n_next; i++)
        for (uint32_t v = 0; v < t->next[i]->n_values; v++) each(arg, t->next[i]->values[v]);
}
