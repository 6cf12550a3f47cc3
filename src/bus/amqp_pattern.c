#include "bus/amqp_pattern.h"

#include <stdio.h>
#include <string.h>

bool amqp_pattern_bound(const char *pattern, char bound[256]) {
    bool globs = false;
    char *to = bound;
    for (const char *word = pattern;; word++) {
        size_t n = strcspn(word, ".");
        bool glob = n > 1 && memchr(word, '*', n);
        globs |= glob;
        if (glob) *to++ = '*';
        else {
            memcpy(to, word, n);
            to += n;
        }
        word += n;
        *to++ = *word;
        if (*word == 0) return globs;
    }
}

// A word against a word with stars.
static bool word_matches(const char *p, size_t pn, const char *w, size_t wn) {
    if (pn == 0) return wn == 0;
    if (*p != '*') return wn > 0 && *p == *w && word_matches(p + 1, pn - 1, w + 1, wn - 1);
    for (size_t skip = 0; skip <= wn; skip++)
        if (word_matches(p + 1, pn - 1, w + skip, wn - skip)) return true;
    return false;
}

// `pattern` and `topic` are at the beginning of a word, or NULL behind the last one.
static bool words_match(const char *pattern, const char *topic) {
    if (!pattern) return !topic;
    size_t pn = strcspn(pattern, ".");
    const char *pattern_next = pattern[pn] ? pattern + pn + 1 : NULL;
    if (pn == 1 && *pattern == '#') {
        for (;;) {
            if (words_match(pattern_next, topic)) return true;
            if (!topic) return false;
            topic = strchr(topic, '.');
            if (topic) topic++;
        }
    }
    if (!topic) return false;
    size_t tn = strcspn(topic, ".");
    const char *topic_next = topic[tn] ? topic + tn + 1 : NULL;
    return word_matches(pattern, pn, topic, tn) && words_match(pattern_next, topic_next);
}

bool amqp_pattern_matches(const char *pattern, const char *topic) { return words_match(pattern, topic); }
