// A connected socket of a device: replay, drained, live.
//
//   position: every entry up to here was sent or passed over     known: the last entry we know to exist
//
// While known > position (or nothing was read yet) the link reads pages from the database; when a committed entry is
// the very next one and nothing is outstanding before it, it is pushed straight from memory. At most 256 unacked
// entries or 1 MiB in flight: beyond that the link waits for acks, and one that waits without progress is closed.
#include "base/crash.h"
#include "base/log.h"
#include "chat/box.h"
#include "chat/homes.h"
#include "chat/notified.h"

#include <stdlib.h>

#define WINDOW            256
#define PAGE              128
#define IN_FLIGHT_MAX     (1024 * 1024)
#define IN_FLIGHT_LOOK_MS 100
#define RETRY_MS          250
#define AWAY_MS           1000 // while the database is away

struct chat_link {
    struct chat *chat;
    struct box *box;
    struct chat_actor who;
    struct chat_link_events events;
    void *arg;
    char *address;
    struct page *page; // being read
    struct home_op *homing;
    uint64_t epoch;       // of this link among the device's, 0: not known yet
    uint64_t replaced_by; // the newest that we heard of
    uint64_t position, known, sent, acked;
    uint32_t unacked;
    int64_t touched_at;
    bool started; // the first page has been read
    bool drained; // and the receiver was told that it has caught up
    bool calling; // inside a callback: closing waits until it returns
    bool detached;
    bool blocked;
    uint64_t blocked_since, looked_in_flight;
    struct loop_timer timer;
};

static void pump(struct chat_link *l);

// An eighth of the session's life since the last time.
bool link_wants_touch(struct chat_link *l) {
    int64_t now = chat_now(l->chat);
    if (now - l->touched_at < (int64_t)(l->chat->o.session_ttl_ms / 8)) return false;
    l->touched_at = now;
    return true;
}

void link_free(struct chat_link *l) {
    loop_timer_stop(l->chat->loop, &l->timer);
    if (l->page != NULL) l->page->owner = NULL;
    if (l->homing != NULL) home_cancel(l->homing);
    free(l->address);
    free(l);
}

// Which device is connected from which address, for whoever runs the service.
static void log_presence(const struct chat_link *l, const char *event) {
    char device[ID_TEXT];
    id_format(&l->who.device_id, device);
    log_event(LOG_INFO, event, "user_id", l->who.user_id, "device_id", device, "address",
              l->address != NULL ? l->address : "", NULL);
}

static void link_leave(struct chat_link *l) {
    struct box *box = l->box;
    if (box == NULL) return;
    log_presence(l, "disconnected");
    home_leave(l->chat, l->who.did, l->epoch);
    l->box = NULL;
    box->link = NULL;
    l->chat->stats.links--;
    box_put(box);
}

void link_close(struct chat_link *l, const char *reason) {
    if (l->detached) return;
    link_leave(l);
    l->events.closed(l->arg, reason);
    l->detached = true;
    if (!l->calling) link_free(l);
}

void chat_detach(struct chat_link *l) {
    link_leave(l);
    l->detached = true;
    if (!l->calling) link_free(l);
}

// ---- where else the device is ---------------------------------------------------------------------------

void link_replaced(struct chat_link *l, uint64_t epoch) {
    if (epoch > l->replaced_by) l->replaced_by = epoch;
    if (l->epoch != 0 && l->epoch < l->replaced_by) link_close(l, "replaced");
}

static void retry(struct chat_link *l, enum err err) {
    loop_timer_start(l->chat->loop, &l->timer, err == ERR_BUSY ? RETRY_MS : AWAY_MS);
}

static void home_answer(void *owner, enum err err, uint64_t epoch) {
    struct chat_link *l = owner;
    l->homing = NULL;
    if (chat_transient(err)) {
        retry(l, err);
    } else if (err != ERR_OK || epoch == 0) {
        link_close(l, err != ERR_OK ? "error" : "logged_out");
    } else {
        l->epoch = epoch;
        if (l->epoch < l->replaced_by) link_close(l, "replaced");
        else pump(l);
    }
}

// ---- waiting for a slow peer ----------------------------------------------------------------------------

static bool window_full(struct chat_link *l) {
    return l->unacked >= WINDOW || l->events.in_flight(l->arg) > IN_FLIGHT_MAX;
}

static void block(struct chat_link *l) {
    uint64_t in_flight = l->events.in_flight(l->arg);
    if (!l->blocked) {
        l->blocked = true;
        l->blocked_since = loop_now_ms(l->chat->loop);
    } else if (in_flight < l->looked_in_flight) {
        l->blocked_since = loop_now_ms(l->chat->loop);
    }
    l->looked_in_flight = in_flight;
    uint64_t waited = loop_now_ms(l->chat->loop) - l->blocked_since;
    uint64_t left = waited < l->chat->o.slow_link_ms ? l->chat->o.slow_link_ms - waited : 0;
    bool look = in_flight > IN_FLIGHT_MAX && left > IN_FLIGHT_LOOK_MS;
    loop_timer_start(l->chat->loop, &l->timer, look ? IN_FLIGHT_LOOK_MS : left);
}

static void unblock(struct chat_link *l) {
    if (!l->blocked) return;
    l->blocked = false;
    loop_timer_stop(l->chat->loop, &l->timer);
}

static void link_timer(struct loop_timer *t) {
    struct chat_link *l = LIST_ITEM(t, struct chat_link, timer);
    if (!l->blocked || !window_full(l)) {
        l->blocked = false;
        pump(l);
        return;
    }
    bool moved = l->events.in_flight(l->arg) < l->looked_in_flight;
    if (!moved && loop_now_ms(l->chat->loop) - l->blocked_since >= l->chat->o.slow_link_ms) link_close(l, "slow");
    else block(l);
}

// ---- sending --------------------------------------------------------------------------------------------

// False: the link is gone.
static bool called(struct chat_link *l) {
    l->calling = false;
    if (!l->detached) return true;
    link_free(l);
    return false;
}

static void note(struct chat_link *l, const struct entry *entry) {
    if (entry->e.type != ENTRY_MESSAGE) return;
    l->chat->stats.notified++;
    notified_add(l->chat, l->who.did, &entry->e.message_id, entry->mid);
    log_point("notified", &entry->e.message_id);
}

static bool send_view(struct chat_link *l, const struct chat_entry *views, size_t n) {
    l->sent = views[n - 1].cursor;
    l->unacked += (uint32_t)n;
    l->calling = true;
    l->events.entries(l->arg, views, n);
    crash_point("notify.sent");
    return called(l);
}

static bool send_page(struct chat_link *l, const struct page *p) {
    if (p->n == 0) return true;
    struct chat_entry views[PAGE];
    for (size_t i = 0; i < p->n; i++) {
        views[i] = entry_view(&p->entries[i], p->entries[i].e.cursor);
        note(l, &p->entries[i]);
    }
    return send_view(l, views, p->n);
}

static void page_answer(struct op *op, enum err err) {
    struct page *p = (struct page *)op;
    struct chat_link *l = p->owner;
    if (l == NULL) return;
    l->page = NULL;
    if (chat_transient(err)) {
        retry(l, err);
    } else if (err != ERR_OK) {
        link_close(l, "error");
    } else if (!p->live) {
        link_close(l, "logged_out");
    } else {
        if (!l->started && p->after < l->position) l->sent = l->acked = p->after;
        l->started = true;
        l->position = page_end(p);
        if (p->last_cursor > l->known) l->known = p->last_cursor;
        if (send_page(l, p)) pump(l);
    }
}

static void pump(struct chat_link *l) {
    if (l->page != NULL || l->calling || l->homing != NULL) return;
    if (l->epoch == 0 && l->chat->homes != NULL) { // before the first page: nothing comes in between unseen
        l->homing = home_link(l->chat, l->who.did, home_answer, l);
        return;
    }
    if (l->started && l->known <= l->position) {
        if (l->drained) return;
        l->drained = true;
        l->calling = true;
        l->events.drained(l->arg);
        if (!called(l)) return;
        if (l->known <= l->position) return;
    }
    if (window_full(l)) {
        block(l);
        return;
    }
    uint32_t room = WINDOW - l->unacked;
    l->page = page_new(l->chat, l->who.did, l->position, room < PAGE ? room : PAGE, page_answer, l);
    op_submit(&l->page->op);
}

void link_known(struct chat_link *l, uint64_t cursor) {
    if (cursor <= l->known) return;
    l->known = cursor;
    if (l->started && l->known > l->position) pump(l);
}

void link_offer(struct chat_link *l, const struct entry *entry, uint64_t cursor) {
    if (!l->started) { // `position` is not known to be true yet
        if (cursor > l->known) l->known = cursor;
        return;
    }
    if (cursor <= l->position) return;
    bool next = cursor == l->position + 1 && l->known <= l->position;
    if (cursor > l->known) l->known = cursor;
    if (!next || !l->drained || l->page != NULL || l->calling || window_full(l)) {
        pump(l);
        return;
    }
    l->position = cursor;
    note(l, entry);
    struct chat_entry view = entry_view(entry, cursor);
    if (send_view(l, &view, 1)) pump(l);
}

// ---- the calls ------------------------------------------------------------------------------------------

struct chat_link *chat_attach(struct chat *c, const struct chat_actor *who, uint64_t after, const char *address,
                              const struct chat_link_events *events, void *arg) {
    struct box *box = box_get(c, who->did);
    if (box->link != NULL) {
        link_close(box->link, "replaced");
        box = box_get(c, who->did); // closing may have put the box away
    }
    struct chat_link *l = chat_alloc(sizeof *l);
    *l = (struct chat_link){.chat = c, .box = box, .who = *who, .events = *events, .arg = arg};
    l->address = chat_copy(address);
    l->touched_at = chat_now(c);
    l->position = l->sent = l->acked = after;
    l->timer.fn = link_timer;
    box->link = l;
    c->stats.links++;
    log_presence(l, "connected");
    pump(l);
    return l;
}

void chat_link_ack(struct chat_link *l, uint64_t cursor) {
    if (!l->started || cursor > l->sent || cursor <= l->acked) return;
    l->acked = cursor;
    if (l->unacked > l->sent - cursor) l->unacked = (uint32_t)(l->sent - cursor);
    ack_batch_add(l->chat, l->box, cursor);
    if (!l->blocked || window_full(l)) {
        if (l->blocked) l->blocked_since = loop_now_ms(l->chat->loop);
        return;
    }
    unblock(l);
    pump(l);
}

void chat_each_link(struct chat *c,
                    void (*each)(void *arg, const struct chat_actor *who, const char *address, uint64_t unacked),
                    void *arg) {
    size_t at = 0;
    struct box *b;
    while ((b = map_next(&c->boxes, &at)) != NULL)
        if (b->link != NULL) each(arg, &b->link->who, b->link->address, b->link->unacked);
}
