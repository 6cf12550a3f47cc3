// A copy of a publish in one piece of memory: for the engine to have room, or for the transaction to commit. A large
// body stays where it is, held.
#include "amqp/basic.h"
#include "amqp/claims.h"

#include <stdlib.h>
#include <string.h>

static size_t text_size(const char *text) { return text == NULL ? 0 : strlen(text) + 1; }

static size_t keys_size(const struct message *m) {
    size_t size = m->more_keys_count * sizeof(char *);
    for (uint32_t i = 0; i < m->more_keys_count; i++) size += text_size(m->more_keys[i]);
    return size;
}

static void *put(char **at, const void *data, size_t n) {
    char *to = *at;
    if (data == NULL) return NULL;
    memcpy(to, data, n);
    *at += n;
    return to;
}

// The pointers first, where memory is aligned; then their texts.
static void put_keys(char **at, struct message *m, const struct message *from) {
    const char **keys = (const char **)(void *)*at;
    *at += from->more_keys_count * sizeof(char *);
    for (uint32_t i = 0; i < from->more_keys_count; i++)
        keys[i] = put(at, from->more_keys[i], text_size(from->more_keys[i]));
    m->more_keys = keys;
}

struct kept *kept_new(const struct channel *ch, const struct publish *p) {
    const struct message *m = &p->message;
    size_t size = sizeof(struct kept) + keys_size(m) + text_size(m->exchange) + text_size(m->routing_key) +
                  text_size(m->message_id) + m->properties_length + m->body_length;
    struct kept *k = malloc(size);
    if (k == NULL) return NULL;
    *k = (struct kept){.publish = *p, .size = size};
    struct message *to = &k->publish.message;
    char *at = (char *)(k + 1);
    put_keys(&at, to, m);
    to->exchange = put(&at, m->exchange, text_size(m->exchange));
    to->routing_key = put(&at, m->routing_key, text_size(m->routing_key));
    to->message_id = put(&at, m->message_id, text_size(m->message_id));
    to->properties = put(&at, m->properties, m->properties_length);
    to->body = put(&at, m->body, m->body_length);
    if (!m->claimed) return k;
    k->claims = ch->connection->amqp->o.claims;
    claims_hold(k->claims, to->body);
    return k;
}

void kept_free(struct kept *k) {
    if (k == NULL) return;
    if (k->claims) claims_release(k->claims, k->publish.message.body);
    free(k);
}
