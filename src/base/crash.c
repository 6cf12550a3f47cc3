// Crash points, see crash.h: counting passes of the one point named in BARID_CRASH_AT.
#include "base/crash.h"

#include "base/assert.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define POINT_NAME_MAX 64

bool crash_armed;
static char point[POINT_NAME_MAX];
static atomic_long passes_left;

void crash_init(void) {
    const char *spec = getenv("BARID_CRASH_AT");
    if (spec == NULL || *spec == 0) return;
    const char *colon = strchr(spec, ':');
    size_t length = colon != NULL ? (size_t)(colon - spec) : strlen(spec);
    char *end = NULL;
    long nth = colon != NULL ? strtol(colon + 1, &end, 10) : 1;
    if (length == 0 || length >= sizeof point || nth < 1 || (end != NULL && (end == colon + 1 || *end != 0)))
        die("BARID_CRASH_AT must be name or name:count, not \"%s\"", spec);
    memcpy(point, spec, length);
    point[length] = 0;
    atomic_store(&passes_left, nth);
    crash_armed = true;
}

void crash_hit(const char *name) {
    if (strcmp(name, point) != 0) return;
    if (atomic_fetch_sub(&passes_left, 1) != 1) return;
    fprintf(stderr, "barid: crash point %s reached, killing the process\n", name);
    kill(getpid(), SIGKILL);
    for (;;) pause();
}
