#include "engine/letter.h"

#include "engine/death.h"
#include "engine/internal.h"
#include "wire/properties.h"

#define PROPERTIES_MAX (16u << 20)

static bool asks_for_persistence(const struct content *c) {
    struct properties p;
    return properties_decode(&p, c->properties, c->properties_length) && p.delivery_mode == 2;
}

void letter_init_message(struct letter *l, const struct message *m) {
    *l = (struct letter){.m = *m};
    l->m.delay_ms = 0;
    buf_init(&l->properties, PROPERTIES_MAX);
    buf_init(&l->key_bytes, PROPERTIES_MAX);
}

// Keys that are too long cannot have come from the CC header of a client that was let in.
static void add_copies(struct letter *l, struct view headers) {
    struct cc_cursor c = {0};
    uint32_t n = 0;
    for (struct view key; death_next_cc(headers, &c, &key);) {
        if (key.length > NAME_BYTES || memchr(key.data, 0, key.length)) continue;
        buf_add(&l->key_bytes, key.data, key.length);
        buf_add_u8(&l->key_bytes, 0);
        n++;
    }
    if (n == 0 || !buf_ok(&l->key_bytes)) return;
    l->keys = memory_new(n * sizeof *l->keys);
    const char *at = (const char *)l->key_bytes.data;
    for (uint32_t i = 0; i < n; at += strlen(at) + 1) l->keys[i++] = at;
    l->m.more_keys = l->keys;
    l->m.more_keys_count = n;
}

void letter_init(struct letter *l, const struct content *c) {
    struct message m = {.exchange = c->exchange,
                        .routing_key = c->routing_key,
                        .properties = c->properties,
                        .properties_length = c->properties_length,
                        .body = c->body,
                        .body_length = c->claimed ? CLAIM_TICKET : c->body_length,
                        .claimed = c->claimed,
                        .claimed_length = c->claimed ? claimed_length(c) : 0,
                        .message_id = c->message_id,
                        .persistent = c->entries > 0 || asks_for_persistence(c),
                        .priority = c->priority};
    letter_init_message(l, &m);
    add_copies(l, properties_headers(c->properties, c->properties_length));
}

void letter_release(struct letter *l) {
    buf_release(&l->properties);
    buf_release(&l->key_bytes);
    free(l->keys);
}

void letter_wear(struct letter *l) {
    l->m.properties = l->properties.data;
    l->m.properties_length = (uint32_t)l->properties.len;
}
