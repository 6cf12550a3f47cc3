// What the producers of both sides show of themselves: names for Prometheus, words for people.
#ifndef BARID_CLI_OUTBOX_METRICS_H
#define BARID_CLI_OUTBOX_METRICS_H

#include "base/buf.h"
#include "outbox/outbox.h"

// barid_<command>_published_total, _failed_total, _parked, _lag …
void outbox_metrics(struct buf *b, const char *command, const struct outbox_stats *s);
const char *notices_word(enum database_notices notices); // "arrive"

#endif
