// Patterns of names; see name_pattern.h. Steps bound one match, time bounds all of them.
#include "management/name_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TEXT_MAX    1024
#define MATCH_LIMIT 10000 // steps from one place in the name
#define HEAP_LIMIT  1024  // KiB
#define NESTING_MAX 64
#define TIME_MS     200

struct name_pattern {
    pcre2_code *code;
    pcre2_match_context *limits;
    pcre2_match_data *match;
    uint64_t until_ms;
    bool gave_up;
};

static uint64_t now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static pcre2_code *compile(const char *text) {
    int error;
    size_t at;
    pcre2_compile_context *c = pcre2_compile_context_create(NULL);
    if (c == NULL) return NULL;
    pcre2_set_max_pattern_length(c, TEXT_MAX);
    pcre2_set_parens_nest_limit(c, NESTING_MAX);
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)text, strlen(text), PCRE2_CASELESS | PCRE2_NEVER_BACKSLASH_C, &error, &at, c);
    pcre2_compile_context_free(c);
    return code;
}

struct name_pattern *name_pattern_new(const char *text) {
    struct name_pattern *p = calloc(1, sizeof *p);
    if (p == NULL) return NULL;
    p->code = compile(text);
    p->limits = pcre2_match_context_create(NULL);
    p->match = pcre2_match_data_create(1, NULL);
    p->until_ms = now_ms() + TIME_MS;
    if (p->code == NULL || p->limits == NULL || p->match == NULL) {
        name_pattern_free(p);
        return NULL;
    }
    pcre2_set_match_limit(p->limits, MATCH_LIMIT);
    pcre2_set_heap_limit(p->limits, HEAP_LIMIT);
    return p;
}

void name_pattern_free(struct name_pattern *p) {
    if (p == NULL) return;
    pcre2_code_free(p->code);
    pcre2_match_context_free(p->limits);
    pcre2_match_data_free(p->match);
    free(p);
}

bool name_pattern_matches(struct name_pattern *p, const char *name) {
    if (p->gave_up || now_ms() >= p->until_ms) {
        p->gave_up = true;
        return false;
    }
    int n = pcre2_match(p->code, (PCRE2_SPTR)name, strlen(name), 0, 0, p->match, p->limits);
    p->gave_up = n < 0 && n != PCRE2_ERROR_NOMATCH;
    return n >= 0;
}

bool name_pattern_gave_up(const struct name_pattern *p) { return p->gave_up; }
