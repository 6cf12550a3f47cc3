// Basic auth; see auth.h. A right password is remembered by access, so it costs its slow hash but now and then.
//
// A browser on this machine reaches what listens on loopback for every page it shows: by a form that a page sends
// here (its Origin is not us), or under a name whose owner lets it be 127.0.0.1 (the Host is that name).
#include "management/auth.h"

#include "http/limits.h"
#include "management/internal.h"
#include "management/routes.h"

#include <arpa/inet.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define PAIR_MAX 1024

// What waits for access to say whether the password is right.
struct check {
    struct call *call;
    void (*next)(struct call *c);
};

static void fail(struct call *c, enum err err) {
    switch (err) {
    case ERR_RATE: call_fail(c, 429, "too_many_requests", "too many wrong passwords, try again later"); return;
    case ERR_FORBIDDEN: call_fail(c, 401, "not_authorised", "User can only log in via localhost"); return;
    case ERR_UNAUTHORIZED: call_fail(c, 401, "not_authorized", "Not_Authorized"); return;
    default: call_fail(c, 503, "service_unavailable", "%s", err_text(err)); return;
    }
}

static void on_login(void *arg, enum err err, const struct access_user *u) {
    struct check check = *(struct check *)arg;
    struct call *c = check.call;
    free(arg);
    if (err != ERR_OK) {
        fail(c, err);
        return;
    }
    c->user = u; // held for us
    if (u->administrator || u->monitoring || u->policymaker || u->management) check.next(c);
    else call_fail(c, 401, "not_authorised", "Not management user");
}

// "Basic <base64 of name:password>", decoded into `out`: the name. Its password is given; NULL: it is not that.
static const char *read_pair(const char *header, char out[static PAIR_MAX]) {
    size_t n;
    if (header == NULL || strncasecmp(header, "Basic ", 6) != 0) return NULL;
    header += 6 + strspn(header + 6, " ");
    if (sodium_base642bin((unsigned char *)out, PAIR_MAX - 1, header, strlen(header), " ", &n, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0)
        return NULL;
    out[n] = '\0';
    char *colon = strlen(out) == n ? strchr(out, ':') : NULL;
    if (colon != NULL) *colon++ = '\0';
    return colon;
}

// Is it asked for as localhost, by an address, or by a name without a dot, which nobody owns in DNS?
static bool host_is_ours(const char *host) {
    char name[INET6_ADDRSTRLEN];
    struct in_addr v4;
    if (host == NULL || host[0] == '[') return true;
    size_t n = strcspn(host, ":");
    if (memchr(host, '.', n) == NULL) return true;
    if (n >= sizeof name) return false;
    memcpy(name, host, n);
    name[n] = '\0';
    return inet_pton(AF_INET, name, &v4) == 1;
}

// Does a page of another server ask for a change? Without leave (CORS) it cannot read, so looking is harmless.
static bool is_of_other_page(const struct call *c) {
    const char *origin = call_header(c, "Origin"), *host = call_header(c, "Host");
    if (origin == NULL || strcmp(c->route->method, "GET") == 0) return false;
    const char *from = strstr(origin, "://");
    return from == NULL || host == NULL || strcasecmp(from + 3, host) != 0;
}

void auth_check(struct call *c, void (*next)(struct call *c)) {
    char name[PAIR_MAX];
    if (is_of_other_page(c)) {
        call_fail(c, 403, "forbidden", "a page of another server may not change anything here");
        return;
    }
    const char *password = read_pair(call_header(c, "Authorization"), name);
    struct check *check = password != NULL ? malloc(sizeof *check) : NULL;
    if (password == NULL) {
        call_fail(c, 401, "not_authorized", "Login failed");
    } else if (check == NULL) {
        fail(c, ERR_NOMEM);
    } else {
        *check = (struct check){.call = c, .next = next};
        bool local = address_is_loopback(c->address) && host_is_ours(call_header(c, "Host"));
        access_login(c->management->o.access, name, password, c->address, local, on_login, check);
    }
    sodium_memzero(name, sizeof name);
}
