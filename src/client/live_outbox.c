// Sending over the socket: a lane a conversation, lanes side by side, in each one message at a time. A lane holds the
// conversation's lock, so that a `barid send` of the same profile waits for it, or it for that.
//
//   step ─▶ (preparing: make the conversation, upload the medium; by HTTP on the pool) ─▶ asking ─▶ step …
//     ▲                                 │                                                   │
//     └───────────── waiting ◀──────────┴───────────────────────────────────────────────────┘
#include "base/assert.h"
#include "base/crash.h"
#include "base/io.h"
#include "client/live_parts.h"
#include "client/outbox_send.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LANES_MAX    64
#define FLOOR_MAX_MS (3600 * INT64_C(1000))

enum stage { STEPPING, PREPARING, ASKING, WAITING };

struct lane {
    struct list_node node;
    struct live *live;
    char conversation_id[NAME_MAX_LENGTH + 1];
    int lock;
    enum stage stage;
    bool orphan; // the socket broke while the pool works for it
    struct out_message m;
    struct loop_timer again;
    // for the pool
    struct loop_work work;
    struct web *web;
    json_t *conversation; // to be made first, or NULL
    bool upload;
    struct answer made, uploaded;
};

static void step(struct lane *lane);

static void lane_free(struct lane *lane) {
    struct live *l = lane->live;
    loop_timer_stop(l->o.loop, &lane->again);
    list_remove(&lane->node);
    client_unlock(l->c, lane->lock);
    out_message_release(&lane->m);
    free(lane);
}

static void on_again(struct loop_timer *t) { step(LIST_ITEM(t, struct lane, again)); }

static void wait_for(struct lane *lane, uint64_t delay_ms) {
    lane->stage = WAITING;
    loop_timer_start(lane->live->o.loop, &lane->again, delay_ms);
}

// What an answer means for the message in hand, and what the lane does next.
static void settle(struct lane *lane, const struct answer *a) {
    struct live *l = lane->live;
    struct error e = {0};
    uint32_t delay;
    enum verdict verdict = outbox_settle(l->c, &lane->m, a, &delay, &e);
    if (e.code) live_trouble(l, &e);
    l->o.events.outbox_changed(l->o.events.arg);
    if (e.code && verdict != VERDICT_LATER) delay = 1000; // the answer could not be stored: ask again for it
    if (verdict == VERDICT_LOGIN) live_end(l, &a->error);
    else if (verdict == VERDICT_LATER || e.code) wait_for(lane, delay);
    else step(lane);
}

static void on_answer(void *arg, struct answer *a) {
    crash_point("client.answered");
    settle(arg, a);
}

static void ask(struct lane *lane) {
    struct live *l = lane->live;
    lane->stage = ASKING;
    if (!uplink_request(l->uplink, outbox_body(l->c, &lane->m, true), "client.sent", on_answer, lane))
        wait_for(lane, 1000);
}

// ---- preparing, on the pool --------------------------------------------------------------------------------

static void prepare_work(struct loop_work *w) {
    struct lane *lane = LIST_ITEM(w, struct lane, work);
    if (lane->conversation) {
        web_call(lane->web, "POST", "/conversation", lane->conversation, &lane->made);
        if (answer_verdict(&lane->made) != VERDICT_DONE) return;
    }
    if (lane->upload) outbox_upload(lane->live->c, &lane->m, lane->web, NULL, NULL, &lane->uploaded);
}

static void take_prepared(struct lane *lane) {
    struct live *l = lane->live;
    bool made = !lane->conversation || answer_verdict(&lane->made) == VERDICT_DONE;
    bool uploaded = made && (!lane->upload || answer_verdict(&lane->uploaded) == VERDICT_DONE);
    if (lane->conversation && made) client_learn_conversation(l->c, lane->made.body, NULL);
    if (lane->upload && uploaded) outbox_uploaded(l->c, &lane->m, &lane->uploaded, NULL);
    if (lane->orphan) return;
    if (!made) settle(lane, &lane->made);
    else if (!uploaded) settle(lane, &lane->uploaded);
    else ask(lane);
}

static void prepare_done(struct loop_work *w) {
    struct lane *lane = LIST_ITEM(w, struct lane, work);
    struct live *l = lane->live;
    struct answer made = lane->made, uploaded = lane->uploaded;
    json_t *conversation = lane->conversation;
    web_free(lane->web);
    l->preparing--;
    bool orphan = lane->orphan;
    take_prepared(lane); // may free the lane
    if (orphan) lane_free(lane);
    answer_release(&made);
    answer_release(&uploaded);
    json_decref(conversation);
}

static void prepare(struct lane *lane) {
    struct live *l = lane->live;
    memset(&lane->made, 0, sizeof lane->made);
    memset(&lane->uploaded, 0, sizeof lane->uploaded);
    lane->web = web_new(l->c->profile.server, l->c->account.token, &l->cancel);
    lane->work = (struct loop_work){.work = prepare_work, .done = prepare_done};
    lane->stage = PREPARING;
    l->preparing++;
    loop_work(l->o.loop, &lane->work);
}

// ---- the lane ------------------------------------------------------------------------------------------------

static void step(struct lane *lane) {
    struct live *l = lane->live;
    struct error e = {0};
    out_message_release(&lane->m);
    lane->stage = STEPPING;
    enum err err = l->open ? store_outbox_next(l->c->store, lane->conversation_id, &lane->m, &e) : ERR_NOT_FOUND;
    if (!err) {
        int64_t floor = lane->m.floor_at - io_wall_ms(l->c->io);
        if (floor > 0 && floor <= FLOOR_MAX_MS) {
            wait_for(lane, (uint64_t)floor);
            return;
        }
        err = store_outbox_trying(l->c->store, lane->m.message_id, &e);
    }
    if (err) {
        if (err != ERR_NOT_FOUND) live_trouble(l, &e);
        lane_free(lane);
        return;
    }
    lane->m.attempts++;
    l->o.events.outbox_changed(l->o.events.arg);
    lane->conversation = outbox_conversation_body(l->c, lane->conversation_id);
    lane->upload = outbox_needs_upload(l->c, &lane->m);
    if (lane->conversation || lane->upload) prepare(lane);
    else ask(lane);
}

static bool has_lane(struct live *l, const char *conversation_id) {
    LIST_EACH(&l->lanes, n)
    if (!strcmp(LIST_ITEM(n, struct lane, node)->conversation_id, conversation_id)) return true;
    return false;
}

static void lane_new(struct live *l, const char *conversation_id) {
    int lock;
    if (client_lock(l->c, conversation_id, &lock, NULL)) return; // its sender will tell, or the next look tries
    struct lane *lane = calloc(1, sizeof *lane);
    if (!lane) die("out of memory");
    lane->live = l;
    lane->lock = lock;
    lane->again.fn = on_again;
    snprintf(lane->conversation_id, sizeof lane->conversation_id, "%.64s", conversation_id);
    list_push_back(&l->lanes, &lane->node);
    step(lane);
}

void live_outbox_scan(struct live *l) {
    char waiting[LANES_MAX][NAME_MAX_LENGTH + 1];
    size_t n = store_outbox_conversations(l->c->store, waiting, LANES_MAX);
    for (size_t i = 0; i < n && l->open; i++)
        if (!has_lane(l, waiting[i])) lane_new(l, waiting[i]);
}

void live_outbox_closed(struct live *l) {
    LIST_EACH_SAFE(&l->lanes, n) {
        struct lane *lane = LIST_ITEM(n, struct lane, node);
        if (lane->stage == PREPARING) lane->orphan = true;
        else lane_free(lane);
    }
}
