// The queues of a running server as `barid status` shows them: read from its metrics, with the rates between two
// readings, sorted, as a table that fits its terminal.
#ifndef BARID_CLI_STATUS_QUEUES_H
#define BARID_CLI_STATUS_QUEUES_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct queue_row {
    char *vhost, *name;
    double ready, unacked, parked, oldest_s, memory, bytes;
    double published, delivered; // counters
    double in, out;              // a second
};

struct queue_rows {
    struct queue_row *rows;
    size_t count, room;
    uint64_t at_ms; // when it was read
};

// From {"rabbitmq_queue_messages_ready{vhost=\"/\",queue=\"a\"}": 3, …}.
void queue_rows_read(struct queue_rows *q, const json_t *metrics, uint64_t now_ms);
// Fills in the rates since `before`, which may be empty.
void queue_rows_rates(struct queue_rows *q, const struct queue_rows *before);
// "name", "ready", "unacked", "in", "out", "oldest", "memory", "disk". False: not one of these.
bool queue_rows_sort(struct queue_rows *q, const char *by);
// At most `lines` lines of at most `width` columns; what does not fit is left out, from the least telling on.
void queue_rows_print(const struct queue_rows *q, size_t width, size_t lines);
json_t *queue_rows_json(const struct queue_rows *q);
void queue_rows_release(struct queue_rows *q);

#endif
