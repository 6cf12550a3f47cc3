// Receiving over the socket. Entries are worked on side by side, and let go of in their order:
//
//   fresh ─▶ fetching ─▶ (saving, a medium, on the pool) ─▶ stored ─▶ telling ─▶ done
//     ▲          │            │                                          │
//     └──────────┴────────────┴── waiting, after a failure ◀─────────────┘
//
// The cursor moves over the done ones at the front, is stored, then acknowledged. When the socket breaks all of it is
// forgotten: the service replays from the stored cursor, and what is in the store already is not fetched again.
#include "base/assert.h"
#include "base/crash.h"
#include "base/io.h"
#include "client/live_parts.h"
#include "client/media.h"
#include "client/receive.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INCOMING_MAX 1024 // the service has at most 256 unacknowledged
#define FETCHING_MAX 32
#define SAVING_MAX   2

enum stage { FRESH, FETCHING, FETCHED, SAVING, TELLING, WAITING, DONE };

struct incoming {
    struct list_node node;
    struct live *live;
    struct entry entry;
    enum stage stage;
    uint32_t attempts;
    struct loop_timer again;
    struct answer content;
    bool orphan; // the socket broke while the pool works on it
    // for the pool
    struct loop_work work;
    struct web *web;
    char name[MEDIA_NAME_MAX], sha256[65];
    uint64_t bytes;
    struct answer saved;
    struct error save_error;
};

static void pump(struct live *l);

static void incoming_free(struct incoming *in) {
    struct live *l = in->live;
    loop_timer_stop(l->o.loop, &in->again);
    if (list_linked(&in->node)) {
        list_remove(&in->node);
        l->incoming_count--;
    }
    answer_release(&in->content);
    answer_release(&in->saved);
    free(in);
}

static void on_again(struct loop_timer *t) {
    struct incoming *in = LIST_ITEM(t, struct incoming, again);
    in->stage = FRESH;
    pump(in->live);
}

// Waits and begins this entry anew; what is stored of it is found again.
static void again(struct incoming *in, const struct answer *a, const struct error *e) {
    struct live *l = in->live;
    if (e && e->code) live_trouble(l, e);
    answer_release(&in->content);
    in->stage = WAITING;
    in->attempts++;
    struct answer none = {0};
    uint32_t delay = answer_delay(a ? a : &none, l->c->io, in->attempts);
    loop_timer_start(l->o.loop, &in->again, delay);
}

// ---- telling ---------------------------------------------------------------------------------------------

static void on_told(void *arg, struct answer *a) {
    struct incoming *in = arg;
    struct live *l = in->live;
    enum verdict verdict = answer_verdict(a);
    struct error e = {0};
    if (verdict != VERDICT_DONE && verdict != VERDICT_NO) {
        again(in, a, a->status ? &a->error : NULL);
        return;
    }
    if (store_message_received_told(l->c->store, in->entry.message_id, &e)) {
        again(in, NULL, &e);
        return;
    }
    crash_point("client.received");
    in->stage = DONE;
    if (l->o.mark_read) live_read_message(l, in->entry.message_id);
    pump(l);
}

static void tell(struct incoming *in) {
    json_t *frame = json_pack("{s:s, s:s}", "type", "received", "message_id", in->entry.message_id);
    in->stage = TELLING;
    if (!uplink_request(in->live->uplink, frame, NULL, on_told, in)) again(in, NULL, NULL);
}

static void store(struct incoming *in, const char *media_path) {
    struct live *l = in->live;
    struct in_message m;
    struct error e = {0};
    bool fresh = false;
    enum err err = receive_store(l->c, &in->entry, &in->content, media_path, &m, &fresh, &e);
    if (!err && fresh) l->o.events.message(l->o.events.arg, &m);
    in_message_release(&m);
    answer_release(&in->content);
    if (err) again(in, NULL, &e);
    else tell(in);
}

// ---- media, on the pool ----------------------------------------------------------------------------------

static void save_work(struct loop_work *w) {
    struct incoming *in = LIST_ITEM(w, struct incoming, work);
    struct media_announced announced = {.sha256 = in->sha256, .bytes = in->bytes};
    media_download(in->web, in->live->o.downloads, in->entry.message_id, in->name, &announced, NULL, NULL, &in->saved,
                   &in->save_error);
}

static void save_done(struct loop_work *w) {
    struct incoming *in = LIST_ITEM(w, struct incoming, work);
    struct live *l = in->live;
    l->saving--;
    web_free(in->web);
    if (in->orphan) {
        incoming_free(in);
        return;
    }
    bool gone = in->saved.status == 404 || in->saved.status == 410;
    if (gone) {
        answer_release(&in->content);
        in->content = in->saved;
        memset(&in->saved, 0, sizeof in->saved);
        store(in, NULL);
    } else if (in->save_error.code || answer_verdict(&in->saved) != VERDICT_DONE) {
        again(in, &in->saved, in->save_error.code ? &in->save_error : &in->saved.error);
        answer_release(&in->saved);
    } else {
        char path[PROFILE_PATH_MAX + MEDIA_NAME_MAX];
        snprintf(path, sizeof path, "%s/%s", l->o.downloads_path, in->name);
        store(in, path);
    }
    pump(l);
}

static void save(struct incoming *in) {
    struct live *l = in->live;
    struct medium medium = receive_medium(in->content.body);
    media_safe_name(in->entry.message_id, medium.filename, in->name);
    snprintf(in->sha256, sizeof in->sha256, "%s", medium.sha256);
    in->bytes = medium.bytes;
    answer_release(&in->saved);
    memset(&in->save_error, 0, sizeof in->save_error);
    in->web = web_new(l->c->profile.server, l->c->account.token, &l->cancel);
    in->work = (struct loop_work){.work = save_work, .done = save_done};
    in->stage = SAVING;
    l->saving++;
    loop_work(l->o.loop, &in->work);
}

// ---- fetching --------------------------------------------------------------------------------------------

static void on_content(void *arg, struct answer *a) {
    struct incoming *in = arg;
    struct live *l = in->live;
    enum verdict verdict = answer_verdict(a);
    l->fetching--;
    bool gone = a->status == 404 || a->status == 410;
    if (verdict != VERDICT_DONE && !gone) {
        again(in, a, a->status ? &a->error : NULL);
        return;
    }
    in->content = *a;
    memset(a, 0, sizeof *a);
    in->stage = FETCHED;
    if (gone || !in->entry.media) store(in, NULL);
    pump(l);
}

static void fetch(struct incoming *in) {
    struct live *l = in->live;
    if (l->fetching >= FETCHING_MAX) return;
    json_t *frame = json_pack("{s:s, s:s}", "type", "get", "message_id", in->entry.message_id);
    if (!uplink_request(l->uplink, frame, NULL, on_content, in)) return;
    in->stage = FETCHING;
    l->fetching++;
}

static void take_receipt(struct incoming *in) {
    struct live *l = in->live;
    struct error e = {0};
    bool fresh = false;
    if (in->entry.type != ENTRY_IS_UNKNOWN && receive_receipt(l->c, &in->entry, &fresh, &e)) {
        again(in, NULL, &e);
        return;
    }
    in->stage = DONE;
    if (!fresh) return;
    l->o.events.receipt(l->o.events.arg, &in->entry);
    l->o.events.outbox_changed(l->o.events.arg);
}

static void begin(struct incoming *in) {
    if (in->entry.type != ENTRY_IS_MESSAGE) take_receipt(in);
    else if (receive_has(in->live->c, &in->entry)) tell(in);
    else fetch(in);
}

// ---- in order --------------------------------------------------------------------------------------------

static void let_go(struct live *l) {
    uint64_t cursor = 0;
    struct list_node *n;
    while ((n = list_first(&l->incoming)) != NULL && LIST_ITEM(n, struct incoming, node)->stage == DONE) {
        struct incoming *in = LIST_ITEM(n, struct incoming, node);
        cursor = in->entry.cursor;
        incoming_free(in);
    }
    if (cursor == 0) return;
    struct error e = {0};
    if (store_cursor_set(l->c->store, cursor, &e)) {
        live_trouble(l, &e); // not acknowledged, so it comes again after the next break; nothing is lost
        return;
    }
    l->c->account.cursor = cursor;
    uplink_say(l->uplink, json_pack("{s:s, s:I}", "type", "ack", "cursor", (json_int_t)cursor));
}

static void pump(struct live *l) {
    LIST_EACH_SAFE(&l->incoming, n) {
        struct incoming *in = LIST_ITEM(n, struct incoming, node);
        if (!l->open) return;
        if (in->stage == FRESH) begin(in);
        if (in->stage == FETCHED && in->entry.media && l->saving < SAVING_MAX) save(in);
    }
    let_go(l);
    live_check_done(l);
}

static uint64_t newest_cursor(struct live *l) {
    struct list_node *n = list_last(&l->incoming);
    return n ? LIST_ITEM(n, struct incoming, node)->entry.cursor : l->c->account.cursor;
}

void live_receive_entry(struct live *l, const json_t *frame) {
    struct incoming *in = calloc(1, sizeof *in);
    if (!in) die("out of memory");
    bool fits = l->incoming_count < INCOMING_MAX;
    bool known = mailbox_entry_parse(frame, io_wall_ms(l->c->io), &in->entry);
    if (!fits || !known || in->entry.cursor <= newest_cursor(l)) {
        free(in);
        return;
    }
    in->live = l;
    in->again.fn = on_again;
    list_push_back(&l->incoming, &in->node);
    l->incoming_count++;
    pump(l);
}

void live_receive_closed(struct live *l) {
    LIST_EACH_SAFE(&l->incoming, n) {
        struct incoming *in = LIST_ITEM(n, struct incoming, node);
        if (in->stage == SAVING) {
            in->orphan = true;
            list_remove(&in->node);
            l->incoming_count--;
        } else {
            incoming_free(in);
        }
    }
}
