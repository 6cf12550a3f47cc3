// What a client says to prove who it is.
//
//   PLAIN     authorization id, NUL, user, NUL, password (RFC 4616); the first is not looked at
//   AMQPLAIN  a table's entries: LOGIN S, PASSWORD S
#include "amqp/core.h"

#include <string.h>

bool sasl_plain(struct view response, struct view *user, struct view *password) {
    if (response.length == 0) return false;
    const uint8_t *end = response.data + response.length;
    const uint8_t *first = memchr(response.data, 0, response.length);
    if (!first) return false;
    const uint8_t *second = memchr(first + 1, 0, (size_t)(end - first - 1));
    if (!second) return false;
    *user = (struct view){.data = first + 1, .length = (uint32_t)(second - first - 1)};
    *password = (struct view){.data = second + 1, .length = (uint32_t)(end - second - 1)};
    return memchr(password->data, 0, password->length) == NULL;
}

bool sasl_amqplain(struct view response, struct view *user, struct view *password) {
    struct field login, secret;
    if (!table_check(response) || !table_find(response, "LOGIN", &login) || !table_find(response, "PASSWORD", &secret))
        return false;
    if (login.type != FIELD_STRING || secret.type != FIELD_STRING) return false;
    *user = login.bytes;
    *password = secret.bytes;
    return true;
}
