// Patterns of permissions: regular expressions (PCRE2) that must match somewhere in a name.
//
// Many users share few patterns, so equal texts are one pattern, compiled when it is first needed. What matched is
// remembered by pattern and name; a pattern never changes, so what is remembered is never wrong. How much work one
// match may be is bounded: what exceeds it does not match.
#ifndef BARID_ACCESS_PATTERN_H
#define BARID_ACCESS_PATTERN_H

#include "base/error.h"

#include <stdbool.h>

#define PATTERN_MAX 4096 // bytes

struct patterns;
struct pattern;

struct patterns *patterns_new(void);
void patterns_free(struct patterns *p); // all patterns have been released

// Does it compile? ERR_INVALID, with the field and what is wrong where.
enum err pattern_check(struct patterns *p, const char *field, const char *text, struct error *e);
struct pattern *pattern_hold(struct patterns *p, const char *text);
void pattern_release(struct patterns *p, struct pattern *x);
const char *pattern_text(const struct pattern *x);
// The empty pattern matches nothing.
bool pattern_matches(struct patterns *p, struct pattern *x, const char *name);

#endif
