#include "client/receive.h"

#include "base/crash.h"
#include "base/io.h"
#include "client/media.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE       100
#define READ_BATCH 64

bool receive_has(struct client *c, const struct entry *entry) {
    struct in_message m;
    bool has = store_message_get(c->store, entry->message_id, &m, NULL) == ERR_OK;
    in_message_release(&m);
    return has;
}

enum err receive_receipt(struct client *c, const struct entry *entry, bool *fresh, struct error *e) {
    static const enum receipt_kind kinds[] = {
        [ENTRY_IS_DELIVERED] = RECEIPT_DELIVERED, [ENTRY_IS_READ] = RECEIPT_READ, [ENTRY_IS_EXPIRED] = RECEIPT_EXPIRED};
    return store_receipt_add(c->store, entry->message_id, kinds[entry->type], entry->by_user_id, entry->seq, entry->at,
                             fresh, e);
}

struct medium receive_medium(const json_t *content) {
    const json_t *media = json_object_get(content, "media");
    if (!json_is_object(media)) media = content;
    return (struct medium){.media_type = member_text(media, "media_type", "application/octet-stream"),
                           .filename = member_text(media, "filename", NULL),
                           .sha256 = member_text(media, "sha256", ""),
                           .bytes = member_count(media, "bytes")};
}

static char *dup_or_null(const char *text) {
    char *copy = text ? strdup(text) : NULL;
    return copy;
}

enum err receive_store(struct client *c, const struct entry *entry, const struct answer *content,
                       const char *media_path, struct in_message *out, bool *fresh, struct error *e) {
    memset(out, 0, sizeof *out);
    snprintf(out->message_id, sizeof out->message_id, "%s", entry->message_id);
    snprintf(out->conversation_id, sizeof out->conversation_id, "%s", entry->conversation_id);
    snprintf(out->by_user_id, sizeof out->by_user_id, "%s", entry->by_user_id);
    out->seq = entry->seq;
    out->bytes = entry->bytes;
    out->accepted_at = entry->at;
    out->received_at = io_wall_ms(c->io);
    out->gone = answer_verdict(content) != VERDICT_DONE;
    if (!out->gone && entry->media) {
        struct medium medium = receive_medium(content->body);
        out->media_type = dup_or_null(medium.media_type);
        out->filename = dup_or_null(medium.filename);
        out->media_path = dup_or_null(media_path);
    } else if (!out->gone) {
        out->text = dup_or_null(member_text(content->body, "message_text", ""));
    }
    crash_point("client.fetched");
    enum err err = store_message_add(c->store, out, fresh, e);
    if (!err) crash_point("client.stored");
    return err;
}

// ---- the blocking way -----------------------------------------------------------------------------------

struct fetch {
    struct client *c;
    struct io *downloads;
    const char *downloads_path;
    uint64_t deadline_ms;
    const struct receive_events *events;
    char name[MEDIA_NAME_MAX];
};

static void on_progress(void *arg, uint64_t done, uint64_t total) {
    struct fetch *f = arg;
    if (f->events->progress) f->events->progress(f->events->arg, f->name, done, total);
}

// True when there is nothing to be had by asking again.
static bool is_gone(const struct answer *a) { return a->status == 404 || a->status == 410; }

// When the bytes have gone since, the answer that says so takes the place of `content`.
static enum err fetch_media(struct fetch *f, const struct entry *entry, struct answer *content, char *path, size_t size,
                            struct error *e) {
    struct medium medium = receive_medium(content->body);
    media_safe_name(entry->message_id, medium.filename, f->name);
    snprintf(path, size, "%s/%s", f->downloads_path, f->name);
    struct media_announced announced = {.sha256 = medium.sha256, .bytes = medium.bytes};
    for (uint32_t attempts = 1;; attempts++) {
        struct answer a;
        if (e) memset(e, 0, sizeof *e); // what an earlier attempt met is over
        enum err err =
            media_download(f->c->web, f->downloads, entry->message_id, f->name, &announced, on_progress, f, &a, e);
        uint32_t delay = answer_delay(&a, f->c->io, attempts);
        enum verdict verdict = answer_verdict(&a);
        if (!err && is_gone(&a)) {
            answer_release(content);
            *content = a;
            *path = 0;
            return ERR_OK;
        }
        if (!err && verdict != VERDICT_DONE && e) *e = a.error;
        if (!err && verdict != VERDICT_DONE) err = a.error.code;
        answer_release(&a);
        if (!err || verdict != VERDICT_LATER || client_now_ms(f->c) + delay >= f->deadline_ms) return err;
        client_sleep(delay);
    }
}

static enum err fetch_message(struct fetch *f, const struct entry *entry, struct error *e) {
    char path[64], saved[PROFILE_PATH_MAX + MEDIA_NAME_MAX] = "";
    struct answer content;
    snprintf(path, sizeof path, "/message/%s", entry->message_id);
    enum err err = client_call(f->c, "GET", path, NULL, f->deadline_ms, &content, e);
    if (!err && entry->media) err = fetch_media(f, entry, &content, saved, sizeof saved, e);
    if (is_gone(&content)) err = ERR_OK;
    struct in_message m = {0};
    bool fresh = false;
    if (!err) err = receive_store(f->c, entry, &content, *saved ? saved : NULL, &m, &fresh, e);
    if (!err && fresh && f->events->message) f->events->message(f->events->arg, &m);
    in_message_release(&m);
    answer_release(&content);
    return err;
}

static enum err tell_received(struct fetch *f, const struct entry *entry, struct error *e) {
    char path[80];
    struct answer a;
    snprintf(path, sizeof path, "/message/%s/received", entry->message_id);
    enum err err = client_call(f->c, "POST", path, NULL, f->deadline_ms, &a, e);
    if (err && answer_verdict(&a) == VERDICT_NO) err = ERR_OK; // not ours to say; nothing would change that
    answer_release(&a);
    if (!err) err = store_message_received_told(f->c->store, entry->message_id, e);
    if (!err) crash_point("client.received");
    return err;
}

static enum err take(struct fetch *f, const struct entry *entry, struct error *e) {
    bool fresh = false;
    enum err err = ERR_OK;
    if (entry->type == ENTRY_IS_MESSAGE) {
        if (!receive_has(f->c, entry)) err = fetch_message(f, entry, e);
        return err ? err : tell_received(f, entry, e);
    }
    if (entry->type == ENTRY_IS_UNKNOWN) return ERR_OK;
    err = receive_receipt(f->c, entry, &fresh, e);
    if (!err && fresh && f->events->receipt) f->events->receipt(f->events->arg, entry);
    return err;
}

static enum err let_go(struct fetch *f, uint64_t cursor, struct error *e) {
    enum err err = store_cursor_set(f->c->store, cursor, e);
    if (err) return err;
    f->c->account.cursor = cursor;
    struct answer a;
    json_t *body = json_pack("{s:I}", "cursor", (json_int_t)cursor);
    err = client_call(f->c, "POST", "/mailbox/ack", body, f->deadline_ms, &a, e);
    json_decref(body);
    answer_release(&a);
    return err;
}

static enum err take_page(struct fetch *f, const json_t *entries, struct error *e) {
    size_t i;
    const json_t *object;
    uint64_t cursor = f->c->account.cursor;
    enum err err = ERR_OK;
    json_array_foreach(entries, i, object) {
        struct entry entry;
        if (!mailbox_entry_parse(object, io_wall_ms(f->c->io), &entry) || entry.cursor <= cursor) continue;
        if ((err = take(f, &entry, e))) break;
        cursor = entry.cursor;
    }
    enum err acked = cursor > f->c->account.cursor ? let_go(f, cursor, err ? NULL : e) : ERR_OK;
    return err ? err : acked;
}

enum err inbox_fetch(struct client *c, struct io *downloads, const char *downloads_path, uint64_t deadline_ms,
                     const struct receive_events *events, struct error *e) {
    struct fetch f = {
        .c = c, .downloads = downloads, .downloads_path = downloads_path, .deadline_ms = deadline_ms, .events = events};
    for (bool drained = false; !drained;) {
        char path[96];
        struct answer page;
        snprintf(path, sizeof path, "/mailbox?after=%llu&limit=%d", (unsigned long long)c->account.cursor, PAGE);
        enum err err = client_call(c, "GET", path, NULL, deadline_ms, &page, e);
        const json_t *entries = json_object_get(page.body, "entries");
        drained = json_is_true(json_object_get(page.body, "drained")) || json_array_size(entries) == 0;
        if (!err) err = take_page(&f, entries, e);
        answer_release(&page);
        if (err) return err;
    }
    return ERR_OK;
}

enum err inbox_tell_read(struct client *c, uint64_t deadline_ms, struct error *e) {
    char ids[READ_BATCH][ID_TEXT];
    size_t n;
    while ((n = store_read_untold(c->store, ids, READ_BATCH)) > 0) {
        for (size_t i = 0; i < n; i++) {
            char path[64];
            struct answer a;
            snprintf(path, sizeof path, "/message/%.36s/read", ids[i]);
            enum err err = client_call(c, "POST", path, NULL, deadline_ms, &a, e);
            if (err && answer_verdict(&a) == VERDICT_NO) err = ERR_OK;
            answer_release(&a);
            if (!err) err = store_message_read_told(c->store, ids[i], e);
            if (err) return err;
        }
    }
    return ERR_OK;
}
