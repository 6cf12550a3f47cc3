// Topic patterns with globs for brokers that have none. AMQP's * stands for a whole word; the port's pattern may also
// have a * within a longer word: "message_*". Such a word is bound as *, and what it lets in too many is sorted out
// here.
#ifndef BARID_BUS_AMQP_PATTERN_H
#define BARID_BUS_AMQP_PATTERN_H

#include <stdbool.h>

bool amqp_pattern_bound(const char *pattern, char bound[256]); // what to bind; true: it lets in too many
bool amqp_pattern_matches(const char *pattern, const char *topic);

#endif
