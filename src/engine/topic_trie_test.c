// The trie against the definition of topic patterns.
#include "base/test.h"

#include "engine/topic_trie.h"

#define PATTERNS 200

// The definition, word by word, with backtracking.
static bool matches(const char *pattern, const char *key) {
    if (!pattern) return !key;
    const char *dot = strchr(pattern, '.');
    size_t n = dot ? (size_t)(dot - pattern) : strlen(pattern);
    const char *rest = dot ? dot + 1 : NULL;
    const char *key_dot = key ? strchr(key, '.') : NULL;
    const char *key_rest = key_dot ? key_dot + 1 : NULL;
    if (n == 1 && *pattern == '#') return matches(rest, key) || (key && matches(pattern, key_rest));
    if (!key) return false;
    size_t key_n = key_dot ? (size_t)(key_dot - key) : strlen(key);
    bool star = n == 1 && *pattern == '*';
    return (star || (n == key_n && memcmp(pattern, key, n) == 0)) && matches(rest, key_rest);
}

static void mark(void *arg, void *value) {
    (void)arg;
    (*(int *)value)++;
}

static bool one(const char *pattern, const char *key) {
    struct topic_trie *t = topic_trie_new();
    int hits = 0;
    topic_trie_add(t, pattern, &hits);
    topic_trie_match(t, key, mark, NULL);
    topic_trie_free(t);
    assert_true(hits <= 1);
    return hits == 1;
}

static void words_and_wildcards(void **state) {
    assert_true(one("a.b", "a.b"));
    assert_false(one("a.b", "a.b.c"));
    assert_true(one("a.*.c", "a.b.c"));
    assert_false(one("a.*", "a"));
    assert_true(one("a.#", "a"));
    assert_true(one("a.#", "a.b.c"));
    assert_true(one("#", ""));
    assert_true(one("#", "a.b"));
    assert_true(one("#.c.#", "a.b.c.d"));
    assert_true(one("*", ""));
    assert_false(one("", "a"));
    assert_true(one("", ""));
    assert_true(one("#.#.#", "a"));
}

static unsigned next(uint64_t *state, unsigned below) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(*state >> 33) % below;
}

static void words(uint64_t *state, const char *alphabet, char *out) {
    unsigned n = next(state, 6);
    for (unsigned i = 0; i < n; i++) {
        *out++ = alphabet[next(state, (unsigned)strlen(alphabet))];
        if (i + 1 < n) *out++ = '.';
    }
    *out = 0;
}

static void agrees_with_the_definition_while_patterns_come_and_go(void **unused) {
    uint64_t state = 7;
    static char patterns[PATTERNS][16];
    static int hits[PATTERNS];
    static bool in[PATTERNS];
    struct topic_trie *t = topic_trie_new();
    for (int i = 0; i < PATTERNS; i++) words(&state, "abc*#", patterns[i]);
    for (int round = 0; round < 20000; round++) {
        int i = (int)next(&state, PATTERNS);
        if (in[i]) topic_trie_remove(t, patterns[i], &hits[i]);
        else topic_trie_add(t, patterns[i], &hits[i]);
        in[i] = !in[i];
        char key[16];
        words(&state, "abcd", key);
        memset(hits, 0, sizeof hits);
        topic_trie_match(t, key, mark, NULL);
        for (int p = 0; p < PATTERNS; p++)
            if (hits[p] != (in[p] && matches(patterns[p], key)))
                fail_msg("pattern '%s', key '%s': %d", patterns[p], key, hits[p]);
    }
    topic_trie_free(t);
}

static void no_pattern_makes_matching_slow(void **state) {
    struct topic_trie *t = topic_trie_new();
    int hits = 0;
    char pattern[256] = "", key[256] = "";
    for (int i = 0; i < 60; i++) {
        strncat(pattern, i ? ".#.a" : "#.a", sizeof pattern - strlen(pattern) - 1);
        strncat(key, i ? ".a" : "a", sizeof key - strlen(key) - 1);
    }
    strncat(pattern, ".z", sizeof pattern - strlen(pattern) - 1);
    topic_trie_add(t, pattern, &hits);
    for (int i = 0; i < 100; i++) topic_trie_match(t, key, mark, NULL); // backtracking would not come to an end
    assert_int_equal(hits, 0);
    topic_trie_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_and_wildcards),
        cmocka_unit_test(agrees_with_the_definition_while_patterns_come_and_go),
        cmocka_unit_test(no_pattern_makes_matching_slow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
