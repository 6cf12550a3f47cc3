#include "chat/media_name.h"

#include "base/utf8.h"

#include <string.h>

static bool token_char(char c) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) return true;
    return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static const char *skip_token(const char *at) {
    const char *end = at;
    while (token_char(*end)) end++;
    return end > at ? end : NULL;
}

bool media_type_valid(const char *text) {
    if (strlen(text) > MEDIA_TYPE_MAX) return false;
    const char *at = skip_token(text);
    if (at == NULL || *at != '/') return false;
    at = skip_token(at + 1);
    if (at == NULL) return false;
    if (*at == '\0') return true;
    while (*at == ' ') at++;
    if (*at != ';') return false;
    for (; *at != '\0'; at++)
        if (*at < ' ' || *at > '~') return false;
    return true;
}

static const char *base_name(const char *name) {
    const char *base = name;
    for (const char *at = name; *at != '\0'; at++)
        if (*at == '/' || *at == '\\') base = at + 1;
    while (*base == '.' || *base == ' ') base++;
    return base;
}

// Cut before a character of UTF-8 that would not fit whole.
static size_t fitting(const char *text, size_t n) {
    if (n <= MEDIA_NAME_MAX) return n;
    n = MEDIA_NAME_MAX;
    while (n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80) n--;
    return n;
}

void media_name_clean(const char *name, char out[static MEDIA_NAME_MAX + 1]) {
    out[0] = '\0';
    if (name == NULL || !utf8_valid(name, strlen(name))) return;
    const char *base = base_name(name);
    size_t n = fitting(base, strlen(base));
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)base[i];
        bool bad = c < ' ' || c == 0x7f || strchr("\"<>|:*?", c) != NULL;
        out[i] = bad ? '_' : (char)c;
    }
    while (n > 0 && (out[n - 1] == ' ' || out[n - 1] == '.')) n--;
    out[n] = '\0';
}
