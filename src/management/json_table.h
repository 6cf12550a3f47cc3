// JSON of a request to AMQP's tables and properties, with RabbitMQ's choice of types, and back.
#ifndef BARID_MANAGEMENT_JSON_TABLE_H
#define BARID_MANAGEMENT_JSON_TABLE_H

#include "base/error.h"
#include "wire/table.h"

#include <jansson.h>
#include <stdbool.h>

#define JSON_TABLE_MAX (1 << 20)

struct out;

// Appends the entries of an object; NULL is an empty one. ERR_INVALID: too deep, a name too long, too large.
enum err json_to_table(const json_t *object, struct buf *out, struct error *e);
// {"delivery_mode": 2, "headers": {…}, …}: encoded into `out`, headers without BCC.
enum err json_to_properties(const json_t *object, struct buf *out, struct error *e);
void properties_to_json(struct out *o, const char *key, const void *data, uint32_t length);

#endif
