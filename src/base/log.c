// logfmt lines, each written with a single write(2), so that lines of several threads never mix.
//
// Values come from anywhere, also from hostile clients. Quoted: anything empty or with a space, '=', '"', '\',
// a control character or a byte of 0x7f and above that is not part of valid UTF-8. Inside quotes newline, tab and
// the like are escaped, so a record is always one line and a key can never be forged.
#include "base/log.h"

#include "base/time.h"
#include "base/utf8.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096
#define TEXT_MAX       1024

struct line {
    char text[LINE_MAX_BYTES];
    size_t len;
};

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static atomic_int threshold = LOG_INFO;

void log_set_level(enum log_level level) { atomic_store(&threshold, (int)level); }

int log_level_parse(const char *text, enum log_level *out) {
    for (int i = LOG_DEBUG; i <= LOG_ERROR; i++) {
        if (strcmp(text, level_names[i]) != 0) continue;
        *out = (enum log_level)i;
        return 0;
    }
    return -1;
}

// A line that is full drops what does not fit; two bytes stay free for a closing quote and the newline.
static void put(struct line *l, const char *data, size_t n) {
    if (n > sizeof l->text - 2 - l->len) return;
    memcpy(l->text + l->len, data, n);
    l->len += n;
}

static void put_str(struct line *l, const char *s) { put(l, s, strlen(s)); }

static bool plain(const char *value, size_t n, bool utf8) {
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)value[i];
        if (c <= ' ' || c == '=' || c == '"' || c == '\\' || c == 0x7f || (c > 0x7f && !utf8)) return false;
    }
    return n > 0;
}

static void put_escaped(struct line *l, unsigned char c, bool utf8) {
    char escape[8];
    if (c == '\n') put(l, "\\n", 2);
    else if (c == '\r') put(l, "\\r", 2);
    else if (c == '\t') put(l, "\\t", 2);
    else if (c == '"' || c == '\\') put(l, (char[]){'\\', (char)c}, 2);
    else if (c < ' ' || c == 0x7f || (c > 0x7f && !utf8)) {
        snprintf(escape, sizeof escape, "\\x%02x", c);
        put(l, escape, 4);
    } else put(l, (char[]){(char)c}, 1);
}

static void put_value(struct line *l, const char *value) {
    if (value == NULL) value = "";
    size_t n = strlen(value);
    bool utf8 = utf8_valid(value, n);
    if (plain(value, n, utf8)) {
        put(l, value, n);
        return;
    }
    put(l, "\"", 1);
    for (size_t i = 0; i < n; i++) put_escaped(l, (unsigned char)value[i], utf8);
    l->text[l->len++] = '"';
}

static void put_pair(struct line *l, const char *key, const char *value) {
    if (l->len + strlen(key) + 4 > sizeof l->text - 2) return;
    put(l, " ", 1);
    put_str(l, key);
    put(l, "=", 1);
    put_value(l, value);
}

static bool wanted(enum log_level level) { return (int)level >= atomic_load(&threshold); }

static void begin(struct line *l, enum log_level level, const char *event) {
    struct timespec now;
    char when[TIME_TEXT];
    clock_gettime(CLOCK_REALTIME, &now);
    time_format_ms((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000, when);
    l->len = 0;
    put_str(l, "ts=");
    put_str(l, when);
    put_pair(l, "level", level_names[level]);
    put_pair(l, "event", event);
}

static void finish(struct line *l) {
    l->text[l->len++] = '\n';
    ssize_t ignored = write(STDERR_FILENO, l->text, l->len); // nobody is left to tell
    (void)ignored;
}

void log_event(enum log_level level, const char *event, ...) {
    if (!wanted(level)) return;
    struct line l;
    begin(&l, level, event);
    va_list args;
    va_start(args, event);
    const char *key;
    while ((key = va_arg(args, const char *)) != NULL) put_pair(&l, key, va_arg(args, const char *));
    va_end(args);
    finish(&l);
}

void log_text(enum log_level level, const char *event, const char *format, ...) {
    if (!wanted(level)) return;
    char text[TEXT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    struct line l;
    begin(&l, level, event);
    put_pair(&l, "msg", text);
    finish(&l);
}
