// /api/vhosts.
#include "management/internal.h"

#include <stdlib.h>
#include <string.h>

struct sums {
    const char *vhost;
    uint64_t ready, unacked, published, delivered, got, acked, redelivered;
};

static void add_queue(void *arg, const struct queue_info *q) {
    struct sums *s = arg;
    if (strcmp(q->vhost, s->vhost) != 0) return;
    s->ready += q->ready;
    s->unacked += q->unacked;
    s->published += q->published;
    s->delivered += q->delivered;
    s->got += q->got;
    s->acked += q->acked;
    s->redelivered += q->redelivered;
}

// "a,b" as ["a", "b"]
void write_tags(struct out *o, const char *key, const char *tags) {
    out_open(o, key, '[');
    for (const char *at = tags; at != NULL && *at != '\0';) {
        size_t n = strcspn(at, ",");
        if (n > 0) out_view(o, NULL, (struct view){(const uint8_t *)at, (uint32_t)n});
        at += n + (at[n] == ',');
    }
    out_close(o, ']');
}

static void write_messages(struct out *o, const struct sums *s) {
    out_count(o, "messages", s->ready + s->unacked, 0);
    out_count(o, "messages_ready", s->ready, 0);
    out_count(o, "messages_unacknowledged", s->unacked, 0);
    out_open(o, "message_stats", '{');
    out_count(o, "publish", s->published, 0);
    out_count(o, "deliver", s->delivered, 0);
    out_count(o, "get", s->got, 0);
    out_count(o, "deliver_get", s->delivered + s->got, 0);
    out_count(o, "ack", s->acked, 0);
    out_count(o, "redeliver", s->redelivered, 0);
    out_close(o, '}');
}

static void write_vhost(struct out *o, const struct management *m, const struct access_vhost_info *v) {
    struct sums s = {.vhost = v->name};
    engine_each_queue(m->o.engine, add_queue, &s);
    out_text(o, "name", v->name);
    out_text(o, "description", v->description != NULL ? v->description : "");
    write_tags(o, "tags", v->tags);
    out_bool(o, "tracing", v->tracing);
    out_text(o, "default_queue_type", "classic");
    out_open(o, "metadata", '{');
    out_text(o, "description", v->description != NULL ? v->description : "");
    write_tags(o, "tags", v->tags);
    out_close(o, '}');
    out_open(o, "cluster_state", '{');
    out_text(o, m->node, "running");
    out_close(o, '}');
    write_messages(o, &s);
}

static void list_vhost(void *arg, const struct access_vhost_info *v) {
    struct listing *l = arg;
    if (!sees_vhost(l->call, v->name)) return;
    struct out *o = listing_item(l, v->name, v->name);
    if (o == NULL) return;
    write_vhost(o, l->call->management, v);
    listing_item_end(l);
}

void manage_vhosts(struct call *c) {
    struct listing l;
    if (!listing_init(&l, c)) return;
    access_each_vhost(c->management->o.access, list_vhost, &l);
    listing_answer(&l);
}

static void show_vhost(void *arg, const struct access_vhost_info *v) {
    struct call *c = arg;
    struct single s;
    if (c->answered || strcmp(v->name, call_param(c, "vhost")) != 0) return;
    struct out *o = single_init(&s, c);
    if (o == NULL) return;
    write_vhost(o, c->management, v);
    single_answer(&s);
}

void manage_vhost(struct call *c) {
    access_each_vhost(c->management->o.access, show_vhost, c);
    if (!c->answered) call_not_found(c, "vhost");
}

// ---- changing -------------------------------------------------------------------------------------------

static void on_put(void *arg, enum err err, const struct error *e) {
    struct call *c = arg;
    struct error local = {0};
    if (err != ERR_OK) call_error(c, e);
    else if (engine_vhost_add(c->management->o.engine, call_param(c, "vhost"), NULL, &local) != ERR_OK)
        call_error(c, &local);
    else call_durable(c, c->status);
}

// ["a", "b"] or "a,b": as access wants it, to be freed. NULL: not given.
char *tags_of(const json_t *o) {
    const json_t *tags = json_object_get(o, "tags"), *tag;
    struct buf b;
    size_t i;
    if (json_is_string(tags)) return strdup(json_string_value(tags));
    if (!json_is_array(tags)) return NULL;
    buf_init(&b, 4096);
    json_array_foreach(tags, i, tag) {
        if (b.len > 0) buf_add_u8(&b, ',');
        if (json_is_string(tag)) buf_add_str(&b, json_string_value(tag));
    }
    char *text = buf_ok(&b) ? strdup(buf_cstr(&b)) : NULL;
    buf_release(&b);
    return text;
}

// When this one fails so does the next, with the reason why.
static void on_first_put(void *arg, enum err err, const struct error *e) {}

void manage_vhost_put(struct call *c) {
    struct management *m = c->management;
    const char *name = call_param(c, "vhost");
    if (call_json(c) == NULL) return;
    if (*name == '\0' || strlen(name) > 255) {
        call_fail(c, 400, "bad_request", "the name of a virtual host has 1 to 255 bytes");
        return;
    }
    char *tags = tags_of(c->json);
    const struct access_vhost_info v = {
        .name = name,
        .description = json_text_or(c->json, "description", NULL),
        .tags = tags,
        .tracing = json_bool_or(c->json, "tracing", false),
    };
    c->status = access_vhost(m->o.access, name) ? 204 : 201;
    if (c->status == 204) {
        access_vhost_put(m->o.access, &v, on_put, c);
    } else {
        // Who makes one may use it, as with RabbitMQ. Changes take effect in order: the last one's end is that of both.
        const struct access_permission all = {
            .user = c->user->name, .vhost = name, .configure = ".*", .write = ".*", .read = ".*"};
        access_vhost_put(m->o.access, &v, on_first_put, NULL);
        access_permission_put(m->o.access, &all, on_put, c);
    }
    free(tags);
}

static void on_deleted(void *arg, enum err err, const struct error *e) {
    struct call *c = arg;
    struct management *m = c->management;
    struct error local = {0};
    const char *name = call_param(c, "vhost");
    if (err != ERR_OK) {
        call_error(c, e);
        return;
    }
    if (engine_vhost(m->o.engine, name) != NULL && engine_vhost_delete(m->o.engine, name, &local) != ERR_OK)
        call_error(c, &local);
    else call_durable(c, 204);
}

void manage_vhost_delete(struct call *c) {
    struct management *m = c->management;
    const char *name = call_param(c, "vhost");
    if (strcmp(name, "/") == 0) {
        call_fail(c, 400, "bad_request", "the virtual host / cannot be deleted");
        return;
    }
    if (m->o.amqp != NULL) amqp_close_vhost(m->o.amqp, name);
    access_vhost_delete(m->o.access, name, on_deleted, c);
}
