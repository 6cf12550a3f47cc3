// What the files of management/ share.
#ifndef BARID_MANAGEMENT_INTERNAL_H
#define BARID_MANAGEMENT_INTERNAL_H

#include "access/access.h"
#include "amqp/amqp.h"
#include "base/io.h"
#include "base/loop.h"
#include "engine/engine.h"
#include "management/auth.h"
#include "management/call.h"
#include "management/door.h"
#include "management/listing.h"
#include "management/management.h"
#include "management/out.h"
#include "management/sampler.h"

// What tools that look at the version are told: the RabbitMQ whose API this is.
#define RABBITMQ_VERSION "3.13.7"
#define NODE_TEXT        300

struct management {
    struct management_options o;
    struct door *door;
    struct sampler sampler;
    char node[NODE_TEXT]; // "rabbit@host"
    int64_t started_ms;
    void (*more_metrics)(void *arg, struct buf *b);
    void *more_metrics_arg;
};

// Is the virtual host for the caller to see? Monitors see all.
bool sees_vhost(const struct call *c, const char *vhost);
// The exchange of a path or a body: "amq.default" is "".
const char *exchange_name(const char *name);
const char *exchange_type_name(const struct exchange_options *o);
uint64_t process_resident_bytes(void);
// An exclusive queue is its connection's alone. True: it is one, and that is answered.
bool queue_is_locked(struct call *c, const char *name);
void write_tags(struct out *o, const char *key, const char *tags);
char *tags_of(const json_t *o); // "a,b" from a text or a list, to be freed; NULL: not given
// A user as RabbitMQ's JSON describes one; points into its arguments.
void user_of_json(const json_t *o, const char *name, const char *tags, struct access_user_put *out);
void write_consumer(struct out *o, const struct management *m, const struct amqp_consumer_info *i);

// ---- the handlers
void manage_overview(struct call *c);
void manage_cluster_name(struct call *c);
void manage_nodes(struct call *c);
void manage_node(struct call *c);
void manage_whoami(struct call *c);
void manage_version(struct call *c);
void manage_aliveness(struct call *c);
void manage_none(struct call *c);        // a list that is always empty here
void manage_unsupported(struct call *c); // policies and their like
void manage_metrics(struct call *c);
void manage_health_ok(struct call *c);
void manage_health_alarms(struct call *c);
void manage_health_port(struct call *c);
void manage_health_protocol(struct call *c);
void manage_health_node(struct call *c);
void manage_health_quorum(struct call *c);

void manage_queues(struct call *c);
void manage_queue(struct call *c);
void manage_queue_put(struct call *c);
void manage_queue_delete(struct call *c);
void manage_queue_purge(struct call *c);
void manage_queue_get(struct call *c);
void manage_queue_actions(struct call *c);

void manage_parked(struct call *c);
void manage_parked_retry(struct call *c);
void manage_parked_drop(struct call *c);

void manage_exchanges(struct call *c);
void manage_exchange(struct call *c);
void manage_exchange_put(struct call *c);
void manage_exchange_delete(struct call *c);
void manage_publish(struct call *c);

void manage_bindings(struct call *c);
void manage_bindings_of_queue(struct call *c);
void manage_bindings_from(struct call *c);
void manage_bindings_to(struct call *c);
void manage_bindings_between(struct call *c);
void manage_binding_post(struct call *c);
void manage_binding(struct call *c);
void manage_binding_delete(struct call *c);

void manage_connections(struct call *c);
void manage_connection(struct call *c);
void manage_connection_delete(struct call *c);
void manage_connections_of_user(struct call *c);
void manage_connections_of_user_delete(struct call *c);
void manage_channels(struct call *c);
void manage_channel(struct call *c);
void manage_channels_of_connection(struct call *c);
void manage_consumers(struct call *c);

void manage_vhosts(struct call *c);
void manage_vhost(struct call *c);
void manage_vhost_put(struct call *c);
void manage_vhost_delete(struct call *c);

void manage_users(struct call *c);
void manage_users_without_permissions(struct call *c);
void manage_users_bulk_delete(struct call *c);
void manage_user(struct call *c);
void manage_user_put(struct call *c);
void manage_user_delete(struct call *c);
void manage_permissions(struct call *c);
void manage_permissions_of_user(struct call *c);
void manage_permissions_of_vhost(struct call *c);
void manage_permission(struct call *c);
void manage_permission_put(struct call *c);
void manage_permission_delete(struct call *c);

void manage_definitions(struct call *c);
void manage_definitions_of_vhost(struct call *c);
void manage_definitions_import(struct call *c);

#endif
