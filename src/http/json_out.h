// Writing JSON straight into a buffer: no trees, no allocations a value. Every writer takes the key first, NULL
// inside an array. Commas need no state: one is due unless the last byte opens something or ends a key.
#ifndef BARID_HTTP_JSON_OUT_H
#define BARID_HTTP_JSON_OUT_H

#include "base/buf.h"
#include "base/id.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void json_open(struct buf *b, const char *key, char bracket); // '{' or '['
void json_close(struct buf *b, char bracket);                 // '}' or ']'
void json_text(struct buf *b, const char *key, const char *text);
void json_text_n(struct buf *b, const char *key, const char *text, size_t n); // UTF-8, escaped here
void json_text_opt(struct buf *b, const char *key, const char *text);         // nothing when NULL
void json_uint(struct buf *b, const char *key, uint64_t v);
void json_flag(struct buf *b, const char *key, bool v);
void json_time(struct buf *b, const char *key, int64_t ms);
void json_id(struct buf *b, const char *key, const struct id *id);
void json_hex(struct buf *b, const char *key, const uint8_t *data, size_t n);
void json_raw(struct buf *b, const char *key, const char *json); // already JSON

#endif
