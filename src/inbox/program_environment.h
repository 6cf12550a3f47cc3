// The environment of a handler's program: ours, and the event.
#ifndef BARID_INBOX_PROGRAM_ENVIRONMENT_H
#define BARID_INBOX_PROGRAM_ENVIRONMENT_H

#include "outbox/sink.h"

// BARID_EVENT_ID, BARID_TOPIC, BARID_KEY (not set: the event has none), BARID_ATTEMPT, BARID_PLACE, BARID_PUBLISHED_AT
// (RFC 3339), and each header as BARID_HEADER_NAME: in capitals, what is no letter or digit an underscore. What we were
// given ourselves under these names is not handed on, and neither is BARID_DATABASE, which may hold a password.
// Headers past 64 KiB altogether are left out. Ends with NULL; released with program_environment_free.
char **program_environment(const struct outbox_item *item);
void program_environment_free(char **environment);

#endif
