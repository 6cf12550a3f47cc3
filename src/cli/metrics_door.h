// The door of `barid relay` and `barid receive`: GET /metrics (Prometheus's text), /healthz and /readyz (503 with the
// reason), nothing else. It shows numbers and names of queues, never events, to whoever can reach the address.
#ifndef BARID_CLI_METRICS_DOOR_H
#define BARID_CLI_METRICS_DOOR_H

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct metrics_door;

// Called on the loop thread for each GET /metrics; what it says is cut off at 1 MiB.
typedef void metrics_write_fn(void *arg, struct buf *b);

// Called on the loop thread for each GET /readyz: NULL, or what is not there.
typedef const char *metrics_ready_fn(void *arg);

// ERR_LOCKED when the address is in use, ERR_INVALID when it is none.
enum err metrics_door_open(struct metrics_door **out, struct loop *loop, const char *address, uint16_t port,
                           metrics_write_fn *write, metrics_ready_fn *ready, void *arg, struct error *e);
uint16_t metrics_door_port(const struct metrics_door *d);
void metrics_door_close(struct metrics_door *d); // before loop_free

// "# HELP name help\n# TYPE name gauge|counter\nname value\n"
void metrics_number(struct buf *b, const char *name, const char *type, const char *help, double value);

#endif
