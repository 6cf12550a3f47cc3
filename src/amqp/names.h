// Names of queues, exchanges and keys as the engine wants them: NUL-terminated, at most 255 bytes.
#ifndef BARID_AMQP_NAMES_H
#define BARID_AMQP_NAMES_H

#include "wire/table.h"

#include <stdbool.h>

struct io;

#define NAME_SIZE 256

// As it is. False: it has a NUL in it, or is too long.
bool name_copy(char out[static NAME_SIZE], struct view v);
// Without CR and LF, as RabbitMQ takes the names of queues and exchanges.
bool name_clean(char out[static NAME_SIZE], struct view v);
bool name_reserved(const char *name); // begins with "amq."
// The prefix and 22 characters nobody can guess.
void name_generate(char out[static NAME_SIZE], const char *prefix, struct io *io);

#endif
