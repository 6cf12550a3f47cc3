// Starting and stopping the service.
#include "base/login_limit.h"
#include "bus/bus.h"
#include "chat/accept.h"
#include "chat/box.h"
#include "chat/homes.h"
#include "chat/notified.h"
#include "chat/passwords.h"
#include "chat/queueing.h"
#include "chat/receipts.h"
#include "chat/removal.h"
#include "chat/servers.h"
#include "chat/token_cache.h"
#include "outbox/outbox.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

// What a server that dies had yet to publish waits for so long.
#define OUTBOX_LEASE_MS 5000

const struct migration chat_migrations[] = {
    {.number = 1, .name = "outbox", .file = &outbox_migrations[0]},
    {.number = 2, .name = "chat", .file = &chat_files[0]},
    {0},
};

const struct migration chat_postgres_migrations[] = {
    {.number = 1, .name = "outbox", .file = &outbox_migrations[1]},
    {.number = 101, .name = "chat", .file = &chat_files[1]},
    {0},
};

static void defaults(struct chat_options *o) {
    if (o->message_ttl_ms == 0) o->message_ttl_ms = 30 * CHAT_DAY_MS;
    if (o->session_ttl_ms == 0) o->session_ttl_ms = 180 * CHAT_DAY_MS;
    if (o->upload_quota_bytes == 0) o->upload_quota_bytes = UINT64_C(1) << 30;
    if (o->upload_max_bytes == 0) o->upload_max_bytes = UINT64_C(100) << 20;
    if (o->devices_max == 0) o->devices_max = 16;
    if (o->members_max == 0) o->members_max = 1000;
    if (o->slow_link_ms == 0) o->slow_link_ms = 60000;
    if (o->bus_prefix == NULL) o->bus_prefix = "";
    ASSERT(strlen(o->bus_prefix) <= CHAT_PREFIX_MAX);
    if (o->sweep_every_ms == 0) o->sweep_every_ms = 60000;
    if (o->look_every_ms == 0) o->look_every_ms = 30000;
}

static void parts_new(struct chat *c) {
    map_init(&c->boxes, c->map_seed);
    list_init(&c->uploads);
    c->tokens = token_cache_new(c);
    c->limits = login_limit_new(c->o.io);
    c->passwords = passwords_new(c);
    c->acks = ack_batch_new(c);
    c->sends = gather_new(c, accepts_run);
    c->receipts = gather_new(c, receipts_run);
    c->queues = gather_new(c, queues_run);
    c->notified = notified_new(c);
    c->removals = removals_new(c);
}

enum err chat_new(struct chat **out, const struct chat_options *o, struct error *e) {
    if (sodium_init() < 0) return error_set(e, ERR_UNSUPPORTED, "libsodium cannot be used here");
    struct chat *c = chat_alloc(sizeof *c);
    c->o = *o;
    defaults(&c->o);
    c->loop = o->loop;
    c->io = o->io;
    c->database = o->database;
    c->refs = 1;
    randombytes_buf(&c->map_seed, sizeof c->map_seed);
    parts_new(c);
    struct outbox_options out_options = {
        .loop = o->loop, .io = o->io, .database = o->database, .bus = o->bus, .lease_ms = OUTBOX_LEASE_MS};
    enum err err = outbox_new(&c->outbox, &out_options, e);
    if (err == ERR_OK) err = homes_start(c, e);
    if (err == ERR_OK) err = queueing_start(c, e);
    if (err != ERR_OK) {
        chat_free(c);
        return err;
    }
    sweep_start(c);
    *out = c;
    return ERR_OK;
}

int64_t chat_now(const struct chat *c) { return io_wall_ms(c->io) + servers_clock(c->o.servers); }

void chat_enter(struct chat *c) { c->refs++; }

void chat_leave(struct chat *c) {
    ASSERT(c->refs > 0);
    if (--c->refs == 0) free(c);
}

void chat_drain(struct chat *c, void (*done)(void *arg), void *arg) {
    if (database_kind_of(c->o.database) == DATABASE_POSTGRES) outbox_drain(c->outbox, done, arg);
    else done(arg); // there is nobody else
}

void chat_free(struct chat *c) {
    if (c == NULL) return;
    c->closing = true;
    sweep_stop(c);
    homes_stop(c);
    queueing_stop(c);
    if (c->outbox != NULL) outbox_free(c->outbox);
    uploads_stop(c);
    boxes_release(c);
    token_cache_free(c->tokens);
    login_limit_free(c->limits);
    passwords_free(c->passwords);
    gather_free(c->sends);
    gather_free(c->receipts);
    gather_free(c->queues);
    ack_batch_free(c->acks);
    notified_free(c->notified);
    removals_free(c->removals);
    chat_leave(c);
}

void chat_stats(struct chat *c, struct chat_stats *out) {
    struct outbox_stats o;
    outbox_stats(c->outbox, &o);
    *out = c->stats;
    out->outbox_waiting = o.waiting;
    out->outbox_parked = o.parked;
}
