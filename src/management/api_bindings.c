// /api/bindings, and the bindings of one queue or one exchange.
#include "management/internal.h"

#include "amqp/arguments.h"
#include "management/bindings.h"
#include "management/json_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ORDER_TEXT 2000

// ---- looking --------------------------------------------------------------------------------------------

static void write_binding(struct out *o, const char *vhost, const struct binding_spec *b) {
    char key[BINDING_KEY_MAX];
    binding_key(b, key);
    out_text(o, "source", b->source);
    out_text(o, "vhost", vhost);
    out_text(o, "destination", b->destination);
    out_text(o, "destination_type", b->to_exchange ? "exchange" : "queue");
    out_text(o, "routing_key", b->key);
    out_table(o, "arguments", b->arguments);
    out_text(o, "properties_key", key);
}

struct listed {
    struct listing listing;
    const char *vhost;                // of those being listed
    const char *source, *destination; // NULL: any
    bool any_kind, to_exchange;
};

static bool is_listed(const struct listed *l, const struct binding_spec *b) {
    if (l->source != NULL && strcmp(l->source, b->source) != 0) return false;
    if (l->destination != NULL && strcmp(l->destination, b->destination) != 0) return false;
    return l->any_kind || l->to_exchange == b->to_exchange;
}

static void list_binding(void *arg, const struct binding_spec *b) {
    struct listed *l = arg;
    char order[ORDER_TEXT];
    if (!is_listed(l, b)) return;
    snprintf(order, sizeof order, "%s\1%s\1%d\1%s\1%s", l->vhost, b->source, b->to_exchange, b->destination, b->key);
    struct out *o = listing_item(&l->listing, b->destination, order);
    if (o == NULL) return;
    write_binding(o, l->vhost, b);
    listing_item_end(&l->listing);
}

static void list_vhost(void *arg, struct vhost *v) {
    struct listed *l = arg;
    l->vhost = vhost_name(v);
    if (sees_vhost(l->listing.call, l->vhost)) engine_each_binding(v, NULL, list_binding, l);
}

void manage_bindings(struct call *c) {
    struct listed l = {.any_kind = true};
    if (!listing_init(&l.listing, c)) return;
    if (c->vhost != NULL) list_vhost(&l, c->vhost);
    else engine_each_vhost(c->management->o.engine, list_vhost, &l);
    listing_answer(&l.listing);
}

// What the path names must be there.
static bool exchange_is_there(struct call *c, const char *name) {
    struct exchange_info x;
    if (engine_exchange(c->vhost, name, &x)) return true;
    call_not_found(c, "exchange");
    return false;
}

static bool queue_is_there(struct call *c, const char *name) {
    struct queue_info q;
    if (engine_queue(c->vhost, name, &q)) return true;
    call_not_found(c, "queue");
    return false;
}

static void list_of_vhost(struct call *c, struct listed *l) {
    l->vhost = vhost_name(c->vhost);
    if (!listing_init(&l->listing, c)) return;
    engine_each_binding(c->vhost, NULL, list_binding, l);
    listing_answer(&l->listing);
}

void manage_bindings_of_queue(struct call *c) {
    struct listed l = {.destination = call_param(c, "queue")};
    if (queue_is_there(c, l.destination)) list_of_vhost(c, &l);
}

void manage_bindings_from(struct call *c) {
    struct listed l = {.source = exchange_name(call_param(c, "exchange")), .any_kind = true};
    if (exchange_is_there(c, l.source)) list_of_vhost(c, &l);
}

void manage_bindings_to(struct call *c) {
    struct listed l = {.destination = exchange_name(call_param(c, "exchange")), .to_exchange = true};
    if (exchange_is_there(c, l.destination)) list_of_vhost(c, &l);
}

// ---- between two ----------------------------------------------------------------------------------------

// The binding's ends from the path. False: answered.
static bool read_ends(struct call *c, struct binding_spec *b) {
    const char *kind = call_param(c, "kind");
    *b = (struct binding_spec){.source = exchange_name(call_param(c, "source")), .key = ""};
    b->to_exchange = strcmp(kind, "e") == 0;
    if (!b->to_exchange && strcmp(kind, "q") != 0) {
        call_fail(c, 404, "Object Not Found", "Not Found");
        return false;
    }
    b->destination = call_param(c, "destination");
    if (b->to_exchange) b->destination = exchange_name(b->destination);
    if (!exchange_is_there(c, b->source)) return false;
    return b->to_exchange ? exchange_is_there(c, b->destination) : queue_is_there(c, b->destination);
}

void manage_bindings_between(struct call *c) {
    struct binding_spec ends;
    if (!read_ends(c, &ends)) return;
    struct listed l = {.source = ends.source, .destination = ends.destination, .to_exchange = ends.to_exchange};
    list_of_vhost(c, &l);
}

static bool may_bind(struct call *c, const struct binding_spec *b) {
    return call_may(c, ACCESS_WRITE, b->destination) && call_may(c, ACCESS_READ, b->source) &&
           (b->to_exchange || !queue_is_locked(c, b->destination));
}

static void set_location(struct call *c, const struct binding_spec *b) {
    char key[BINDING_KEY_MAX];
    struct buf text;
    binding_key(b, key);
    const char *last = strrchr(c->path, '/') + 1;
    buf_init(&text, 4096);
    buf_printf(&text, "%s/", last); // relative to the path
    for (const char *at = key; *at != '\0'; at++) {
        if (*at == '%' || *at == '+') buf_printf(&text, "%%%02X", (unsigned)*at);
        else buf_add(&text, at, 1);
    }
    c->location = strdup(buf_cstr(&text));
    buf_release(&text);
}

static void bind(struct call *c, struct binding_spec *b, struct buf *table) {
    struct error e = {0};
    struct exchange_info x;
    b->key = json_text_or(c->json, "routing_key", "");
    if (strlen(b->key) > 255) {
        call_fail(c, 400, "bad_request", "routing_key is longer than 255 bytes");
        return;
    }
    enum err err = json_to_table(json_object_get(c->json, "arguments"), table, &e);
    b->arguments = (struct view){table->data, (uint32_t)table->len};
    if (err == ERR_OK && engine_exchange(c->vhost, b->source, &x))
        err = binding_arguments(x.options, b->key, b->arguments, &e);
    if (err != ERR_OK) {
        call_bad_request(c, &e);
        return;
    }
    if (!may_bind(c, b)) return;
    set_location(c, b);
    if (engine_bind(c->vhost, b, &e) == ERR_OK) call_durable(c, 201);
    else if (e.code == ERR_FORBIDDEN) call_bad_request(c, &e);
    else call_error(c, &e);
}

void manage_binding_post(struct call *c) {
    struct binding_spec b;
    struct buf table;
    if (!read_ends(c, &b) || call_json(c) == NULL) return;
    buf_init(&table, JSON_TABLE_MAX);
    bind(c, &b, &table);
    buf_release(&table);
}

// ---- one ------------------------------------------------------------------------------------------------

// The binding with that key, copied: it is not to be changed while the engine tells of it.
struct sought {
    const struct binding_spec *ends;
    const char *key; // as binding_key makes it
    bool found;
    char routing_key[256];
    struct buf arguments;
};

static void look_at(void *arg, const struct binding_spec *b) {
    struct sought *s = arg;
    char key[BINDING_KEY_MAX];
    if (s->found || b->to_exchange != s->ends->to_exchange || strcmp(b->source, s->ends->source) != 0 ||
        strcmp(b->destination, s->ends->destination) != 0)
        return;
    binding_key(b, key);
    if (strcmp(key, s->key) != 0) return;
    s->found = true;
    snprintf(s->routing_key, sizeof s->routing_key, "%s", b->key);
    buf_add(&s->arguments, b->arguments.data, b->arguments.length);
}

static void with_binding(struct call *c, void (*then)(struct call *c, const struct binding_spec *b)) {
    struct binding_spec b;
    if (!read_ends(c, &b)) return;
    struct sought s = {.ends = &b, .key = call_param(c, "properties")};
    buf_init(&s.arguments, JSON_TABLE_MAX);
    engine_each_binding(c->vhost, NULL, look_at, &s);
    b.key = s.routing_key;
    b.arguments = (struct view){s.arguments.data, (uint32_t)s.arguments.len};
    if (s.found) then(c, &b);
    else call_not_found(c, "binding");
    buf_release(&s.arguments);
}

static void show(struct call *c, const struct binding_spec *b) {
    struct single s;
    struct out *o = single_init(&s, c);
    if (o == NULL) return;
    write_binding(o, vhost_name(c->vhost), b);
    single_answer(&s);
}

static void unbind(struct call *c, const struct binding_spec *b) {
    struct error e = {0};
    if (!may_bind(c, b)) return;
    if (engine_unbind(c->vhost, b, &e) == ERR_OK) call_durable(c, 204);
    else if (e.code == ERR_FORBIDDEN) call_bad_request(c, &e);
    else call_error(c, &e);
}

void manage_binding(struct call *c) { with_binding(c, show); }
void manage_binding_delete(struct call *c) { with_binding(c, unbind); }
