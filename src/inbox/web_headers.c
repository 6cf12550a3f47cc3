#include "inbox/web_headers.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/time.h"

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define LINE_MAX_BYTES 65536

// What would change how the call is made, or what we say ourselves. "ce-" names are ours altogether.
static const char *const kept_out[] = {"host",
                                       "content-length",
                                       "content-type",
                                       "transfer-encoding",
                                       "connection",
                                       "keep-alive",
                                       "te",
                                       "trailer",
                                       "upgrade",
                                       "expect",
                                       "idempotency-key",
                                       "barid-attempt",
                                       "proxy-authorization",
                                       "proxy-connection",
                                       "user-agent"};

struct lines {
    struct curl_slist *list;
    struct buf line;
};

static void add(struct lines *l) {
    if (!buf_ok(&l->line)) return; // too long to be taken by anybody
    struct curl_slist *longer = curl_slist_append(l->list, buf_cstr(&l->line));
    if (!longer) die("no memory for a call");
    l->list = longer;
}

// CloudEvents' HTTP binding escapes more than HTTP must: space, quote and the percent sign itself.
static void add_value(struct buf *b, const char *value, bool cloudevents) {
    for (const unsigned char *c = (const unsigned char *)value; *c; c++) {
        bool plain = *c >= ' ' && *c < 0x7f && !(cloudevents && strchr(" \"%", *c));
        if (plain) buf_add_u8(b, *c);
        else buf_printf(b, "%%%02X", *c);
    }
}

static void add_header(struct lines *l, const char *name, const char *value, bool cloudevents) {
    buf_clear(&l->line);
    buf_add_str(&l->line, name);
    if (*value) {
        buf_add_str(&l->line, ": ");
        add_value(&l->line, value, cloudevents);
    } else {
        buf_add_u8(&l->line, ';'); // curl's way to say a header that is empty
    }
    add(l);
}

static bool is_token(const char *name) {
    static const char also[] = "!#$%&'*+-.^_`|~";
    if (!*name) return false;
    for (const char *c = name; *c; c++) {
        bool letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9');
        if (!letter && !strchr(also, *c)) return false;
    }
    return true;
}

static bool may_pass(const char *name) {
    if (!is_token(name) || strncasecmp(name, "ce-", 3) == 0 || strncasecmp(name, "ce_", 3) == 0) return false;
    for (size_t i = 0; i < sizeof kept_out / sizeof kept_out[0]; i++)
        if (strcasecmp(name, kept_out[i]) == 0) return false;
    return true;
}

static const char *content_type(const struct bus_event *event) {
    for (size_t i = 0; i < event->header_count; i++)
        if (strcasecmp(event->headers[i].name, "content-type") == 0) return event->headers[i].value;
    const char *text = event->payload;
    size_t n = 0;
    while (n < event->payload_length && strchr(" \t\r\n", text[n]) && text[n]) n++;
    bool json = n < event->payload_length && (text[n] == '{' || text[n] == '[');
    return json ? "application/json" : "application/octet-stream";
}

struct curl_slist *web_headers(const struct outbox_item *item) {
    const struct bus_event *event = &item->event;
    struct lines l = {0};
    char id[ID_TEXT], time[TIME_TEXT], source[300], attempt[16];
    buf_init(&l.line, LINE_MAX_BYTES);
    id_format(&event->event_id, id);
    time_format_ms(item->published_at_ms ? item->published_at_ms : item->stored_at_ms, time);
    snprintf(source, sizeof source, "/barid/%.255s", event->topic);
    snprintf(attempt, sizeof attempt, "%u", item->attempt);
    add_header(&l, "ce-specversion", "1.0", true);
    add_header(&l, "ce-id", id, true);
    add_header(&l, "ce-type", event->topic, true);
    add_header(&l, "ce-source", source, true);
    add_header(&l, "ce-time", time, true);
    if (event->key && *event->key) add_header(&l, "ce-partitionkey", event->key, true);
    add_header(&l, "Content-Type", content_type(event), false);
    add_header(&l, "Idempotency-Key", id, false);
    add_header(&l, "Barid-Attempt", attempt, false);
    buf_clear(&l.line);
    buf_add_str(&l.line, "Expect:"); // none: a 100-continue would cost a round trip
    add(&l);
    for (size_t i = 0; i < event->header_count; i++)
        if (may_pass(event->headers[i].name)) add_header(&l, event->headers[i].name, event->headers[i].value, false);
    buf_release(&l.line);
    return l.list;
}
