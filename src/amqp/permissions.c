#include "amqp/permissions.h"

static const char *kind_name(enum access_kind kind) {
    switch (kind) {
    case ACCESS_CONFIGURE: return "configure";
    case ACCESS_WRITE: return "write";
    case ACCESS_READ: return "read";
    }
    return "";
}

// The default exchange goes by this name in permissions.
static const char *resource_name(const char *what, const char *name) {
    return name[0] == '\0' && what[0] == 'e' ? "amq.default" : name;
}

static bool allowed(const struct channel *ch, enum access_kind kind, const char *resource) {
    const struct connection *c = ch->connection;
    return access_may(c->amqp->o.access, c->user, vhost_name(c->vhost), kind, resource);
}

static bool refuse(struct channel *ch, uint32_t method, enum access_kind kind, const char *what, const char *resource) {
    channel_error(ch, REPLY_ACCESS_REFUSED, method, "%s access to %s '%s' in vhost '%s' refused for user '%s'",
                  kind_name(kind), what, resource, vhost_name(ch->connection->vhost), ch->connection->user_name);
    return false;
}

bool may(struct channel *ch, uint32_t method, enum access_kind kind, const char *what, const char *name) {
    const char *resource = resource_name(what, name);
    return allowed(ch, kind, resource) || refuse(ch, method, kind, what, resource);
}

bool may_look(struct channel *ch, uint32_t method, const char *what, const char *name) {
    const char *resource = resource_name(what, name);
    return allowed(ch, ACCESS_READ, resource) || allowed(ch, ACCESS_WRITE, resource) ||
           allowed(ch, ACCESS_CONFIGURE, resource) || refuse(ch, method, ACCESS_CONFIGURE, what, resource);
}
