// Does a message's headers table satisfy a binding of a headers exchange?
//
// The binding's arguments name headers and the values they must have; a void value asks only that the header is there.
// x-match says how many must hold: "all" (when it is missing, too), "any", and the same with "-with-x". Without
// "-with-x" arguments whose name starts with "x-" are passed over.
#ifndef BARID_ENGINE_HEADERS_MATCH_H
#define BARID_ENGINE_HEADERS_MATCH_H

#include "base/error.h"
#include "wire/table.h"

bool headers_match(struct view arguments, struct view headers);
// ERR_INVALID: x-match is none of the four words.
enum err headers_match_check(struct view arguments, struct error *err);

#endif
