// Error codes, their names and their sentences, all made from ERR_LIST (error.h).
#include "base/error.h"

#include "base/assert.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define NAME_SIZE 24

static const char *const names[ERR_COUNT] = {
#define X(name, text) [ERR_##name] = #name,
    ERR_LIST(X)
#undef X
};

static const char *const texts[ERR_COUNT] = {
#define X(name, text) [ERR_##name] = text,
    ERR_LIST(X)
#undef X
};

// The macro gives names in upper case; the lower case ones are made once, before main.
static char lower_names[ERR_COUNT][NAME_SIZE];

__attribute__((constructor)) static void make_lower_names(void) {
    for (int i = 0; i < ERR_COUNT; i++) {
        size_t n = strlen(names[i]);
        ASSERT(n < NAME_SIZE);
        for (size_t at = 0; at < n; at++) lower_names[i][at] = (char)tolower((unsigned char)names[i][at]);
    }
}

const char *err_name(enum err code) {
    ASSERT((unsigned)code < ERR_COUNT);
    return lower_names[code];
}

const char *err_text(enum err code) {
    ASSERT((unsigned)code < ERR_COUNT);
    return texts[code];
}

static void fill(struct error *e, enum err code, const char *field, const char *format, va_list args)
    __attribute__((format(printf, 4, 0)));

static void fill(struct error *e, enum err code, const char *field, const char *format, va_list args) {
    e->code = code;
    snprintf(e->field, sizeof e->field, "%s", field);
    vsnprintf(e->text, sizeof e->text, format, args);
}

enum err error_set(struct error *e, enum err code, const char *format, ...) {
    if (e == NULL) return code;
    va_list args;
    va_start(args, format);
    fill(e, code, "", format, args);
    va_end(args);
    return code;
}

enum err error_field(struct error *e, const char *field, const char *format, ...) {
    if (e == NULL) return ERR_INVALID;
    va_list args;
    va_start(args, format);
    fill(e, ERR_INVALID, field, format, args);
    va_end(args);
    return ERR_INVALID;
}
