#include "client/live.h"

#include "base/assert.h"
#include "client/live_parts.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define POLL_MS 200 // how soon what another process stored is seen

void live_trouble(struct live *l, const struct error *e) { l->o.events.trouble(l->o.events.arg, e->text); }

void live_end(struct live *l, const struct error *e) {
    if (l->ended) return;
    l->ended = true;
    l->o.events.ended(l->o.events.arg, e);
}

void live_check_done(struct live *l) {
    if (!l->drained || !list_empty(&l->incoming)) return;
    if (!l->told_drained) {
        l->told_drained = true;
        l->o.events.drained(l->o.events.arg);
    }
    struct error none = {0};
    if (l->o.once && list_empty(&l->lanes) && l->reading == 0 && !uplink_busy(l->uplink)) live_end(l, &none);
}

// ---- what the socket says -------------------------------------------------------------------------------

static uint64_t on_cursor(void *arg) {
    struct live *l = arg;
    return l->c->account.cursor;
}

static void on_opened(void *arg) {
    struct live *l = arg;
    l->open = true;
    l->drained = l->told_drained = false;
    l->read_after_ms = 0;
    l->o.events.connected(l->o.events.arg);
    live_read_untold(l);
    live_outbox_scan(l);
}

static void on_closed(void *arg, const char *why, uint32_t retry_ms) {
    struct live *l = arg;
    bool was_open = l->open;
    l->open = l->drained = false;
    live_receive_closed(l);
    live_outbox_closed(l);
    if (was_open) l->o.events.outbox_changed(l->o.events.arg);
    l->o.events.disconnected(l->o.events.arg, why, retry_ms);
}

static void on_frame(void *arg, const json_t *frame) {
    struct live *l = arg;
    if (!strcmp(member_text(frame, "type", ""), "drained")) {
        l->drained = true;
        live_check_done(l);
    } else {
        live_receive_entry(l, frame);
    }
}

static void on_ended(void *arg, const struct error *e) { live_end(arg, e); }

// ---- what other processes of the profile do -------------------------------------------------------------

void live_look(struct live *l) {
    l->o.events.outbox_changed(l->o.events.arg);
    if (!l->open) return;
    live_outbox_scan(l);
    live_read_untold(l);
}

void live_end_when_done(struct live *l) { l->o.once = true; }

static void on_poll(struct loop_timer *t) {
    struct live *l = LIST_ITEM(t, struct live, poll);
    int64_t version = store_version(l->c->store);
    if (version != l->version) {
        l->version = version;
        live_look(l);
    } else if (l->open) {
        live_outbox_scan(l); // a lock that was held may be free now
        live_read_untold(l);
        live_check_done(l);
    }
    loop_timer_start(l->o.loop, &l->poll, POLL_MS);
}

// ---- birth and death ------------------------------------------------------------------------------------

enum err live_new(struct live **out, const struct live_options *o, struct error *e) {
    struct live *l = calloc(1, sizeof *l);
    if (!l) die("out of memory");
    l->o = *o;
    l->c = o->client;
    l->poll.fn = on_poll;
    list_init(&l->incoming);
    list_init(&l->lanes);
    struct uplink_events events = {
        .cursor = on_cursor, .opened = on_opened, .closed = on_closed, .frame = on_frame, .ended = on_ended, .arg = l};
    enum err err = uplink_new(&l->uplink, o->loop, l->c->io, l->c->profile.server, l->c->account.token, &events, e);
    if (err) {
        free(l);
        return err;
    }
    l->version = store_version(l->c->store);
    loop_timer_start(o->loop, &l->poll, POLL_MS);
    *out = l;
    return ERR_OK;
}

void live_free(struct live *l) {
    if (!l) return;
    l->ended = true;
    l->open = false;
    atomic_store(&l->cancel, true);
    loop_timer_stop(l->o.loop, &l->poll);
    uplink_free(l->uplink);
    live_receive_closed(l);
    live_outbox_closed(l);
    while (l->saving + l->preparing > 0) uv_run(loop_uv(l->o.loop), UV_RUN_ONCE);
    free(l);
}
