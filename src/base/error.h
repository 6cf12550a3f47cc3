// Operating errors: one list, from which the enum, the names and the texts are made.
//
// A function that can fail for a reason outside the program returns an `enum err`: 0 (ERR_OK) or one of
// the codes below. Where a person will read it, it also fills a `struct error` with a sentence.
// Programmer errors are not in this list: they crash (assert.h).
#ifndef BARID_BASE_ERROR_H
#define BARID_BASE_ERROR_H

#include <stddef.h>

#define ERR_LIST(X)                                                                                                    \
    X(OK, "ok")                                                                                                        \
    X(INVALID, "the request is not valid")                                                                             \
    X(UNAUTHORIZED, "credentials are missing or wrong")                                                                \
    X(FORBIDDEN, "not allowed")                                                                                        \
    X(NOT_FOUND, "not found")                                                                                          \
    X(GONE, "it was here and has been deleted")                                                                        \
    X(CONFLICT, "it already exists, or contradicts what is stored")                                                    \
    X(TOO_LARGE, "larger than the limit")                                                                              \
    X(LIMIT, "a limit is reached")                                                                                     \
    X(RATE, "too many requests")                                                                                       \
    X(BUSY, "busy, try again later")                                                                                   \
    X(FULL, "no space is left")                                                                                        \
    X(IO, "input/output error")                                                                                        \
    X(CORRUPT, "stored data is damaged")                                                                               \
    X(VERSION, "written by another version")                                                                           \
    X(LOCKED, "in use by another process")                                                                             \
    X(CLOSED, "closed")                                                                                                \
    X(TIMEOUT, "no answer in time")                                                                                    \
    X(UNAVAILABLE, "not reachable")                                                                                    \
    X(UNSUPPORTED, "not supported here")                                                                               \
    X(NOMEM, "out of memory")                                                                                          \
    X(DATABASE, "database error")

enum err {
#define X(name, text) ERR_##name,
    ERR_LIST(X)
#undef X
        ERR_COUNT
};

#define ERROR_TEXT_MAX 256

// An error with its sentence. Embedded; nothing to release.
struct error {
    enum err code;
    char field[48]; // for ERR_INVALID: which field of the request, "" otherwise
    char text[ERROR_TEXT_MAX];
};

// "not_found": stable, lower case, used in JSON and logs.
const char *err_name(enum err code);
// "not found": the general sentence for the code.
const char *err_text(enum err code);

// Fill `e` (may be NULL) and return `code`, so that `return error_set(e, ERR_IO, "…", …)` reads well.
enum err error_set(struct error *e, enum err code, const char *format, ...) __attribute__((format(printf, 3, 4)));
// The same for ERR_INVALID with the field it is about.
enum err error_field(struct error *e, const char *field, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
