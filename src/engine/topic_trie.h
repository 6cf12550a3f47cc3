// Topic patterns as a trie: "a.*.#" matches "a.b", "a.b.c.d". Words are separated by dots; * is exactly one
// word, # any number of words, none included.
//
// In a trie of globs a longer word with * in it matches any letters in the star's place: "message_*", "*ed".
//
// Matching walks the key's words once with the set of trie nodes that are still possible, so its cost is bounded
// by words × nodes whatever the patterns are (no backtracking).
#ifndef BARID_ENGINE_TOPIC_TRIE_H
#define BARID_ENGINE_TOPIC_TRIE_H

struct topic_trie;

struct topic_trie *topic_trie_new(void);
void topic_trie_free(struct topic_trie *t);
void topic_trie_globs(struct topic_trie *t); // from now on, those that are there already too
// The same pattern may be added for many values; pattern and value together are added once.
void topic_trie_add(struct topic_trie *t, const char *pattern, void *value);
void topic_trie_remove(struct topic_trie *t, const char *pattern, void *value);
// Calls `each` once per matching (pattern, value).
void topic_trie_match(struct topic_trie *t, const char *key, void (*each)(void *arg, void *value), void *arg);

#endif
