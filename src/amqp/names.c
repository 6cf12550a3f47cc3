#include "amqp/names.h"

#include "base/assert.h"
#include "base/io.h"

#include <string.h>

bool name_copy(char out[static NAME_SIZE], struct view v) {
    if (v.length >= NAME_SIZE || (v.length > 0 && memchr(v.data, 0, v.length) != NULL)) return false;
    if (v.length > 0) memcpy(out, v.data, v.length);
    out[v.length] = '\0';
    return true;
}

bool name_clean(char out[static NAME_SIZE], struct view v) {
    if (!name_copy(out, v)) return false;
    char *to = out;
    for (const char *at = out; *at != '\0'; at++)
        if (*at != '\r' && *at != '\n') *to++ = *at;
    *to = '\0';
    return true;
}

bool name_reserved(const char *name) { return strncmp(name, "amq.", 4) == 0; }

void name_generate(char out[static NAME_SIZE], const char *prefix, struct io *io) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t random[22];
    io->v->random(io, random, sizeof random);
    size_t at = strlen(prefix);
    ASSERT(at + sizeof random < NAME_SIZE);
    memcpy(out, prefix, at);
    for (size_t i = 0; i < sizeof random; i++) out[at++] = digits[random[i] & 63];
    out[at] = '\0';
}
