// Reading a JSON request: strict types, unknown fields ignored, duplicate keys refused. A getter that fails has
// filled the error with the field and the reason (a 422), so handlers read as a chain of &&.
#ifndef BARID_HTTP_JSON_IN_H
#define BARID_HTTP_JSON_IN_H

#include "base/error.h"
#include "base/id.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct chat_send;

// An object, or NULL with ERR_INVALID and a text that says where it stops being JSON.
json_t *json_in_parse(const void *data, size_t n, struct error *e);

enum json_need { JSON_OPTIONAL, JSON_REQUIRED };
// Views into `o`. Optional and absent (or null): true with *out == NULL.
bool json_in_text(const json_t *o, const char *field, enum json_need need, const char **out, size_t *n,
                  struct error *e);
bool json_in_uint(const json_t *o, const char *field, uint64_t *out, struct error *e); // required
bool json_in_id(const json_t *o, const char *field, struct id *out, struct error *e);  // required
// created_at and the like: RFC 3339, 0 when absent.
bool json_in_time(const json_t *o, const char *field, int64_t *out_ms, struct error *e);

// The body of a message on its way in, the same over HTTP and over the socket. Pointers live as long as `o`.
bool json_in_send(const json_t *o, struct chat_send *out, struct error *e);

#endif
