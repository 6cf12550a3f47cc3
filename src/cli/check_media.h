// Every file of a data store (media, or AMQP's large bodies) against the SHA-256 that is its name.
#ifndef BARID_CLI_CHECK_MEDIA_H
#define BARID_CLI_CHECK_MEDIA_H

#include "base/error.h"

#include <stdint.h>

struct io;

struct media_result {
    uint64_t files, bytes, damaged;
};

// `damaged` is called for each file whose content is not what its name says. No directory: no files.
enum err check_media(struct io *io, const char *dir,
                     void (*damaged)(void *arg, const char *file, uint64_t bytes, const char *what), void *arg,
                     struct media_result *out, struct error *e);

#endif
