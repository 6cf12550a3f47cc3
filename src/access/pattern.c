#include "access/pattern.h"

#include "base/assert.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMPILED_MAX 1024        // patterns compiled at once
#define MATCH_LIMIT  10000       // steps from one place in the name, which has at most 255
#define HEAP_LIMIT   1024        // KiB
#define NESTING_MAX  64          // brackets in brackets
#define RESULTS      (16 * 1024) // remembered; each has one place it can be at

struct pattern {
    char *text;
    uint32_t holds;
    uint64_t number; // never used again
    enum { SOME, ALL, NONE } kind;
    pcre2_code *code;      // NULL: not compiled now
    struct list_node used; // in `compiled`, the one used last at the end
};
struct result {
    uint8_t key[crypto_shorthash_siphashx24_BYTES]; // of pattern and name
    bool known, matches;
};
struct patterns {
    struct map by_text;
    struct list compiled;
    uint32_t compiled_count;
    uint64_t numbers;
    pcre2_compile_context *compiling;
    pcre2_match_context *matching;
    pcre2_match_data *match;
    uint8_t hash_key[crypto_shorthash_siphashx24_KEYBYTES];
    struct result *results;
};

struct patterns *patterns_new(void) {
    uint64_t seed;
    randombytes_buf(&seed, sizeof seed);
    struct patterns *p = calloc(1, sizeof *p);
    if (p == NULL) die("out of memory");
    map_init(&p->by_text, seed);
    list_init(&p->compiled);
    randombytes_buf(p->hash_key, sizeof p->hash_key);
    p->compiling = pcre2_compile_context_create(NULL);
    p->matching = pcre2_match_context_create(NULL);
    p->match = pcre2_match_data_create(1, NULL);
    p->results = calloc(RESULTS, sizeof *p->results);
    if (p->compiling == NULL || p->matching == NULL || p->match == NULL || p->results == NULL) die("out of memory");
    pcre2_set_max_pattern_length(p->compiling, PATTERN_MAX);
    pcre2_set_parens_nest_limit(p->compiling, NESTING_MAX);
    pcre2_set_match_limit(p->matching, MATCH_LIMIT);
    pcre2_set_heap_limit(p->matching, HEAP_LIMIT);
    return p;
}

void patterns_free(struct patterns *p) {
    if (p == NULL) return;
    ASSERT(p->by_text.len == 0);
    map_release(&p->by_text);
    pcre2_match_data_free(p->match);
    pcre2_match_context_free(p->matching);
    pcre2_compile_context_free(p->compiling);
    free(p->results);
    free(p);
}

static pcre2_code *compile(struct patterns *p, const char *text, int *error, size_t *at) {
    // Bytes, not characters, as RabbitMQ matches: a name is whatever the client says.
    return pcre2_compile((PCRE2_SPTR)text, strlen(text), PCRE2_NEVER_BACKSLASH_C, error, at, p->compiling);
}

enum err pattern_check(struct patterns *p, const char *field, const char *text, struct error *e) {
    int number;
    size_t at;
    char why[120] = "";
    if (strlen(text) > PATTERN_MAX) return error_field(e, field, "longer than %d bytes", PATTERN_MAX);
    pcre2_code *code = compile(p, text, &number, &at);
    if (code != NULL) {
        pcre2_code_free(code);
        return ERR_OK;
    }
    pcre2_get_error_message(number, (PCRE2_UCHAR *)why, sizeof why);
    return error_field(e, field, "is not a regular expression: %s, at byte %zu", why, at);
}

static void forget_code(struct patterns *p, struct pattern *x) {
    if (x->code == NULL) return;
    pcre2_code_free(x->code);
    x->code = NULL;
    list_remove(&x->used);
    p->compiled_count--;
}

struct pattern *pattern_hold(struct patterns *p, const char *text) {
    struct pattern *x = map_get(&p->by_text, text, strlen(text));
    if (x == NULL) {
        x = calloc(1, sizeof *x);
        if (x == NULL || (x->text = strdup(text)) == NULL) die("out of memory");
        x->number = ++p->numbers;
        x->kind = *text == '\0' ? NONE : strcmp(text, ".*") == 0 ? ALL : SOME;
        if (!map_put(&p->by_text, x->text, strlen(x->text), x)) die("out of memory");
    }
    x->holds++;
    return x;
}

void pattern_release(struct patterns *p, struct pattern *x) {
    if (x == NULL || --x->holds > 0) return;
    map_remove(&p->by_text, x->text, strlen(x->text));
    forget_code(p, x);
    free(x->text);
    free(x);
}

const char *pattern_text(const struct pattern *x) { return x->text; }

static bool need_code(struct patterns *p, struct pattern *x) {
    int number;
    size_t at;
    if (x->code != NULL) {
        list_remove(&x->used);
    } else {
        if (p->compiled_count >= COMPILED_MAX)
            forget_code(p, LIST_ITEM(list_first(&p->compiled), struct pattern, used));
        x->code = compile(p, x->text, &number, &at);
        if (x->code == NULL) return false;
        p->compiled_count++;
    }
    list_push_back(&p->compiled, &x->used);
    return true;
}

static bool match(struct patterns *p, struct pattern *x, const char *name, size_t n) {
    if (!need_code(p, x)) {
        log_event(LOG_ERROR, "pattern_unusable", "pattern", x->text, NULL);
        return false;
    }
    int rc = pcre2_match(x->code, (PCRE2_SPTR)name, n, 0, 0, p->match, p->matching);
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH)
        log_event(LOG_WARN, "pattern_too_costly", "pattern", x->text, "name", name, NULL);
    return rc >= 0;
}

bool pattern_matches(struct patterns *p, struct pattern *x, const char *name) {
    uint8_t text[sizeof x->number + 255], key[crypto_shorthash_siphashx24_BYTES];
    if (x->kind != SOME) return x->kind == ALL;
    size_t n = strlen(name);
    if (n > 255) return match(p, x, name, n); // no name of AMQP's
    memcpy(text, &x->number, sizeof x->number);
    memcpy(text + sizeof x->number, name, n);
    crypto_shorthash_siphashx24(key, text, sizeof x->number + n, p->hash_key);
    struct result *r = &p->results[(key[0] | (size_t)key[1] << 8) % RESULTS];
    if (!r->known || memcmp(r->key, key, sizeof key) != 0) {
        r->matches = match(p, x, name, n);
        r->known = true;
        memcpy(r->key, key, sizeof key);
    }
    return r->matches;
}
