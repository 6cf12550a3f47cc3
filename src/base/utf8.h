// Is it UTF-8? As RFC 3629 has it: shortest form only, no surrogates, nothing above U+10FFFF.
#ifndef BARID_BASE_UTF8_H
#define BARID_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

bool utf8_valid(const void *data, size_t len);
// Of so many bytes of a text, those that are whole letters: what was cut may end within one.
size_t utf8_whole(const char *text, size_t len);

#endif
