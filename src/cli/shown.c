#include "cli/shown.h"

#include "base/utf8.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const char *url_shown(const char *url, char out[static URL_SHOWN]) {
    const char *at = strstr(url, "://"), *host = at ? at + 3 : url;
    size_t n = strcspn(host, "?");
    const char *password = memchr(host, ':', n), *user_end = memrchr(host, '@', n);
    if (user_end && password && password < user_end)
        snprintf(out, URL_SHOWN, "%.*s%.*s", (int)(password - url), url, (int)(host + n - user_end), user_end);
    else snprintf(out, URL_SHOWN, "%.*s", (int)(host + n - url), url);
    return out;
}

void door_print(const char *what, const char *scheme, const char *address, uint16_t port, const char *path) {
    bool v6 = strchr(address, ':') != NULL;
    printf("  %-8s %s://%s%s%s:%u%s\n", what, scheme, v6 ? "[" : "", address, v6 ? "]" : "", port, path);
}

void process_name(const char *given, char *out, size_t size) {
    char host[40] = "";
    gethostname(host, sizeof host - 1);
    if (given) snprintf(out, size, "%s", given);
    else snprintf(out, size, "%s:%d", host, (int)getpid());
    out[utf8_whole(out, strlen(out))] = '\0'; // the database takes nothing else
}
