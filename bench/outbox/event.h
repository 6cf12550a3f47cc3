// What the programs of this folder share: an event's payload, and the file of times.
//
// A payload is text: the number of the event (20 digits), a blank, the number of its key (10 digits), a blank, and 'x'
// up to the size asked for. Numbers of one key rise, because a key belongs to one connection of the load.
//
// The file of times has eight bytes for each event, at its number: the monotonic clock in nanoseconds when COMMIT had
// returned, 0 while it had not. The load writes it and outbox_watch reads it, both mapped, on one machine.
#ifndef BARID_BENCH_OUTBOX_EVENT_H
#define BARID_BENCH_OUTBOX_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EVENT_HEAD  32
#define EVENT_KEY   16 // of a key's text, with NUL
#define EVENTS_MAX  1000000000
#define KEYS_MAX    100000000
#define LATEST_WAIT 1000 // ms: so long a loop waits at most before it looks around

struct event {
    uint64_t number;
    uint32_t key;
};

// `bytes` is at least EVENT_HEAD; `out` has room for one more, for NUL.
void event_write(char *out, size_t bytes, const struct event *event);
bool event_read(const void *payload, size_t n, struct event *out);
void event_key(char out[static EVENT_KEY], uint32_t key); // "key-17"

// Maps the file, made or made longer as needed, for n events. Ends the process when it cannot.
int64_t *times_map(const char *path, uint64_t n);

int64_t monotonic_ns(void);
int64_t realtime_ns(void);
double cpu_seconds(void); // of this process, so far

// Ends the process with "NAME: TEXT".
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void *allocate(size_t n, size_t size); // zeroed; ends the process when there is none
uint64_t number_option(const char *name, const char *text, uint64_t max);

#endif
