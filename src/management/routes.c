// The operations of the management API; see routes.h.
#include "management/routes.h"

#include "management/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct manage_route table[] = {
    {"GET", "/metrics", manage_metrics, NEED_NOBODY},
    {"GET", "/api/overview", manage_overview, 0},
    {"GET", "/api/cluster-name", manage_cluster_name, 0},
    {"GET", "/api/version", manage_version, 0},
    {"GET", "/api/nodes", manage_nodes, NEED_MONITOR},
    {"GET", "/api/nodes/{node}", manage_node, NEED_MONITOR},
    {"GET", "/api/whoami", manage_whoami, 0},
    {"GET", "/api/extensions", manage_none, 0},
    {"GET", "/api/aliveness-test/{vhost}", manage_aliveness, 0},

    {"GET", "/api/queues", manage_queues, 0},
    {"GET", "/api/queues/{vhost}", manage_queues, 0},
    {"GET", "/api/queues/{vhost}/{queue}", manage_queue, 0},
    {"PUT", "/api/queues/{vhost}/{queue}", manage_queue_put, 0},
    {"DELETE", "/api/queues/{vhost}/{queue}", manage_queue_delete, 0},
    {"GET", "/api/queues/{vhost}/{queue}/bindings", manage_bindings_of_queue, 0},
    {"DELETE", "/api/queues/{vhost}/{queue}/contents", manage_queue_purge, 0},
    {"POST", "/api/queues/{vhost}/{queue}/get", manage_queue_get, 0},
    {"POST", "/api/queues/{vhost}/{queue}/actions", manage_queue_actions, 0},

    {"GET", "/api/parked/{vhost}/{queue}", manage_parked, 0},
    {"POST", "/api/parked/{vhost}/{queue}/{id}/retry", manage_parked_retry, 0},
    {"DELETE", "/api/parked/{vhost}/{queue}/{id}", manage_parked_drop, 0},

    {"GET", "/api/exchanges", manage_exchanges, 0},
    {"GET", "/api/exchanges/{vhost}", manage_exchanges, 0},
    {"GET", "/api/exchanges/{vhost}/{exchange}", manage_exchange, 0},
    {"PUT", "/api/exchanges/{vhost}/{exchange}", manage_exchange_put, 0},
    {"DELETE", "/api/exchanges/{vhost}/{exchange}", manage_exchange_delete, 0},
    {"GET", "/api/exchanges/{vhost}/{exchange}/bindings/source", manage_bindings_from, 0},
    {"GET", "/api/exchanges/{vhost}/{exchange}/bindings/destination", manage_bindings_to, 0},
    {"POST", "/api/exchanges/{vhost}/{exchange}/publish", manage_publish, 0},

    {"GET", "/api/bindings", manage_bindings, 0},
    {"GET", "/api/bindings/{vhost}", manage_bindings, 0},
    {"GET", "/api/bindings/{vhost}/e/{source}/{kind}/{destination}", manage_bindings_between, 0},
    {"POST", "/api/bindings/{vhost}/e/{source}/{kind}/{destination}", manage_binding_post, 0},
    {"GET", "/api/bindings/{vhost}/e/{source}/{kind}/{destination}/{properties}", manage_binding, 0},
    {"DELETE", "/api/bindings/{vhost}/e/{source}/{kind}/{destination}/{properties}", manage_binding_delete, 0},

    {"GET", "/api/connections", manage_connections, 0},
    {"GET", "/api/connections/username/{user}", manage_connections_of_user, 0},
    {"DELETE", "/api/connections/username/{user}", manage_connections_of_user_delete, NEED_ADMIN},
    {"GET", "/api/connections/{connection}", manage_connection, 0},
    {"DELETE", "/api/connections/{connection}", manage_connection_delete, 0},
    {"GET", "/api/connections/{connection}/channels", manage_channels_of_connection, 0},
    {"GET", "/api/channels", manage_channels, 0},
    {"GET", "/api/channels/{channel}", manage_channel, 0},
    {"GET", "/api/consumers", manage_consumers, 0},
    {"GET", "/api/consumers/{vhost}", manage_consumers, 0},

    {"GET", "/api/vhosts", manage_vhosts, 0},
    {"GET", "/api/vhosts/{vhost}", manage_vhost, 0},
    {"PUT", "/api/vhosts/{vhost}", manage_vhost_put, NEED_ADMIN | NEED_NO_VHOST},
    {"DELETE", "/api/vhosts/{vhost}", manage_vhost_delete, NEED_ADMIN},
    {"GET", "/api/vhosts/{vhost}/permissions", manage_permissions_of_vhost, NEED_ADMIN},
    {"GET", "/api/vhosts/{vhost}/topic-permissions", manage_none, NEED_ADMIN},
    {"GET", "/api/vhosts/{vhost}/connections", manage_connections, 0},
    {"GET", "/api/vhosts/{vhost}/channels", manage_channels, 0},

    {"GET", "/api/users", manage_users, NEED_ADMIN},
    {"GET", "/api/users/without-permissions", manage_users_without_permissions, NEED_ADMIN},
    {"POST", "/api/users/bulk-delete", manage_users_bulk_delete, NEED_ADMIN},
    {"GET", "/api/users/{user}", manage_user, NEED_ADMIN},
    {"PUT", "/api/users/{user}", manage_user_put, NEED_ADMIN},
    {"DELETE", "/api/users/{user}", manage_user_delete, NEED_ADMIN},
    {"GET", "/api/users/{user}/permissions", manage_permissions_of_user, NEED_ADMIN},
    {"GET", "/api/users/{user}/topic-permissions", manage_none, NEED_ADMIN},
    {"GET", "/api/permissions", manage_permissions, NEED_ADMIN},
    {"GET", "/api/permissions/{vhost}/{user}", manage_permission, NEED_ADMIN},
    {"PUT", "/api/permissions/{vhost}/{user}", manage_permission_put, NEED_ADMIN},
    {"DELETE", "/api/permissions/{vhost}/{user}", manage_permission_delete, NEED_ADMIN},

    {"GET", "/api/definitions", manage_definitions, NEED_ADMIN},
    {"POST", "/api/definitions", manage_definitions_import, NEED_ADMIN},
    {"GET", "/api/definitions/{vhost}", manage_definitions_of_vhost, NEED_ADMIN},
    {"POST", "/api/definitions/{vhost}", manage_definitions_import, NEED_ADMIN},

    {"GET", "/api/healthchecks/node", manage_health_ok, 0},
    {"GET", "/api/healthchecks/node/{node}", manage_health_node, 0},
    {"GET", "/api/health/checks/alarms", manage_health_alarms, 0},
    {"GET", "/api/health/checks/local-alarms", manage_health_alarms, 0},
    {"GET", "/api/health/checks/virtual-hosts", manage_health_ok, 0},
    {"GET", "/api/health/checks/port-listener/{port}", manage_health_port, 0},
    {"GET", "/api/health/checks/protocol-listener/{protocol}", manage_health_protocol, 0},
    {"GET", "/api/health/checks/node-is-quorum-critical", manage_health_quorum, 0},
    {"GET", "/api/health/checks/node-is-mirror-sync-critical", manage_health_quorum, 0},
    {"GET", "/api/health/checks/ready-to-serve-clients", manage_health_ok, 0},
    {"GET", "/api/health/checks/is-in-service", manage_health_ok, 0},
    {"GET", "/api/health/checks/metadata-store/initialized", manage_health_ok, 0},

    // What is not here: lists of it are empty, and making some is refused.
    {"GET", "/api/policies", manage_none, 0},
    {"GET", "/api/policies/{vhost}", manage_none, 0},
    {"PUT", "/api/policies/{vhost}/{name}", manage_unsupported, 0},
    {"GET", "/api/operator-policies", manage_none, 0},
    {"GET", "/api/operator-policies/{vhost}", manage_none, 0},
    {"PUT", "/api/operator-policies/{vhost}/{name}", manage_unsupported, 0},
    {"GET", "/api/parameters", manage_none, 0},
    {"GET", "/api/parameters/{component}", manage_none, 0},
    {"GET", "/api/parameters/{component}/{vhost}", manage_none, 0},
    {"PUT", "/api/parameters/{component}/{vhost}/{name}", manage_unsupported, 0},
    {"GET", "/api/global-parameters", manage_none, 0},
    {"PUT", "/api/global-parameters/{name}", manage_unsupported, 0},
    {"GET", "/api/vhost-limits", manage_none, 0},
    {"GET", "/api/vhost-limits/{vhost}", manage_none, 0},
    {"PUT", "/api/vhost-limits/{vhost}/{name}", manage_unsupported, 0},
    {"GET", "/api/user-limits", manage_none, 0},
    {"GET", "/api/user-limits/{user}", manage_none, 0},
    {"PUT", "/api/user-limits/{user}/{name}", manage_unsupported, 0},
    {"GET", "/api/topic-permissions", manage_none, NEED_ADMIN},
    {"PUT", "/api/topic-permissions/{vhost}/{user}", manage_unsupported, NEED_ADMIN},
    {"GET", "/api/feature-flags", manage_none, 0},
    {"GET", "/api/deprecated-features", manage_none, 0},
};

#define ROUTES (sizeof table / sizeof table[0])

// ---- paths ----------------------------------------------------------------------------------------------

// Walks both; `each` is told where a parameter lies.
static bool walk(const char *pattern, const char *path, void (*each)(void *arg, const char *at, size_t n), void *arg) {
    while (*pattern != '\0') {
        if (*pattern != '{') {
            if (*pattern++ != *path++) return false;
            continue;
        }
        size_t n = strcspn(path, "/");
        if (path[n] == '\0' && n == 0) return false;
        if (each != NULL) each(arg, path, n);
        path += n;
        pattern = strchr(pattern, '}') + 1;
    }
    return *path == '\0' || strcmp(path, "/") == 0; // a slash more names the same
}

// A literal word comes before a parameter: /api/users/without-permissions.
bool manage_route_fits(const char *pattern, const char *path) { return walk(pattern, path, NULL, NULL); }

struct filling {
    struct call *call;
    size_t count;
    bool damaged;
};

static void take_param(void *arg, const char *at, size_t n) {
    struct filling *f = arg;
    char *text = f->count < CALL_PARAMS ? strndup(at, n) : NULL;
    if (text == NULL) {
        f->damaged = true;
        return;
    }
    f->call->params[f->count++] = text;
    if (!call_decode(text)) f->damaged = true;
}

static bool fill_params(struct call *c) {
    struct filling f = {.call = c};
    walk(c->route->pattern, c->path, take_param, &f);
    if (!f.damaged) return true;
    call_fail(c, 400, "bad_request", "the path's percent-encoding is damaged");
    return false;
}

bool manage_route_find(struct call *c) {
    const char *method = strcmp(c->method, "HEAD") == 0 ? "GET" : c->method;
    bool path_known = false;
    // Clients write /api/users/ as well.
    size_t n = strlen(c->path);
    if (n > 1 && c->path[n - 1] == '/') c->path[n - 1] = '\0';
    for (size_t i = 0; i < ROUTES; i++) {
        if (!manage_route_fits(table[i].pattern, c->path)) continue;
        path_known = true;
        if (strcmp(table[i].method, method) != 0) continue;
        c->route = &table[i];
        return fill_params(c);
    }
    if (path_known) call_fail(c, 405, "method_not_allowed", "Method Not Allowed");
    else if (n <= 1) call_fail(c, 404, "Object Not Found", "There is no page here: the API is below /api");
    else call_fail(c, 404, "Object Not Found", "Not Found");
    return false;
}

// ---- who may --------------------------------------------------------------------------------------------

static bool vhost_allows(struct call *c, const char *vhost) {
    bool looking = strcmp(c->route->method, "GET") == 0;
    if (c->user->administrator || (looking && c->user->monitoring)) return true;
    return access_may_enter(c->management->o.access, c->user, vhost);
}

static bool find_vhost(struct call *c) {
    const char *name = call_param(c, "vhost");
    if (name == NULL || (c->route->needs & NEED_NO_VHOST)) return true;
    c->vhost = engine_vhost(c->management->o.engine, name);
    if (c->vhost == NULL) {
        call_not_found(c, "vhost");
        return false;
    }
    if (vhost_allows(c, name)) return true;
    call_fail(c, 401, "not_authorised", "User not authorised to access virtual host");
    return false;
}

bool manage_route_allows(struct call *c) {
    unsigned needs = c->route->needs;
    if (needs & NEED_NOBODY) return true;
    if ((needs & NEED_ADMIN) && !c->user->administrator) {
        call_fail(c, 401, "not_authorised", "Not administrator user");
        return false;
    }
    if ((needs & NEED_MONITOR) && !c->user->administrator && !c->user->monitoring) {
        call_fail(c, 401, "not_authorised", "Not monitor user");
        return false;
    }
    return find_vhost(c);
}
