// What time does to a connection. The server calls connection_tick about twice a second; a connection remembers when it
// last noticed that bytes had come or gone, so nothing need be timed as it happens.
//
// A heartbeat goes out when nothing else did for half the interval. After two intervals without a byte from the client
// it is taken for dead. While we do not read from it, its silence means nothing, unless we wait for it to take what it
// was sent and it takes nothing.
#include "amqp/core.h"
#include "base/log.h"

#define CONSUMERS_CHECK_MAX_MS 15000
#define TICK_JITTER_MS         100 // a tick may come so much early, and the next is half a second away
#define OUT_KEEP               512 // a buffer that is not used is kept when it is as small as this

static void note(struct connection_core *core, bool reads, uint64_t now_ms) {
    bool sent = core->spoke_bytes != core->sent_bytes, excused = !reads && (sent || !core->out_stopped);
    if (core->heard_ms == 0 || core->heard_bytes != core->received_bytes || excused) core->heard_ms = now_ms;
    if (core->spoke_ms == 0 || sent) core->spoke_ms = now_ms;
    core->heard_bytes = core->received_bytes;
    core->spoke_bytes = core->sent_bytes;
}

static bool past_deadline(struct connection *c, uint64_t now_ms) {
    struct connection_core *core = core_of(c);
    if (core->stage == STAGE_RUNNING || core->stage == STAGE_DONE) {
        core->deadline_ms = 0;
        return false;
    }
    uint64_t limit = core->stage == STAGE_CLOSING  ? CLOSE_OK_MS
                     : core->stage == STAGE_SILENT ? SILENT_MS
                                                   : c->amqp->o.handshake_timeout_ms;
    if (core->deadline_ms == 0) core->deadline_ms = now_ms + limit;
    return now_ms >= core->deadline_ms;
}

static void heartbeats(struct connection *c, uint64_t now_ms) {
    struct connection_core *core = core_of(c);
    uint64_t interval_ms = (uint64_t)c->heartbeat_s * 1000;
    if (interval_ms == 0 || core->stage < STAGE_OPEN || c->closing) return;
    if (now_ms - core->heard_ms >= 2 * interval_ms) {
        log_event(LOG_WARN, "amqp_heartbeats_missed", "connection", core->name, NULL);
        connection_finish(c);
        return;
    }
    if (now_ms - core->spoke_ms + TICK_JITTER_MS < interval_ms / 2 || c->out.len + core->in_flight > 0) return;
    heartbeat_encode(&c->out);
    connection_wrote(c);
    // Already noted: else the next tick would count from then.
    core->spoke_ms = now_ms;
    core->spoke_bytes = core->sent_bytes + FRAME_OVERHEAD;
}

static void check_consumers(struct connection *c, uint64_t now_ms) {
    struct connection_core *core = core_of(c);
    uint64_t every = c->amqp->o.consumer_timeout_ms / 4;
    if (every > CONSUMERS_CHECK_MAX_MS) every = CONSUMERS_CHECK_MAX_MS;
    if (now_ms - core->consumers_checked_ms < every) return;
    core->consumers_checked_ms = now_ms;
    for (uint32_t i = 1; i < c->n_channels; i++) {
        if (c->channels[i]) channel_check_consumers(c->channels[i], now_ms);
    }
}

void connection_tick(struct connection *c, uint64_t now_ms) {
    struct connection_core *core = core_of(c);
    bool idle = core->spoke_bytes == core->sent_bytes;
    note(core, connection_reads(c), now_ms);
    if (past_deadline(c, now_ms)) {
        if (core->stage < STAGE_RUNNING) log_event(LOG_WARN, "amqp_handshake_timeout", "connection", core->name, NULL);
        connection_finish(c);
        return;
    }
    heartbeats(c, now_ms);
    if (core->stage == STAGE_RUNNING) check_consumers(c, now_ms);
    if (!c->closing && !list_empty(&core->streams)) streams_pump(c); // it may wait for others to end
    if (idle && c->out.len == 0 && c->out.cap > OUT_KEEP) buf_release(&c->out);
}
