// The two ways to end the process on purpose: a programmer's error (abort, so that a core and a debugger see
// it) and an operator's problem that cannot be survived (exit code 70, EX_SOFTWARE).
#include "base/assert.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define EXIT_DIED 70

void assert_failed(const char *file, int line, const char *expression) {
    fprintf(stderr, "barid: assertion failed: %s (%s:%d)\n", expression, file, line);
    fflush(stderr);
    abort();
}

// _exit, not exit: handlers registered by libraries must not touch files whose state is in doubt.
void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("barid: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    fflush(stderr);
    _exit(EXIT_DIED);
}
