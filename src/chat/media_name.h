// What a client calls its media is shown to others: it is checked for form and made harmless.
#ifndef BARID_CHAT_MEDIA_NAME_H
#define BARID_CHAT_MEDIA_NAME_H

#include <stdbool.h>
#include <stddef.h>

#define MEDIA_TYPE_MAX 127
#define MEDIA_NAME_MAX 200

// type/subtype of RFC 9110's characters, with printable parameters.
bool media_type_valid(const char *text);
// The last part of a path, without control characters and what file systems mind; "" when nothing is left.
void media_name_clean(const char *name, char out[static MEDIA_NAME_MAX + 1]);

#endif
