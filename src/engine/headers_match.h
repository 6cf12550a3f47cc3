// Does a message's headers table satisfy a binding of a headers exchange?
//
// The binding's arguments name headers and the values they must have; a void value asks only that the header is there.
// x-match says how many must hold: "all" (when it is missing, too), "any", and the same with "-with-x". Without
// "-with-x" arguments whose name starts with "x-" are passed over.
#ifndef BARID_ENGINE_HEADERS_MATCH_H
#define BARID_ENGINE_HEADERS_MATCH_H

#include "base/error.h"
#include "wire/table.h"

// A message's headers, made ready for many bindings: a client may fill frames with names, on both sides.
struct headers {
    struct view table;
    struct header *sorted; // by name; NULL: so few that the table itself is searched
    uint32_t n;
};
void headers_init(struct headers *h, struct view table); // the table must stay
void headers_release(struct headers *h);
bool headers_match(struct view arguments, const struct headers *h);
// ERR_INVALID: x-match is none of the four words.
enum err headers_match_check(struct view arguments, struct error *err);

#endif
