// The web page, built into the binary (web/, tools/embed.py). Looked up by base name in a fixed list: there is no
// path to walk out of.
#include "http/api.h"
#include "http/request.h"

#include "base/embedded.h"

#include <stdio.h>
#include <string.h>

extern const struct embedded_file web_files[];

static const struct {
    const char *ending, *type;
} types[] = {
    {".html", "text/html; charset=utf-8"},
    {".js", "text/javascript; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},
    {".svg", "image/svg+xml"},
    {".png", "image/png"},
    {".ico", "image/x-icon"},
    {".webmanifest", "application/manifest+json"},
    {".json", "application/json"},
};

static const char *type_of(const char *name) {
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        size_t k = strlen(types[i].ending);
        if (n > k && strcmp(name + n - k, types[i].ending) == 0) return types[i].type;
    }
    return "application/octet-stream";
}

static const struct embedded_file *find(const char *path) {
    const char *name = strcmp(path, "/") == 0 ? "index.html" : path + 1;
    for (const struct embedded_file *f = web_files; f->name != NULL; f++)
        if (strcmp(f->name, name) == 0) return f;
    return NULL;
}

void api_static(struct request *r) {
    const struct embedded_file *f = find(r->path);
    if (f == NULL) {
        request_fail_with(r, 404, "not_found", "no such path", "");
        return;
    }
    char etag[32], headers[512], known[256];
    snprintf(etag, sizeof etag, "\"%016llx\"", (unsigned long long)rates_key(f->data, f->length));
    snprintf(headers, sizeof headers,
             "ETag: %s\r\nCache-Control: no-cache\r\n"
             "Content-Security-Policy: default-src 'self'; img-src 'self' blob:; media-src 'self' blob:; "
             "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'\r\n"
             "Referrer-Policy: no-referrer\r\n",
             etag);
    if (request_header(r, WSI_TOKEN_HTTP_IF_NONE_MATCH, known, sizeof known) && strstr(known, etag) != NULL)
        request_answer_as(r, 304, NULL, headers, "", 0);
    else request_answer_as(r, 200, type_of(f->name), headers, f->data, f->length);
}
