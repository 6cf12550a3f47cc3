// Bindings as the API names them: the key of a binding in a path is its routing key, with a hash of its arguments when
// it has some.
#ifndef BARID_MANAGEMENT_BINDINGS_H
#define BARID_MANAGEMENT_BINDINGS_H

#include "engine/engine.h"

// "~" for no key and no arguments, "key", "key~hash"; the key percent-encoded, " " as "+". At most 800 bytes.
#define BINDING_KEY_MAX 800
void binding_key(const struct binding_spec *b, char out[static BINDING_KEY_MAX]);

#endif
