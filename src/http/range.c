// Parsing of Range: bytes=first-last | bytes=first- | bytes=-suffix.
#include "http/range.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

// Digits at *at; false when there are none or they overflow.
static bool number(const char **at, uint64_t *out) {
    const char *s = *at;
    uint64_t v = 0;
    if (*s < '0' || *s > '9') return false;
    for (; *s >= '0' && *s <= '9'; s++) {
        uint64_t digit = (uint64_t)(*s - '0');
        if (v > (UINT64_MAX - digit) / 10) return false;
        v = v * 10 + digit;
    }
    *at = s;
    *out = v;
    return true;
}

static enum range suffix(const char *s, uint64_t total, uint64_t *first, uint64_t *last) {
    uint64_t n;
    if (!number(&s, &n) || *s != '\0') return RANGE_WHOLE;
    if (n == 0 || total == 0) return RANGE_UNSATISFIABLE;
    *first = n >= total ? 0 : total - n;
    *last = total - 1;
    return RANGE_PART;
}

enum range range_parse(const char *text, uint64_t total, uint64_t *first, uint64_t *last) {
    if (strncasecmp(text, "bytes=", 6) != 0) return RANGE_WHOLE;
    const char *s = text + 6;
    if (*s == '-') return suffix(s + 1, total, first, last);
    uint64_t from, to = UINT64_MAX;
    if (!number(&s, &from) || *s++ != '-') return RANGE_WHOLE;
    if (*s != '\0' && (!number(&s, &to) || *s != '\0' || to < from)) return RANGE_WHOLE;
    if (from >= total) return RANGE_UNSATISFIABLE;
    *first = from;
    *last = to < total ? to : total - 1;
    return RANGE_PART;
}
