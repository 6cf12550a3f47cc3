// The key of a binding; see bindings.h.
#include "management/bindings.h"

#include <stdio.h>
#include <string.h>

static bool plain(unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_' ||
           c == '.';
}

static size_t quote(const char *text, char *out) {
    static const char digits[] = "0123456789ABCDEF";
    size_t n = 0;
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (plain(c)) {
            out[n++] = (char)c;
        } else if (c == ' ') {
            out[n++] = '+';
        } else {
            out[n++] = '%';
            out[n++] = digits[c >> 4];
            out[n++] = digits[c & 15];
        }
    }
    out[n] = '\0';
    return n;
}

// FNV-1a of the encoded table: it only tells one binding from another with the same key.
static uint32_t hash(struct view table) {
    uint32_t h = 2166136261u;
    for (uint32_t i = 0; i < table.length; i++) h = (h ^ table.data[i]) * 16777619u;
    return h;
}

void binding_key(const struct binding_spec *b, char out[static BINDING_KEY_MAX]) {
    size_t n = quote(b->key, out); // 255 bytes, three times
    if (b->arguments.length > 0) snprintf(out + n, BINDING_KEY_MAX - n, "~%08x", hash(b->arguments));
    else if (n == 0) memcpy(out, "~", 2);
}
