#include "inbox/handler.h"

#include "base/assert.h"
#include "base/list.h"
#include "inbox/handler_internal.h"

#include <string.h>

#define TIMEOUT_MS 30000

static bool begins(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

enum err handler_open(struct handler **out, const struct handler_options *options, struct error *e) {
    struct handler_options o = *options;
    if (!o.timeout_ms) o.timeout_ms = TIMEOUT_MS;
    if (begins(o.spec, "sql:")) return handler_sql_open(out, &o, e);
    if (begins(o.spec, "exec:")) return handler_program_open(out, &o, e);
    if (begins(o.spec, "http://") || begins(o.spec, "https://")) return handler_web_open(out, &o, e);
    return error_set(e, ERR_INVALID, "a handler is sql:SCHEMA.FUNCTION, http://…, https://… or exec:COMMAND");
}

void handler_check(struct handler *h, handler_ready_fn *ready, void *arg) {
    ASSERT(!h->ready);
    h->ready = ready;
    h->ready_arg = arg;
    h->v->check(h);
}

const struct outbox_sink *handler_sink(const struct handler *h) { return &h->sink; }

void handler_free(struct handler *h) {
    if (h) h->v->free(h);
}

void handler_init(struct handler *h, const struct handler_vtable *v, const struct handler_options *o) {
    h->v = v;
    h->options = *o;
}

void handler_ready(struct handler *h, enum err err, const char *why) {
    handler_ready_fn *ready = h->ready;
    h->ready = NULL;
    ready(h->ready_arg, err, why);
}

static void checked(struct loop_post *p) { handler_ready(LIST_ITEM(p, struct handler, post), ERR_OK, ""); }

void handler_ready_soon(struct handler *h) {
    h->post.fn = checked;
    loop_post(h->options.loop, &h->post);
}
