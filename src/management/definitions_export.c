// GET /api/definitions: everything that is configured, in RabbitMQ's format.
#include "management/internal.h"

#include <string.h>

struct exporting {
    struct call *call;
    struct out out;
    const char *vhost; // NULL: all, and each says its own
};

static void write_vhost_of(struct exporting *x, const char *vhost) {
    if (x->vhost == NULL) out_text(&x->out, "vhost", vhost);
}

static bool is_exported(const struct exporting *x, const char *vhost) {
    return x->vhost == NULL || strcmp(x->vhost, vhost) == 0;
}

// ---- who ------------------------------------------------------------------------------------------------

static void write_user(void *arg, const struct access_user *u) {
    struct out *o = &((struct exporting *)arg)->out;
    out_open(o, NULL, '{');
    out_text(o, "name", u->name);
    out_text(o, "password_hash", u->hash != NULL ? u->hash : "");
    out_text(o, "hashing_algorithm", u->hash_algorithm != NULL ? u->hash_algorithm : "");
    write_tags(o, "tags", u->tags);
    out_open(o, "limits", '{');
    out_close(o, '}');
    out_close(o, '}');
}

static void write_vhost(void *arg, const struct access_vhost_info *v) {
    struct out *o = &((struct exporting *)arg)->out;
    out_open(o, NULL, '{');
    out_text(o, "name", v->name);
    out_text(o, "description", v->description != NULL ? v->description : "");
    write_tags(o, "tags", v->tags);
    out_open(o, "metadata", '{');
    out_text(o, "description", v->description != NULL ? v->description : "");
    write_tags(o, "tags", v->tags);
    out_close(o, '}');
    out_close(o, '}');
}

static void write_permission(void *arg, const struct access_permission *p) {
    struct out *o = &((struct exporting *)arg)->out;
    out_open(o, NULL, '{');
    out_text(o, "user", p->user);
    out_text(o, "vhost", p->vhost);
    out_text(o, "configure", p->configure);
    out_text(o, "write", p->write);
    out_text(o, "read", p->read);
    out_close(o, '}');
}

// ---- what -----------------------------------------------------------------------------------------------

static void write_queue(void *arg, const struct queue_info *q) {
    struct exporting *x = arg;
    if (q->options->owner != NULL || !is_exported(x, q->vhost)) return; // an exclusive one is its connection's
    out_open(&x->out, NULL, '{');
    out_text(&x->out, "name", q->name);
    write_vhost_of(x, q->vhost);
    out_bool(&x->out, "durable", q->options->durable);
    out_bool(&x->out, "auto_delete", q->options->auto_delete);
    out_table(&x->out, "arguments", q->options->arguments);
    out_close(&x->out, '}');
}

static void write_exchange(void *arg, const struct exchange_info *i) {
    struct exporting *x = arg;
    if (i->name[0] == '\0' || strncmp(i->name, "amq.", 4) == 0) return; // always there
    out_open(&x->out, NULL, '{');
    out_text(&x->out, "name", i->name);
    write_vhost_of(x, i->vhost);
    out_text(&x->out, "type", exchange_type_name(i->options));
    out_bool(&x->out, "durable", i->options->durable);
    out_bool(&x->out, "auto_delete", i->options->auto_delete);
    out_bool(&x->out, "internal", i->options->internal);
    out_table(&x->out, "arguments", i->options->arguments);
    out_close(&x->out, '}');
}

static void write_exchanges(void *arg, struct vhost *v) {
    if (is_exported(arg, vhost_name(v))) engine_each_exchange(v, write_exchange, arg);
}

struct of_vhost {
    struct exporting *exporting;
    struct vhost *vhost;
};

static void write_binding(void *arg, const struct binding_spec *b) {
    struct of_vhost *of = arg;
    struct out *o = &of->exporting->out;
    struct queue_info q;
    if (b->source[0] == '\0') return;
    if (!b->to_exchange && engine_queue(of->vhost, b->destination, &q) && q.options->owner != NULL) return;
    out_open(o, NULL, '{');
    out_text(o, "source", b->source);
    write_vhost_of(of->exporting, vhost_name(of->vhost));
    out_text(o, "destination", b->destination);
    out_text(o, "destination_type", b->to_exchange ? "exchange" : "queue");
    out_text(o, "routing_key", b->key);
    out_table(o, "arguments", b->arguments);
    out_close(o, '}');
}

static void write_bindings(void *arg, struct vhost *v) {
    struct of_vhost of = {.exporting = arg, .vhost = v};
    if (is_exported(arg, vhost_name(v))) engine_each_binding(v, NULL, write_binding, &of);
}

static void write_empty(struct out *o, const char *key) {
    out_open(o, key, '[');
    out_close(o, ']');
}

static void write_access(struct exporting *x) {
    struct access *a = x->call->management->o.access;
    struct out *o = &x->out;
    out_open(o, "users", '[');
    access_each_user(a, write_user, x);
    out_close(o, ']');
    out_open(o, "vhosts", '[');
    access_each_vhost(a, write_vhost, x);
    out_close(o, ']');
    out_open(o, "permissions", '[');
    access_each_permission(a, write_permission, x);
    out_close(o, ']');
    write_empty(o, "topic_permissions");
    write_empty(o, "global_parameters");
}

static void export(struct call *c, const char *vhost) {
    struct exporting x = {.call = c, .vhost = vhost};
    struct engine *e = c->management->o.engine;
    struct out *o = &x.out;
    out_init(o, &c->out, NULL);
    out_open(o, NULL, '{');
    out_text(o, "rabbit_version", RABBITMQ_VERSION);
    out_text(o, "rabbitmq_version", RABBITMQ_VERSION);
    out_text(o, "product_name", "barid");
    out_text(o, "product_version", c->management->o.version);
    if (vhost == NULL) write_access(&x);
    write_empty(o, "parameters");
    write_empty(o, "policies");
    out_open(o, "queues", '[');
    engine_each_queue(e, write_queue, &x);
    out_close(o, ']');
    out_open(o, "exchanges", '[');
    engine_each_vhost(e, write_exchanges, &x);
    out_close(o, ']');
    out_open(o, "bindings", '[');
    engine_each_vhost(e, write_bindings, &x);
    out_close(o, ']');
    out_close(o, '}');
    call_answer(c, 200);
}

void manage_definitions(struct call *c) { export(c, NULL); }

void manage_definitions_of_vhost(struct call *c) { export(c, vhost_name(c->vhost)); }
