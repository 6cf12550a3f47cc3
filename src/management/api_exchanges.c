// /api/exchanges: looking, declaring, deleting. Publishing is api_publish.c's.
#include "management/internal.h"

#include "management/declare_json.h"
#include "management/json_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ORDER_TEXT 520

static void write_exchange(struct out *o, const struct management *m, const struct exchange_info *x) {
    const double *rate = sampler_rates(&m->sampler, RATE_EXCHANGE, x->vhost, x->name);
    out_text(o, "name", x->name);
    out_text(o, "vhost", x->vhost);
    out_text(o, "type", exchange_type_name(x->options));
    out_bool(o, "durable", x->options->durable);
    out_bool(o, "auto_delete", x->options->auto_delete);
    out_bool(o, "internal", x->options->internal);
    out_table(o, "arguments", x->options->arguments);
    out_null(o, "policy");
    out_text(o, "user_who_performed_action", "rmq-internal");
    out_open(o, "message_stats", '{');
    out_count(o, "publish_in", x->published_in, rate[RATE_IN]);
    out_count(o, "publish_out", x->published_out, rate[RATE_OUT]);
    out_close(o, '}');
}

static void list_exchange(void *arg, const struct exchange_info *x) {
    struct listing *l = arg;
    char order[ORDER_TEXT];
    snprintf(order, sizeof order, "%s\1%s", x->vhost, x->name);
    struct out *o = listing_item(l, x->name, order);
    if (o == NULL) return;
    write_exchange(o, l->call->management, x);
    listing_item_end(l);
}

static void list_vhost(void *arg, struct vhost *v) {
    struct listing *l = arg;
    if (sees_vhost(l->call, vhost_name(v))) engine_each_exchange(v, list_exchange, l);
}

void manage_exchanges(struct call *c) {
    struct listing l;
    if (!listing_init(&l, c)) return;
    if (c->vhost != NULL) engine_each_exchange(c->vhost, list_exchange, &l);
    else engine_each_vhost(c->management->o.engine, list_vhost, &l);
    listing_answer(&l);
}

static const char *name_of(const struct call *c) { return exchange_name(call_param(c, "exchange")); }

static bool find_exchange(struct call *c, struct exchange_info *out) {
    if (engine_exchange(c->vhost, name_of(c), out)) return true;
    call_not_found(c, "exchange");
    return false;
}

void manage_exchange(struct call *c) {
    struct exchange_info x;
    struct single s;
    if (!find_exchange(c, &x)) return;
    struct out *o = single_init(&s, c);
    if (o == NULL) return;
    write_exchange(o, c->management, &x);
    static const char *const empty[] = {"incoming", "outgoing"};
    for (size_t i = 0; i < 2; i++) {
        out_open(o, empty[i], '[');
        out_close(o, ']');
    }
    single_answer(&s);
}

// ---- declaring and deleting -----------------------------------------------------------------------------

enum err exchange_declare_json(struct vhost *v, const char *name, const json_t *o, struct exchange_arguments *a,
                               struct buf *table, struct error *e) {
    if (strlen(name) > 255) return error_set(e, ERR_INVALID, "the name of an exchange has at most 255 bytes");
    enum err err = json_to_table(json_object_get(o, "arguments"), table, e);
    if (err != ERR_OK) return err;
    err = exchange_arguments(a, view_of(json_text_or(o, "type", "direct")),
                             (struct view){table->data, (uint32_t)table->len}, name, vhost_name(v), e);
    a->options.durable = json_bool_or(o, "durable", true);
    a->options.auto_delete = json_bool_or(o, "auto_delete", false);
    a->options.internal = json_bool_or(o, "internal", false);
    return err;
}

static bool may_declare(struct call *c, const char *name, const struct exchange_options *o) {
    if (!call_may(c, ACCESS_CONFIGURE, name)) return false;
    if (o->alternate == NULL) return true;
    return call_may(c, ACCESS_READ, name) && call_may(c, ACCESS_WRITE, o->alternate);
}

static void declare(struct call *c, const char *name, struct buf *table) {
    struct exchange_arguments a;
    struct exchange_info was;
    struct error e = {0};
    if (exchange_declare_json(c->vhost, name, c->json, &a, table, &e) != ERR_OK) {
        call_bad_request(c, &e);
        return;
    }
    bool known = engine_exchange(c->vhost, name, &was);
    if (!may_declare(c, name, &a.options)) return;
    if (name[0] == '\0' || (!known && strncmp(name, "amq.", 4) == 0)) {
        call_fail(c, 400, "bad_request", "ACCESS_REFUSED - exchange name '%s' contains reserved prefix 'amq.*'", name);
        return;
    }
    if (engine_exchange_declare(c->vhost, name, &a.options, &e) != ERR_OK) call_error(c, &e);
    else call_durable(c, known ? 204 : 201);
}

void manage_exchange_put(struct call *c) {
    struct buf table;
    if (call_json(c) == NULL) return;
    buf_init(&table, JSON_TABLE_MAX);
    declare(c, name_of(c), &table);
    buf_release(&table);
}

void manage_exchange_delete(struct call *c) {
    struct exchange_info x;
    struct error e = {0};
    if (!find_exchange(c, &x) || !call_may(c, ACCESS_CONFIGURE, name_of(c))) return;
    if (engine_exchange_delete(c->vhost, name_of(c), call_flag(c, "if-unused"), &e) == ERR_OK) call_durable(c, 204);
    else if (e.code == ERR_FORBIDDEN) call_bad_request(c, &e);
    else call_error(c, &e);
}
