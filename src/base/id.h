// Identifiers: UUIDs (RFC 9562; version 7 for the ones we make) and names of users and conversations.
#ifndef BARID_BASE_ID_H
#define BARID_BASE_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct io;

#define ID_TEXT         37 // 36 characters and NUL
#define NAME_MAX_LENGTH 64

struct id {
    uint8_t b[16];
};

// A new UUIDv7: 48 bits of wall-clock milliseconds, then random. Monotonic within a process: two ids made
// in the same millisecond still sort in the order they were made.
struct id id_new(struct io *io);
// A UUID made of a name alone (version 8, a BLAKE2b hash): the same name, the same id.
struct id id_of_name(const void *name, size_t len);
bool id_parse(const char *text, size_t len, struct id *out); // any UUID in 8-4-4-4-12 form, either case
void id_format(const struct id *id, char out[static ID_TEXT]);
bool id_equal(const struct id *a, const struct id *b);

// design.md 7: `[a-z0-9][a-z0-9._-]{0,63}` (a UUID in lower case satisfies it too).
bool name_valid(const char *text, size_t len);

#endif
