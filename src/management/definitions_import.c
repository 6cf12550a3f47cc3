// POST /api/definitions: users, virtual hosts and permissions first, as one row of changes, then queues, exchanges and
// bindings; answered when all is durable. A queue or an exchange that is there already stays as it is.
//
// The first thing that cannot be made ends it, with what it was; what was made before stays, and the same file can be
// imported again.
#include "management/internal.h"

#include "base/log.h"
#include "management/declare_json.h"
#include "management/json_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct import {
    struct call *call;
    const char *vhost; // into this one; NULL: each says its own
    uint32_t waiting;  // changes not yet durable, and one while they are being asked for
    struct error error;
};

static void keep_error(struct import *i, const struct error *e, const char *what, const char *name) {
    if (i->error.code != ERR_OK) return;
    error_set(&i->error, e->code, "%s %.80s: %.140s", what, name, e->text[0] != '\0' ? e->text : err_text(e->code));
}

static const char *name_of(const json_t *o) { return json_text_or(o, "name", ""); }

// ---- topology -------------------------------------------------------------------------------------------

static struct vhost *vhost_of(struct import *i, const json_t *o, struct error *e) {
    const char *name = i->vhost != NULL ? i->vhost : json_text_or(o, "vhost", "/");
    struct vhost *v = engine_vhost(i->call->management->o.engine, name);
    if (v == NULL) error_set(e, ERR_NOT_FOUND, "no virtual host '%.80s'", name);
    return v;
}

static enum err import_queue(struct import *i, const json_t *o, struct buf *table, struct error *e) {
    struct queue_arguments a;
    struct queue_info was;
    struct vhost *v = vhost_of(i, o, e);
    if (v == NULL) return e->code;
    if (engine_queue(v, name_of(o), &was)) return ERR_OK;
    enum err err = queue_declare_json(v, name_of(o), o, &a, table, e);
    return err == ERR_OK ? engine_queue_declare(v, name_of(o), &a.options, e) : err;
}

static enum err import_exchange(struct import *i, const json_t *o, struct buf *table, struct error *e) {
    struct exchange_arguments a;
    struct exchange_info was;
    struct vhost *v = vhost_of(i, o, e);
    if (v == NULL) return e->code;
    if (engine_exchange(v, name_of(o), &was)) return ERR_OK;
    enum err err = exchange_declare_json(v, name_of(o), o, &a, table, e);
    return err == ERR_OK ? engine_exchange_declare(v, name_of(o), &a.options, e) : err;
}

static enum err import_binding(struct import *i, const json_t *o, struct buf *table, struct error *e) {
    struct exchange_info x;
    struct vhost *v = vhost_of(i, o, e);
    if (v == NULL) return e->code;
    struct binding_spec b = {
        .source = exchange_name(json_text_or(o, "source", "")),
        .destination = json_text_or(o, "destination", ""),
        .to_exchange = strcmp(json_text_or(o, "destination_type", "queue"), "exchange") == 0,
        .key = json_text_or(o, "routing_key", ""),
    };
    if (b.source[0] == '\0') return ERR_OK;
    if (strlen(b.key) > 255) return error_set(e, ERR_INVALID, "routing_key is longer than 255 bytes");
    enum err err = json_to_table(json_object_get(o, "arguments"), table, e);
    b.arguments = (struct view){table->data, (uint32_t)table->len};
    if (err == ERR_OK && engine_exchange(v, b.source, &x)) err = binding_arguments(x.options, b.key, b.arguments, e);
    return err == ERR_OK ? engine_bind(v, &b, e) : err;
}

static void import_each(struct import *i, const char *key, const char *what,
                        enum err (*one)(struct import *i, const json_t *o, struct buf *table, struct error *e)) {
    size_t at;
    json_t *o;
    json_array_foreach(json_object_get(i->call->json, key), at, o) {
        struct error e = {0};
        struct buf table;
        if (i->error.code != ERR_OK) return;
        buf_init(&table, JSON_TABLE_MAX);
        if (one(i, o, &table, &e) != ERR_OK)
            keep_error(i, &e, what, name_of(o)[0] != '\0' ? name_of(o) : json_text_or(o, "destination", ""));
        buf_release(&table);
    }
}

static void say_ignored(const struct import *i) {
    static const char *const lists[] = {"policies", "parameters", "global_parameters", "topic_permissions"};
    for (size_t n = 0; n < sizeof lists / sizeof lists[0]; n++) {
        size_t count = json_array_size(json_object_get(i->call->json, lists[n]));
        if (count > 0)
            log_text(LOG_WARN, "definitions", "%zu %s are ignored: there is no such thing here", count, lists[n]);
    }
}

static void finish(struct import *i) {
    struct call *c = i->call;
    import_each(i, "queues", "queue", import_queue);
    import_each(i, "exchanges", "exchange", import_exchange);
    import_each(i, "bindings", "binding to", import_binding);
    if (i->error.code != ERR_OK) {
        if (i->error.code == ERR_NOT_FOUND || i->error.code == ERR_FORBIDDEN) i->error.code = ERR_INVALID;
        call_error(c, &i->error);
    } else {
        say_ignored(i);
        call_durable(c, 204);
    }
    free(i);
}

// ---- users, virtual hosts, permissions ------------------------------------------------------------------

static enum err add_vhosts(struct import *i, struct error *e) {
    size_t at;
    json_t *o;
    json_array_foreach(json_object_get(i->call->json, "vhosts"), at, o) {
        enum err err = engine_vhost_add(i->call->management->o.engine, name_of(o), NULL, e);
        if (err != ERR_OK) return err;
    }
    return ERR_OK;
}

static void one_less(struct import *i) {
    struct error e = {0};
    if (--i->waiting > 0) return;
    if (i->vhost == NULL && i->error.code == ERR_OK && add_vhosts(i, &e) != ERR_OK)
        keep_error(i, &e, "virtual", "host");
    finish(i);
}

static void on_changed(void *arg, enum err err, const struct error *e) {
    struct import *i = arg;
    if (err != ERR_OK) keep_error(i, e, "users, virtual hosts", "and permissions");
    one_less(i);
}

static void import_users(struct import *i) {
    size_t at;
    json_t *o;
    json_array_foreach(json_object_get(i->call->json, "users"), at, o) {
        struct access_user_put put;
        char *tags = tags_of(o);
        user_of_json(o, name_of(o), tags, &put);
        i->waiting++;
        access_user_put(i->call->management->o.access, &put, on_changed, i);
        free(tags);
    }
}

static void import_vhosts(struct import *i) {
    size_t at;
    json_t *o;
    json_array_foreach(json_object_get(i->call->json, "vhosts"), at, o) {
        const json_t *metadata = json_object_get(o, "metadata");
        char *tags = tags_of(json_object_get(o, "tags") != NULL ? o : metadata);
        const struct access_vhost_info v = {
            .name = name_of(o),
            .description = json_text_or(o, "description", json_text_or(metadata, "description", NULL)),
            .tags = tags,
            .tracing = json_bool_or(o, "tracing", false),
        };
        i->waiting++;
        access_vhost_put(i->call->management->o.access, &v, on_changed, i);
        free(tags);
    }
}

static void import_permissions(struct import *i) {
    size_t at;
    json_t *o;
    json_array_foreach(json_object_get(i->call->json, "permissions"), at, o) {
        const struct access_permission p = {
            .user = json_text_or(o, "user", ""),
            .vhost = json_text_or(o, "vhost", ""),
            .configure = json_text_or(o, "configure", ""),
            .write = json_text_or(o, "write", ""),
            .read = json_text_or(o, "read", ""),
        };
        i->waiting++;
        access_permission_put(i->call->management->o.access, &p, on_changed, i);
    }
}

// Browsers and old tools send it as a form; the file is between the first brace and the last.
static void unwrap_form(struct call *c) {
    const char *type = call_header(c, "Content-Type");
    if (type == NULL || strncasecmp(type, "multipart/form-data", 19) != 0 || c->body.len == 0) return;
    const uint8_t *from = memchr(c->body.data, '{', c->body.len), *to = memrchr(c->body.data, '}', c->body.len);
    if (from == NULL || to == NULL || to < from) return;
    c->body.len = (size_t)(to + 1 - c->body.data);
    buf_consume(&c->body, (size_t)(from - c->body.data));
}

void manage_definitions_import(struct call *c) {
    unwrap_form(c);
    if (call_json(c) == NULL) return;
    struct import *i = calloc(1, sizeof *i);
    struct error e;
    if (i == NULL) {
        error_set(&e, ERR_NOMEM, "no memory");
        call_error(c, &e);
        return;
    }
    *i = (struct import){.call = c, .vhost = c->vhost != NULL ? call_param(c, "vhost") : NULL, .waiting = 1};
    if (i->vhost == NULL) {
        import_users(i);
        import_vhosts(i);
        import_permissions(i);
    }
    one_less(i);
}
