// A queue or an exchange as a request or a definitions file describes it.
#ifndef BARID_MANAGEMENT_DECLARE_JSON_H
#define BARID_MANAGEMENT_DECLARE_JSON_H

#include "amqp/arguments.h"

#include <jansson.h>

// `a->options` points into `a`, `table` and `o`.
enum err queue_declare_json(struct vhost *v, const char *name, const json_t *o, struct queue_arguments *a,
                            struct buf *table, struct error *e);
enum err exchange_declare_json(struct vhost *v, const char *name, const json_t *o, struct exchange_arguments *a,
                               struct buf *table, struct error *e);

#endif
