// A server on this machine is never asked by way of a proxy, which could not reach it and would get the password.
#ifndef BARID_BASE_LOCAL_SERVER_H
#define BARID_BASE_LOCAL_SERVER_H

#include <stdbool.h>
#include <string.h>

static inline bool server_is_local(const char *url) {
    static const char *const hosts[] = {"localhost", "127.", "[::1]"};
    const char *host = strstr(url, "://");
    host = host != NULL ? host + 3 : url;
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++)
        if (strncmp(host, hosts[i], strlen(hosts[i])) == 0) return true;
    return false;
}

#endif
