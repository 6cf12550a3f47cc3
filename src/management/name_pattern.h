// A regular expression (PCRE2, no matter of case) that picks names of a list. Whoever may look may send any, and all
// the broker waits meanwhile: what is too much work is given up, for this name and all that follow.
#ifndef BARID_MANAGEMENT_NAME_PATTERN_H
#define BARID_MANAGEMENT_NAME_PATTERN_H

#include <stdbool.h>

struct name_pattern;

struct name_pattern *name_pattern_new(const char *text); // NULL: it is none, or too long
void name_pattern_free(struct name_pattern *p);          // or NULL
bool name_pattern_matches(struct name_pattern *p, const char *name);
bool name_pattern_gave_up(const struct name_pattern *p);

#endif
