// Crash points: places where a test may have the process killed, to prove that what follows resumes.
//
// BARID_CRASH_AT="accepted:1" kills the process with SIGKILL when the point "accepted" is passed for the
// first time ("name:3": the third time). Without the variable a point costs one predictable branch.
// docs/faults.md lists the points. Names: <safe point>.<what has just happened>, e.g. "accept.committed".
#ifndef BARID_BASE_CRASH_H
#define BARID_BASE_CRASH_H

#include <stdbool.h>

extern bool crash_armed;
void crash_init(void); // reads the environment, once, at start
void crash_hit(const char *name);

static inline void crash_point(const char *name) {
    if (crash_armed) crash_hit(name);
}

#endif
