// UTF-8 validation: runs of ASCII eight bytes at a time, anything else by the ranges of RFC 3629, section 4.
#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

static size_t ascii_run(const uint8_t *s, size_t n) {
    size_t at = 0;
    for (uint64_t word; n - at >= sizeof word; at += sizeof word) {
        memcpy(&word, s + at, sizeof word);
        if (word & UINT64_C(0x8080808080808080)) break;
    }
    while (at < n && s[at] < 0x80) at++;
    return at;
}

static bool continuation(uint8_t c) { return (c & 0xC0) == 0x80; }

// The length of the well-formed sequence that begins with the non-ASCII byte s[0]; 0 when there is none.
static size_t sequence(const uint8_t *s, size_t n) {
    uint8_t first = s[0];
    size_t need = first >= 0xC2 && first <= 0xDF   ? 2
                  : (first & 0xF0) == 0xE0         ? 3
                  : first >= 0xF0 && first <= 0xF4 ? 4
                                                   : 0;
    if (need == 0 || n < need) return 0;
    uint8_t low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    uint8_t high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (s[1] < low || s[1] > high) return 0;
    for (size_t i = 2; i < need; i++)
        if (!continuation(s[i])) return 0;
    return need;
}

bool utf8_valid(const void *data, size_t len) {
    const uint8_t *s = data;
    size_t at = 0;
    while (at < len) {
        at += ascii_run(s + at, len - at);
        if (at == len) break;
        size_t n = sequence(s + at, len - at);
        if (n == 0) return false;
        at += n;
    }
    return true;
}

size_t utf8_whole(const char *text, size_t len) {
    for (size_t less = 0; less < 4 && less <= len; less++)
        if (utf8_valid(text, len - less)) return len - less;
    return len;
}
