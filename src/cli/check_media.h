// Every file of a data store (media, or AMQP's large bodies) against the SHA-256 that is its name.
#ifndef BARID_CLI_CHECK_MEDIA_H
#define BARID_CLI_CHECK_MEDIA_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct io;

struct media_result {
    uint64_t files, bytes, damaged;
};

// hash, bytes: what a message has that somebody has yet to fetch, and what an upload has that has yet to become one. In
// the tables of chat, on either database; a content may come more than once.
#define MEDIA_NEEDED                                                                                                   \
    "select hash, bytes from media where refs > 0 union all select m.media_hash, m.bytes from content c "              \
    "join message m on m.mid = c.mid where m.media_hash is not null union all select hash, bytes from ticket"

// Told for each that is not what its name says.
typedef void media_finding_fn(void *arg, const char *file, uint64_t bytes, const char *what);
// No directory: no files.
enum err check_media(struct io *io, const char *dir, media_finding_fn *damaged, void *arg, struct media_result *out,
                     struct error *e);
bool media_is_there(struct io *io, const char *dir, const uint8_t hash[static 32]);

#endif
