// The table of operations of the management API, who may use each, and how a path finds its own.
#ifndef BARID_MANAGEMENT_ROUTES_H
#define BARID_MANAGEMENT_ROUTES_H

#include <stdbool.h>
#include <stddef.h>

struct call;

enum route_need {
    NEED_NOBODY = 1,   // no user
    NEED_MONITOR = 2,  // tag monitoring or administrator
    NEED_ADMIN = 4,    // tag administrator
    NEED_NO_VHOST = 8, // the route's {vhost} need not be there
};

struct manage_route {
    const char *method, *pattern;
    void (*handle)(struct call *c);
    unsigned needs;
};

// Fills c->route and c->params. False: answered (404, 405, 400).
bool manage_route_find(struct call *c);
// May its user use it? And is the virtual host there: c->vhost. False: answered.
bool manage_route_allows(struct call *c);
// For manage_route_find's test: does the path, as it came, fit the pattern?
bool manage_route_fits(const char *pattern, const char *path);

#endif
