// The URL of an AMQP bus: amqp[s]://user:password@host:port/vhost[?exchange=NAME], each part percent-encoded.
#include "bus/amqp_link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXCHANGE_PARAMETER "exchange="

static int nibble(char c) {
    const char *digits = "0123456789abcdef0123456789ABCDEF", *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) % 16 : -1;
}

static bool decode(char *text) {
    char *to = text;
    for (const char *from = text; *from; from++) {
        if (*from != '%') {
            *to++ = *from;
            continue;
        }
        int high = nibble(from[1]), low = high < 0 ? -1 : nibble(from[2]);
        if (low < 0) return false;
        *to++ = (char)(high * 16 + low);
        from += 2;
    }
    *to = 0;
    return true;
}

static enum err take_query(struct amqp_settings *s, char *query, struct error *e) {
    if (strncmp(query, EXCHANGE_PARAMETER, strlen(EXCHANGE_PARAMETER)) != 0 || strchr(query, '&'))
        return error_set(e, ERR_INVALID, "the only parameter of an AMQP bus is exchange=NAME, not '%s'", query);
    char *name = query + strlen(EXCHANGE_PARAMETER);
    if (!decode(name) || strlen(name) > 255) return error_set(e, ERR_INVALID, "no name of an exchange: '%s'", name);
    s->exchange = name;
    s->named = true;
    return ERR_OK;
}

enum err amqp_settings_parse(struct amqp_settings *s, const char *url, struct error *e) {
    *s = (struct amqp_settings){.text = strdup(url), .exchange = AMQP_EVENTS};
    if (!s->text) return error_set(e, ERR_NOMEM, "out of memory");
    char *query = strchr(s->text, '?');
    if (query) *query++ = 0;
    enum err code = ERR_OK;
    if (amqp_parse_url(s->text, &s->info) != AMQP_STATUS_OK)
        code = error_set(e, ERR_INVALID,
                         "not amqp[s]://user:password@host:port/vhost"); // its password is nobody's business
    else if (query) code = take_query(s, query, e);
    if (code) {
        amqp_settings_release(s);
        return code;
    }
    if (s->info.vhost[0] == 0) s->info.vhost = "/";
    snprintf(s->place, sizeof s->place, "%s:%d/%s", s->info.host, s->info.port,
             strcmp(s->info.vhost, "/") == 0 ? "" : s->info.vhost);
    return ERR_OK;
}

void amqp_settings_release(struct amqp_settings *s) {
    free(s->text);
    s->text = NULL;
}
