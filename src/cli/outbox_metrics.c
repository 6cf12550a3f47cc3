// What `barid relay` shows of itself; see outbox_metrics.h.
#include "cli/outbox_metrics.h"

#include "cli/metrics_door.h"

#include <stdio.h>

const char *notices_word(enum database_notices notices) {
    switch (notices) {
    case NOTICES_NONE: return "none";
    case NOTICES_ARRIVE: return "arrive";
    case NOTICES_LOST: return "lost";
    case NOTICES_AWAY: return "away";
    }
    return "?";
}

static void number(struct buf *b, const char *command, const char *what, const char *type, const char *help,
                   double value) {
    char name[96];
    snprintf(name, sizeof name, "barid_%s_%s", command, what);
    metrics_number(b, name, type, help, value);
}

void outbox_metrics(struct buf *b, const char *command, const struct outbox_stats *s) {
    number(b, command, "published_total", "counter", "Events that were taken.", (double)s->published);
    number(b, command, "failed_total", "counter", "Attempts that failed.", (double)s->failed);
    number(b, command, "in_memory", "gauge", "Events claimed and not settled.", (double)s->waiting);
    number(b, command, "bus_away", "gauge", "1 while the other side takes nothing.", s->bus_away);
    number(b, command, "leases", "gauge", "Buckets of 64 that this process has.", s->leases);
    number(b, command, "members", "gauge", "Processes that share the buckets.", s->members);
    number(b, command, "notices", "gauge", "1 while NOTIFY comes through; otherwise it looks every second.",
           s->notices == NOTICES_ARRIVE);
    if (!s->measured) return;
    number(b, command, "lag", "gauge", "Events waiting in the table; beyond 10,000 an estimate.", (double)s->lag);
    number(b, command, "oldest_seconds", "gauge", "Age of the oldest event waiting.", (double)s->oldest_age_ms / 1000);
    number(b, command, "parked", "gauge", "Events whose attempts are spent.", (double)s->parked);
    number(b, command, "blocked", "gauge", "Of the parked: those whose key waits for them.", (double)s->blocked);
}
