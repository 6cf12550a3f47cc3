// The table of operations: method, pattern, handler. One {name} a pattern may be a parameter.
#ifndef BARID_HTTP_ROUTES_H
#define BARID_HTTP_ROUTES_H

#include "base/id.h"

#include <stddef.h>

struct request;

enum route_flags {
    ROUTE_AUTH = 1,   // a session is needed
    ROUTE_STREAM = 2, // the handler is called before the body and takes it as it comes
    ROUTE_FREE = 4,   // not counted against the rate of its address (health, metrics)
};

struct route {
    const char *method, *pattern;
    void (*handle)(struct request *r);
    unsigned flags;
};

#define ROUTE_PARAM_MAX 128

// The route, or NULL: then `allow` holds the methods that the path takes ("GET, POST"), empty when the path is
// unknown. HEAD finds GET. `param` gets the parameter's text.
const struct route *route_find(const char *method, const char *path, char param[static ROUTE_PARAM_MAX], char *allow,
                               size_t allow_size);
const struct route *route_at(size_t at); // NULL past the end

#endif
