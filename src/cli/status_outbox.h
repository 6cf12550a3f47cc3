// barid status --database.
#ifndef BARID_CLI_STATUS_OUTBOX_H
#define BARID_CLI_STATUS_OUTBOX_H

#include <stdbool.h>

int status_outbox(const char *url, bool json); // gives the exit code

#endif
