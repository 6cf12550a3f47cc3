// The check before a WebSocket handshake.
#include "http/upgrade.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

bool upgrade_origin_matches(const char *origin, const char *host) {
    const char *authority = strstr(origin, "://");
    return authority != NULL && strcasecmp(authority + 3, host) == 0;
}

static int refuse(struct lws *wsi, int status, const char *text, const char *code, const char *reason) {
    char body[256];
    unsigned char answer[LWS_PRE + 512];
    int n = snprintf(body, sizeof body, "{\"error\":{\"code\":\"%s\",\"reason\":\"%s\"}}", code, reason);
    n = snprintf((char *)answer + LWS_PRE, sizeof answer - LWS_PRE,
                 "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n"
                 "X-Content-Type-Options: nosniff\r\n%s%s\r\n%s",
                 status, text, n, status == 426 ? "Sec-WebSocket-Version: 13\r\n" : "",
                 status == 503 ? "Retry-After: 5\r\n" : "", body);
    lws_write(wsi, answer + LWS_PRE, (size_t)n, LWS_WRITE_HTTP_HEADERS);
    return -1;
}

// The value of a header, "" when it is missing or too long.
static const char *header(struct lws *wsi, enum lws_token_indexes token, char *out, int size) {
    if (lws_hdr_total_length(wsi, token) <= 0 || lws_hdr_copy(wsi, out, size, token) < 0) out[0] = '\0';
    return out;
}

static bool offers(const char *list, const char *name) {
    size_t n = strlen(name);
    for (const char *at = list; *at != '\0';) {
        at += strspn(at, ", \t");
        size_t length = strcspn(at, ", \t");
        if (length == n && strncmp(at, name, n) == 0) return true;
        at += length;
    }
    return false;
}

int upgrade_check(struct conn *c, struct lws *wsi) {
    char upgrade[32], path[64], offered[128], version[8], origin[256], host[256];
    // libwebsockets asks even after it has refused an upgrade it does not know; there is nothing left to read then.
    if (lws_hdr_total_length(wsi, WSI_TOKEN_UPGRADE) <= 0) return -1;
    if (strcasecmp(header(wsi, WSI_TOKEN_UPGRADE, upgrade, sizeof upgrade), "websocket") != 0)
        return refuse(wsi, 400, "Bad Request", "bad_request", "the only upgrade is to websocket");
    if (c->http->draining || c->too_many)
        return refuse(wsi, 503, "Service Unavailable", "busy", "no more connections now");
    if (strcmp(header(wsi, WSI_TOKEN_GET_URI, path, sizeof path), "/events") != 0)
        return refuse(wsi, 404, "Not Found", "not_found", "the socket is at /events");
    if (strcmp(header(wsi, WSI_TOKEN_VERSION, version, sizeof version), "13") != 0)
        return refuse(wsi, 426, "Upgrade Required", "upgrade_required", "WebSocket version 13");
    if (lws_hdr_total_length(wsi, WSI_TOKEN_KEY) <= 0)
        return refuse(wsi, 400, "Bad Request", "bad_request", "Sec-WebSocket-Key is missing");
    if (!offers(header(wsi, WSI_TOKEN_PROTOCOL, offered, sizeof offered), "barid.v1"))
        return refuse(wsi, 400, "Bad Request", "bad_request", "offer the subprotocol barid.v1");
    header(wsi, WSI_TOKEN_HOST, host, sizeof host);
    if (lws_hdr_total_length(wsi, WSI_TOKEN_ORIGIN) > 0 &&
        !upgrade_origin_matches(header(wsi, WSI_TOKEN_ORIGIN, origin, sizeof origin), host))
        return refuse(wsi, 403, "Forbidden", "forbidden", "the page is from another origin");
    return 0;
}
