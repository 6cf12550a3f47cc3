// The mailbox over HTTP: the long poll, and letting go.
#include "http/api.h"
#include "http/json_out.h"
#include "http/request.h"

#include <stdlib.h>
#include <string.h>

#define LIMIT_DEFAULT 100
#define LIMIT_MAX     1000
#define WAIT_MAX_S    60

void api_write_entry(struct buf *b, const struct chat_entry *entry) {
    static const char *const types[] = {[ENTRY_MESSAGE] = "message",
                                        [ENTRY_DELIVERED] = "delivered",
                                        [ENTRY_READ] = "read",
                                        [ENTRY_EXPIRED] = "expired"};
    json_open(b, NULL, '{');
    json_text(b, "type", types[entry->type]);
    json_uint(b, "cursor", entry->cursor);
    json_id(b, "message_id", &entry->message_id);
    json_text_opt(b, "conversation_id", entry->conversation_id);
    if (entry->type == ENTRY_MESSAGE) json_uint(b, "seq", entry->seq);
    json_text_opt(b, "by_user_id", entry->by_user_id);
    if (entry->type == ENTRY_MESSAGE) {
        json_text(b, "kind", entry->kind == CHAT_TEXT ? "text" : "media");
        json_uint(b, "bytes", entry->bytes);
    }
    json_time(b, entry->type == ENTRY_MESSAGE ? "accepted_at" : "at", entry->at_ms);
    json_close(b, '}');
}

// A number of the query string, `otherwise` when it is not there; false: answered with 422.
static bool query_number(struct request *r, const char *name, uint64_t otherwise, uint64_t max, uint64_t *out) {
    char text[24];
    *out = otherwise;
    if (!request_query(r, name, text, sizeof text)) return true;
    size_t n = strlen(text);
    if (n > 0 && n < 20 && strspn(text, "0123456789") == n) {
        *out = strtoull(text, NULL, 10);
        if (*out <= max) return true;
    }
    struct error e;
    error_field(&e, name, "must be a whole number, at most %llu", (unsigned long long)max);
    request_fail(r, &e);
    return false;
}

static void on_entries(void *arg, const struct error *error, const struct chat_entry *entries, size_t n, bool drained) {
    struct request *r = arg;
    r->stream = NULL;
    r->on_gone = NULL;
    list_remove(&r->streaming);
    if (error != NULL) {
        request_fail(r, error);
        return;
    }
    struct buf *b = request_out(r);
    json_open(b, NULL, '{');
    json_open(b, "entries", '[');
    for (size_t i = 0; i < n; i++) api_write_entry(b, &entries[i]);
    json_close(b, ']');
    json_flag(b, "drained", drained);
    json_close(b, '}');
    request_answer(r, 200);
}

static void poll_gone(struct request *r) {
    chat_poll_cancel(r->stream);
    request_release(r);
}

void api_mailbox(struct request *r) {
    uint64_t after, limit, wait_s;
    if (!query_number(r, "after", 0, INT64_MAX, &after) ||
        !query_number(r, "limit", LIMIT_DEFAULT, LIMIT_MAX, &limit) || !query_number(r, "wait", 0, WAIT_MAX_S, &wait_s))
        return;
    uint32_t wait_ms = r->http->draining ? 0 : (uint32_t)wait_s * 1000; // whose turn came only after the end began
    r->stream = chat_mailbox(r->http->o.chat, &r->who, after, (uint32_t)limit, wait_ms, on_entries, r);
    if (r->stream == NULL) return;
    r->on_gone = poll_gone;
    list_push_back(&r->http->polls, &r->streaming);
}

void api_polls_end(struct http *h) {
    LIST_EACH_SAFE(&h->polls, at) {
        struct request *r = LIST_ITEM(at, struct request, streaming);
        chat_poll_cancel(r->stream);
        on_entries(r, NULL, NULL, 0, true);
    }
}

static void on_acked(void *arg, const struct error *error) {
    struct request *r = arg;
    if (error != NULL) {
        request_fail(r, error);
        return;
    }
    struct buf *b = request_out(r);
    json_open(b, NULL, '{');
    json_close(b, '}');
    request_answer(r, 200);
}

void api_mailbox_ack(struct request *r) {
    json_t *o = request_json(r);
    if (o == NULL) return;
    uint64_t cursor;
    struct error e;
    if (json_in_uint(o, "cursor", &cursor, &e)) chat_mailbox_ack(r->http->o.chat, &r->who, cursor, on_acked, r);
    else request_fail(r, &e);
    json_decref(o);
}
