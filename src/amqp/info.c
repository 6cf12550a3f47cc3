// Looking at the door: what is connected, what channels and consumers there are, the sums; and closing from outside.
#include "amqp/core.h"

#include <string.h>

// ---- connections

static const char *state_of(const struct connection *c) {
    const struct connection_core *core = core_of(c);
    switch (core->stage) {
    case STAGE_PROTOCOL:
    case STAGE_START:
    case STAGE_LOGIN: return "starting";
    case STAGE_TUNE: return "tuning";
    case STAGE_OPEN: return "opening";
    case STAGE_RUNNING: break;
    case STAGE_CLOSING: return "closing";
    case STAGE_SILENT:
    case STAGE_DONE: return "closed";
    }
    return core->waits_unblocked ? "blocked" : core->told_blocked ? "blocking" : core->out_high ? "flow" : "running";
}

static const char *vhost_of(const struct connection *c) { return c->vhost ? vhost_name(c->vhost) : ""; }
static const char *user_of(const struct connection *c) { return c->user_name ? c->user_name : ""; }

void amqp_each_connection(struct amqp *a, void (*each)(void *arg, const struct amqp_connection_info *), void *arg) {
    LIST_EACH(&a->connections, at) {
        const struct connection *c = LIST_ITEM(at, struct connection, of_amqp);
        const struct connection_core *core = core_of(c);
        struct amqp_connection_info info = {
            .name = core->name,
            .vhost = vhost_of(c),
            .user = user_of(c),
            .auth_mechanism = core->mechanism,
            .state = state_of(c),
            .peer_host = core->peer.peer_host,
            .host = core->peer.host,
            .peer_port = core->peer.peer_port,
            .port = core->peer.port,
            .tls = core->tls != NULL,
            .tls_protocol = core->tls ? core->tls->protocol : NULL,
            .tls_cipher = core->tls ? core->tls->cipher : NULL,
            .channels = core->open_channels,
            .frame_max = c->frame_max,
            .channel_max = c->channel_max,
            .heartbeat_s = c->heartbeat_s,
            .connected_at_ms = core->connected_at_ms,
            .received_bytes = core->received_bytes,
            .sent_bytes = core->sent_bytes,
            .received_frames = core->received_frames,
            .sent_frames = core->sent_frames,
            .send_pending = c->out.len + core->in_flight + c->behind,
            .client_properties = {core->client_properties.data, (uint32_t)core->client_properties.len},
        };
        each(arg, &info);
    }
}

// ---- channels and consumers

void amqp_each_channel(struct amqp *a, void (*each)(void *arg, const struct amqp_channel_info *), void *arg) {
    LIST_EACH(&a->connections, at) {
        const struct connection *c = LIST_ITEM(at, struct connection, of_amqp);
        for (uint32_t i = 1; i < c->n_channels; i++) {
            const struct channel *ch = c->channels[i];
            if (!ch || ch->close_sent) continue;
            struct amqp_channel_info info = {.connection = core_of(c)->name,
                                             .vhost = vhost_of(c),
                                             .user = user_of(c),
                                             .number = ch->number,
                                             .confirms = ch->confirms,
                                             .transactional = ch->transactional,
                                             .flow_stopped = core_of(c)->out_high};
            channel_basic_info(ch, &info);
            each(arg, &info);
        }
    }
}

void amqp_each_consumer(struct amqp *a, void (*each)(void *arg, const struct amqp_consumer_info *), void *arg) {
    LIST_EACH(&a->connections, at) {
        const struct connection *c = LIST_ITEM(at, struct connection, of_amqp);
        for (uint32_t i = 1; i < c->n_channels; i++) {
            struct channel *ch = c->channels[i];
            if (!ch || ch->close_sent) continue;
            struct amqp_consumer_info of = {
                .connection = core_of(c)->name, .vhost = vhost_of(c), .user = user_of(c), .channel = ch->number};
            channel_each_consumer(ch, &of, each, arg);
        }
    }
}

void amqp_stats(const struct amqp *a, struct amqp_stats *out) {
    *out = a->stats;
    out->connections = a->stats.connections_opened - a->stats.connections_closed;
    out->channels = a->stats.channels_opened - a->stats.channels_closed;
    out->blocked = a->blocked;
}

// ---- closing from outside

enum err amqp_close_connection(struct amqp *a, const char *name, const char *reason) {
    LIST_EACH(&a->connections, at) {
        struct connection *c = LIST_ITEM(at, struct connection, of_amqp);
        if (strcmp(core_of(c)->name, name) != 0) continue;
        connection_error(c, REPLY_CONNECTION_FORCED, 0, "%s", reason);
        return ERR_OK;
    }
    return ERR_NOT_FOUND;
}

void amqp_close_user(struct amqp *a, const char *user) {
    LIST_EACH(&a->connections, at) {
        struct connection *c = LIST_ITEM(at, struct connection, of_amqp);
        if (c->user_name && strcmp(c->user_name, user) == 0)
            connection_error(c, REPLY_CONNECTION_FORCED, 0, "user '%s' was deleted", user);
    }
}

// The connections' channels are released here and now: nothing of theirs may lead into a vhost that goes.
void amqp_close_vhost(struct amqp *a, const char *vhost) {
    LIST_EACH(&a->connections, at) {
        struct connection *c = LIST_ITEM(at, struct connection, of_amqp);
        if (!c->vhost || strcmp(vhost_name(c->vhost), vhost) != 0) continue;
        connection_error(c, REPLY_CONNECTION_FORCED, 0, "vhost '%s' is deleted", vhost);
        connection_end(c);
        c->vhost = NULL;
    }
}

void amqp_access_changed(struct amqp *a, const char *deleted_user, const char *deleted_vhost) {
    if (deleted_user) amqp_close_user(a, deleted_user);
    if (deleted_vhost) amqp_close_vhost(a, deleted_vhost);
    LIST_EACH(&a->connections, at) {
        struct connection *c = LIST_ITEM(at, struct connection, of_amqp);
        if (!c->vhost || c->closing || access_may_enter(a->o.access, c->user, vhost_name(c->vhost))) continue;
        connection_error(c, REPLY_CONNECTION_FORCED, 0, "access to vhost '%s' is no longer allowed for user '%s'",
                         vhost_name(c->vhost), c->user_name);
    }
}
