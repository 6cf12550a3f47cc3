// A message that the engine publishes again: the stored one, with other properties, and the keys of its CC header.
#ifndef BARID_ENGINE_LETTER_H
#define BARID_ENGINE_LETTER_H

#include "base/buf.h"
#include "engine/engine.h"

struct content;

struct letter {
    struct message m;
    struct buf properties;
    struct buf key_bytes;
    const char **keys;
};

void letter_init(struct letter *l, const struct content *c);
void letter_init_message(struct letter *l, const struct message *m);
void letter_release(struct letter *l);
void letter_wear(struct letter *l); // what was written to `properties` becomes the message's

#endif
