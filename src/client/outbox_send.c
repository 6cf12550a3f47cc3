#include "client/outbox_send.h"

#include "base/crash.h"
#include "base/io.h"
#include "base/time.h"
#include "client/outgoing.h"

#include <stdio.h>
#include <string.h>

#define LOCK_POLL_MS 50
#define FLOOR_MAX_MS (3600 * INT64_C(1000)) // in case the wall clock was set back

enum err outbox_create(struct client *c, struct out_message *m, struct error *e) {
    struct id id = id_new(c->io);
    id_format(&id, m->message_id);
    m->created_at = io_wall_ms(c->io);
    enum err err = m->media_path ? outgoing_keep(c, m->message_id, m->media_path, e) : ERR_OK;
    if (err) return err;
    err = store_outbox_add(c->store, m, e);
    if (!err) crash_point("client.created");
    else if (m->media_path) outgoing_drop(c, m->message_id);
    return err;
}

json_t *outbox_body(const struct client *c, const struct out_message *m, bool socket) {
    char created[TIME_TEXT];
    time_format_ms(m->created_at, created);
    json_t *body = json_object();
    if (socket) {
        json_object_set_new(body, "type", json_string("send"));
        json_object_set_new(body, "conversation_id", json_string(m->conversation_id));
    }
    json_object_set_new(body, "message_id", json_string(m->message_id));
    json_object_set_new(body, "by_user_id", json_string(c->profile.user_id));
    if (m->text) json_object_set_new(body, "message_text", json_string(m->text));
    else json_object_set_new(body, "media", json_string(m->ticket));
    json_object_set_new(body, "created_at", json_string(created));
    return body;
}

json_t *outbox_conversation_body(struct client *c, const char *conversation_id) {
    struct known_conversation known;
    json_t *body = NULL;
    if (store_conversation(c->store, conversation_id, &known, NULL) == ERR_OK && !known.made) {
        body = json_object();
        json_object_set_new(body, "conversation_id", json_string(conversation_id));
        json_object_set_new(body, "members", json_loads(known.members, 0, NULL));
        if (*known.title) json_object_set_new(body, "title", json_string(known.title));
    }
    known_conversation_release(&known);
    return body;
}

bool outbox_needs_upload(const struct client *c, const struct out_message *m) {
    return m->media_path && (!*m->ticket || io_wall_ms(c->io) - m->ticket_at > TICKET_GOOD_MS);
}

void outbox_upload(const struct client *c, const struct out_message *m, struct web *h, web_progress_fn *progress,
                   void *arg, struct answer *a) {
    char path[OUTGOING_PATH_MAX];
    outgoing_path(c, m->message_id, path);
    web_upload(h, path, m->media_type, m->filename, progress, arg, a);
    if (a->error.code == ERR_NOT_FOUND && a->status == 0) a->status = 404; // the copy is gone: not to be retried
}

enum err outbox_uploaded(struct client *c, struct out_message *m, const struct answer *a, struct error *e) {
    snprintf(m->ticket, sizeof m->ticket, "%s", member_text(a->body, "ticket", ""));
    m->ticket_at = io_wall_ms(c->io);
    m->ticket_fresh = true;
    return store_outbox_ticket(c->store, m->message_id, m->ticket, m->ticket_at, e);
}

static enum verdict settle_later(struct client *c, struct out_message *m, const struct answer *a, uint32_t *delay_ms,
                                 struct error *e) {
    int64_t now = io_wall_ms(c->io);
    *delay_ms = answer_delay(a, c->io, m->attempts);
    if (a->error.code == ERR_CLOSED) return VERDICT_LATER; // we ended it ourselves
    char why[ERROR_TEXT_MAX];
    snprintf(why, sizeof why, "attempt %u: %.200s", m->attempts, a->error.text);
    store_outbox_later(c->store, m->message_id, now, why, now + *delay_ms,
                       a->retry_after_ms ? now + a->retry_after_ms : 0, e);
    return VERDICT_LATER;
}

// The ticket of an earlier attempt may have run out: one more upload is worth it.
static bool ticket_was_stale(struct client *c, struct out_message *m, const struct answer *a) {
    return *m->ticket && !m->ticket_fresh && !strcmp(a->error.field, "media") &&
           store_outbox_ticket(c->store, m->message_id, NULL, 0, NULL) == ERR_OK;
}

static void settled(struct client *c, const struct out_message *m, const struct error *e) {
    if (m->media_path && !(e && e->code)) outgoing_drop(c, m->message_id);
}

enum verdict outbox_settle(struct client *c, struct out_message *m, const struct answer *a, uint32_t *delay_ms,
                           struct error *e) {
    enum verdict verdict = answer_verdict(a);
    *delay_ms = 0;
    if (e) e->code = ERR_OK;
    switch (verdict) {
    case VERDICT_DONE:
        store_outbox_accepted(c->store, m->message_id, member_count(a->body, "seq"),
                              member_time(a->body, "accepted_at", io_wall_ms(c->io)), e);
        settled(c, m, e);
        return verdict;
    case VERDICT_LATER: return settle_later(c, m, a, delay_ms, e);
    case VERDICT_NO:
        if (ticket_was_stale(c, m, a)) return VERDICT_LATER;
        store_outbox_rejected(c->store, m->message_id, io_wall_ms(c->io), a->error.text, e);
        settled(c, m, e);
        return verdict;
    case VERDICT_LOGIN: break;
    }
    return verdict;
}

// ---- the blocking way -----------------------------------------------------------------------------------

struct flush {
    struct client *c;
    const struct send_events *events;
    struct out_message m; // the one in hand
};

static void on_progress(void *arg, uint64_t done, uint64_t total) {
    struct flush *f = arg;
    if (f->events && f->events->progress) f->events->progress(f->events->arg, &f->m, done, total);
}

static void tell(struct flush *f, uint32_t retry_ms) {
    struct out_message now;
    if (!f->events || !f->events->changed) return;
    if (store_outbox_get(f->c->store, f->m.message_id, &now, NULL) == ERR_OK)
        f->events->changed(f->events->arg, &now, retry_ms);
    out_message_release(&now);
}

// True when the conversation is there; else `a` is the answer that says why not.
static bool make_conversation(struct flush *f, struct answer *a) {
    json_t *body = outbox_conversation_body(f->c, f->m.conversation_id);
    if (!body) return true;
    web_call(f->c->web, "POST", "/conversation", body, a);
    json_decref(body);
    if (answer_verdict(a) != VERDICT_DONE) return false;
    client_learn_conversation(f->c, a->body, NULL);
    answer_release(a);
    return true;
}

static bool upload(struct flush *f, struct answer *a) {
    if (!outbox_needs_upload(f->c, &f->m)) return true;
    outbox_upload(f->c, &f->m, f->c->web, on_progress, f, a);
    if (answer_verdict(a) != VERDICT_DONE) return false;
    outbox_uploaded(f->c, &f->m, a, NULL);
    answer_release(a);
    return true;
}

static void attempt(struct flush *f, struct answer *a) {
    memset(a, 0, sizeof *a);
    if (!make_conversation(f, a) || !upload(f, a)) return;
    char path[128];
    snprintf(path, sizeof path, "/conversation/%s", f->m.conversation_id);
    json_t *body = outbox_body(f->c, &f->m, false);
    web_crash_when_sent(f->c->web, "client.sent");
    web_call(f->c->web, "POST", path, body, a);
    json_decref(body);
    crash_point("client.answered");
}

static bool sleep_until(struct client *c, uint64_t until, uint64_t deadline_ms) {
    uint64_t now = client_now_ms(c);
    if (until >= deadline_ms) until = deadline_ms;
    if (until > now) client_sleep((uint32_t)(until - now));
    return until < deadline_ms;
}

// Sends f->m until it is accepted or rejected.
static enum err send_one(struct flush *f, uint64_t deadline_ms, struct error *e) {
    struct client *c = f->c;
    int64_t floor = f->m.floor_at - io_wall_ms(c->io);
    if (floor > 0 && floor <= FLOOR_MAX_MS && !sleep_until(c, client_now_ms(c) + (uint64_t)floor, deadline_ms))
        return error_set(e, ERR_TIMEOUT, "the service asked to wait; the message stays in the outbox");
    for (;;) {
        enum err err = store_outbox_trying(c->store, f->m.message_id, e);
        if (err) return err;
        f->m.attempts++;
        struct answer a;
        uint32_t delay;
        attempt(f, &a);
        struct error why = a.error, settling = {0};
        enum verdict verdict = outbox_settle(c, &f->m, &a, &delay, &settling);
        answer_release(&a);
        if (settling.code) {
            if (e) *e = settling;
            return settling.code;
        }
        tell(f, verdict == VERDICT_LATER ? delay : 0);
        if (verdict == VERDICT_DONE || verdict == VERDICT_NO) return ERR_OK;
        if (verdict == VERDICT_LOGIN)
            return error_set(e, ERR_UNAUTHORIZED, "not logged in any more; `barid login %.64s`, the message waits",
                             c->profile.user_id);
        if (!sleep_until(c, client_now_ms(c) + delay, deadline_ms))
            return error_set(e, ERR_TIMEOUT, "not accepted yet (%.180s); the message stays in the outbox", why.text);
        char id[ID_TEXT];
        snprintf(id, sizeof id, "%s", f->m.message_id);
        out_message_release(&f->m);
        err = store_outbox_get(c->store, id, &f->m, e); // a receipt may have settled it meanwhile
        if (err) return err;
        if (f->m.state == OUT_ACCEPTED || f->m.state == OUT_REJECTED) return ERR_OK;
    }
}

static bool is_settled(struct client *c, const char *message_id) {
    struct out_message m;
    bool settled = store_outbox_get(c->store, message_id, &m, NULL) == ERR_OK &&
                   (m.state == OUT_ACCEPTED || m.state == OUT_REJECTED);
    out_message_release(&m);
    return settled;
}

static enum err send_all(struct flush *f, const char *conversation_id, const char *until, uint64_t deadline_ms,
                         struct error *e) {
    for (;;) {
        if (until && is_settled(f->c, until)) return ERR_OK;
        enum err err = store_outbox_next(f->c->store, conversation_id, &f->m, e);
        if (err == ERR_NOT_FOUND) return ERR_OK;
        if (!err) err = send_one(f, deadline_ms, e);
        out_message_release(&f->m);
        if (err) return err;
    }
}

enum err outbox_flush(struct client *c, const char *conversation_id, const char *until, uint64_t deadline_ms,
                      const struct send_events *events, struct error *e) {
    struct flush f = {.c = c, .events = events};
    for (;;) {
        int fd;
        enum err err = client_lock(c, conversation_id, &fd, e);
        if (!err) {
            err = send_all(&f, conversation_id, until, deadline_ms, e);
            client_unlock(c, fd);
            return err;
        }
        if (err != ERR_LOCKED) return err;
        if (until && is_settled(c, until)) {
            snprintf(f.m.message_id, sizeof f.m.message_id, "%s", until);
            tell(&f, 0);
            return ERR_OK;
        }
        if (!sleep_until(c, client_now_ms(c) + LOCK_POLL_MS, deadline_ms))
            return error_set(e, ERR_TIMEOUT, "another process is still sending in this conversation");
    }
}
