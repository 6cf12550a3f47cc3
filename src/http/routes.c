// The operations, and how a path finds its own.
#include "http/routes.h"

#include "http/api.h"
#include "http/http.h"

#include <stdbool.h>
#include <string.h>

static const struct route table[] = {
    {"POST", "/users", api_user_add, 0},
    {"GET", "/users/{user_id}", api_user_get, ROUTE_AUTH},
    {"POST", "/sessions", api_login, 0},
    {"DELETE", "/sessions/current", api_logout, ROUTE_AUTH},
    {"POST", "/conversation", api_conversation_add, ROUTE_AUTH},
    {"GET", "/conversation", api_conversation_list, ROUTE_AUTH},
    {"GET", "/conversation/{conversation_id}", api_conversation_get, ROUTE_AUTH},
    {"POST", "/conversation/{conversation_id}", api_message_send, ROUTE_AUTH},
    {"POST", "/media", api_media_upload, ROUTE_AUTH | ROUTE_STREAM},
    {"GET", "/message/{message_id}", api_message_get, ROUTE_AUTH},
    {"GET", "/message/{message_id}/media", api_media_download, ROUTE_AUTH},
    {"POST", "/message/{message_id}/received", api_message_received, ROUTE_AUTH},
    {"POST", "/message/{message_id}/read", api_message_read, ROUTE_AUTH},
    {"GET", "/message/{message_id}/journey", api_message_journey, ROUTE_AUTH},
    {"GET", "/mailbox", api_mailbox, ROUTE_AUTH},
    {"POST", "/mailbox/ack", api_mailbox_ack, ROUTE_AUTH},
    {"GET", "/events", api_events_plain, ROUTE_FREE},
    {"GET", "/healthz", api_healthz, ROUTE_FREE},
    {"GET", "/readyz", api_readyz, ROUTE_FREE},
    {"GET", "/metrics", api_metrics, ROUTE_FREE},
    {"GET", "/", api_static, 0},
};

#define ROUTES (sizeof table / sizeof table[0])

const struct route *route_at(size_t at) { return at < ROUTES ? &table[at] : NULL; }

bool http_operation(size_t at, const char **method, const char **pattern) {
    const struct route *r = route_at(at);
    if (r == NULL) return false;
    *method = r->method;
    *pattern = r->pattern;
    return true;
}

// Both are walked together; a parameter takes what is there up to the next slash, which must not be nothing.
static bool matches(const char *pattern, const char *path, char param[static ROUTE_PARAM_MAX]) {
    param[0] = '\0';
    while (*pattern != '\0' && *path != '\0') {
        if (*pattern != '{') {
            if (*pattern++ != *path++) return false;
            continue;
        }
        size_t n = strcspn(path, "/");
        if (n == 0 || n >= ROUTE_PARAM_MAX) return false;
        memcpy(param, path, n);
        param[n] = '\0';
        path += n;
        pattern = strchr(pattern, '}') + 1;
    }
    return *pattern == '\0' && *path == '\0';
}

static void add_method(char *allow, size_t size, const char *method) {
    size_t at = strlen(allow), n = strlen(method), comma = at > 0 ? 2 : 0;
    if (at + comma + n + 1 > size) return;
    memcpy(allow + at, ", ", comma);
    memcpy(allow + at + comma, method, n + 1);
}

const struct route *route_find(const char *method, const char *path, char param[static ROUTE_PARAM_MAX], char *allow,
                               size_t allow_size) {
    allow[0] = '\0';
    if (strcmp(method, "HEAD") == 0) method = "GET";
    for (size_t i = 0; i < ROUTES; i++) {
        if (!matches(table[i].pattern, path, param)) continue;
        if (strcmp(table[i].method, method) == 0) return &table[i];
        add_method(allow, allow_size, table[i].method);
        if (strcmp(table[i].method, "GET") == 0) add_method(allow, allow_size, "HEAD");
    }
    return NULL;
}
