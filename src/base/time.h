// Times as people and JSON see them: RFC 3339, UTC, milliseconds: "2026-11-21T05:06:07.089Z".
#ifndef BARID_BASE_TIME_H
#define BARID_BASE_TIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TIME_TEXT 25 // 24 characters and NUL

// Milliseconds since 1970. Years outside 0000–9999 are held at the ends.
void time_format_ms(int64_t ms, char out[static TIME_TEXT]);
// Any RFC 3339 date-time; digits past the milliseconds are dropped, a leap second counts as the next second.
bool time_parse_ms(const char *text, size_t len, int64_t *ms);

#endif
