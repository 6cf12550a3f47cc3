#include "sim/topology.h"

#include "sim/world.h"
#include "wire/table.h"

#include <string.h>

const char *const queue_names[QUEUES] = {"plain",  "levels",  "retry", "once", "source", "dead", "lossy",
                                         "memory", "present", "spare", "late", "grave",  "spin", "plain"};
const char *const exchange_names[EXCHANGES] = {"topic", "fanout", "headers"};
static const char *const patterns[PATTERNS] = {"#", "a.*", "*.b", "a.#", "c"};

struct vhost *queue_vhost(const struct world *w, int queue) {
    return queue == Q_OTHER ? w->other : w->vhost;
}

int queue_of(const char *vhost, const char *name) {
    if (strcmp(vhost, "/") != 0) return Q_OTHER;
    int queue = 0;
    while (strcmp(queue_names[queue], name) != 0) queue++;
    return queue;
}

// ---- where a message goes

static bool key_matches(int pattern, const char *key) {
    const char *dot = strchr(key, '.');
    bool starts_a = strncmp(key, "a.", 2) == 0, two_words = dot && dot == strrchr(key, '.');
    switch (pattern) {
    case 0: return true;
    case 1: return starts_a && two_words;
    case 2: return two_words && strcmp(dot, ".b") == 0;
    case 3: return starts_a;
    default: return strcmp(key, "c") == 0;
    }
}

int header_h(uint32_t number) { return number % 5 ? (int)(number % 3) : -1; }
int header_g(uint32_t number) { return number % 5 ? (int)(number % 2) : -1; }

static bool headers_fit(int pattern, uint32_t number) {
    switch (pattern) {
    case 0: return true;
    case 1: return header_h(number) == 0 || header_g(number) == 1;
    case 2: return header_h(number) == 1 && header_g(number) == 0;
    case 3: return header_h(number) >= 0;
    default: return false;
    }
}

// Valid until the next call. Kept, because a process may end without coming back.
static struct view headers_arguments(int pattern) {
    static const char *const match[PATTERNS] = {"all", "any", "all", "all", "any-with-x"};
    static struct buf kept = {.max = 1024}, *b = &kept;
    buf_clear(b);
    table_put_text(b, "x-match", match[pattern]);
    if (pattern == 1 || pattern == 2) {
        table_put_integer(b, "h", pattern - 1);
        table_put_integer(b, "g", 2 - pattern);
    }
    if (pattern == 3) table_put(b, view_of("h"), &(struct field){.type = FIELD_VOID});
    if (pattern == 4) table_put_integer(b, "x-never", 1);
    return (struct view){.data = b->data, .length = (uint32_t)b->len};
}

static bool binding_fits(int exchange, int pattern, const char *key, uint32_t number) {
    if (exchange == X_HEADERS) return headers_fit(pattern, number);
    return exchange == X_FANOUT || key_matches(pattern, key);
}

void topology_targets(const struct world *w, int exchange, const char *key, uint32_t number, bool goes[QUEUES]) {
    const struct bindings *b = &w->bindings;
    bool matched = false, led = false;
    for (int p = 0; p < PATTERNS; p++) {
        if (!binding_fits(exchange, p, key, number)) continue;
        led |= exchange == X_TOPIC && b->led[p];
        for (int q = 0; q < QUEUES; q++) {
            goes[q] |= b->queue[exchange][p][q];
            matched |= b->queue[exchange][p][q];
        }
    }
    if (led) topology_targets(w, X_FANOUT, key, number, goes);
    if (exchange == X_TOPIC && !matched && !led) goes[Q_SPARE] = true;
}

// ---- declaring

static struct queue_options options_of(int queue) {
    struct queue_options o = {.durable = queue != Q_MEMORY, .park = queue != Q_SPIN};
    if (queue == Q_LEVELS) o.max_priority = 3;
    if (queue == Q_RETRY) {
        o.delivery_limit = 3;
        o.retry_delay_ms = 200;
        o.retry_max_delay_ms = 1000;
    }
    if (queue == Q_ONCE) o.dedupe_window_ms = 5000;
    if (queue == Q_PRESENT) o.dedupe_present = true;
    if (queue == Q_SOURCE) o.dead_letter_exchange = "dlx";
    if (queue == Q_LOSSY) {
        o.has_max_length = true;
        o.max_length = 10;
        o.dead_letter_exchange = "grave";
    }
    if (queue == Q_SPIN) {
        o.dead_letter_exchange = "";
        o.dead_letter_routing_key = "spin";
    }
    o.has_message_ttl = queue_is_lossy(queue);
    o.message_ttl_ms = queue == Q_SPIN ? 400 : queue == Q_LOSSY ? 2000 : 0;
    return o;
}

static void must(struct world *w, enum err code, const struct error *e) {
    if (code == ERR_IO || code == ERR_FULL || code == ERR_BUSY) longjmp(w->died, 1);
    if (code) world_fail(w, "topology: %s", e->text);
}

static void declare(struct world *w, const char *name, struct exchange_options o) {
    struct error e;
    o.durable = true;
    must(w, engine_exchange_declare(w->vhost, name, &o, &e), &e);
}

static void bind(struct world *w, const char *exchange, const char *queue, const char *key) {
    struct error e;
    struct binding_spec b = {.source = exchange, .destination = queue, .key = key};
    must(w, engine_bind(w->vhost, &b, &e), &e);
}

void topology_declare(struct world *w) {
    struct error e;
    w->vhost = engine_vhost(w->engine, "/");
    must(w, engine_vhost_add(w->engine, "two", &w->other, &e), &e);
    declare(w, "topic", (struct exchange_options){.type = EXCHANGE_TOPIC, .alternate = "spare"});
    declare(w, "fanout", (struct exchange_options){.type = EXCHANGE_FANOUT});
    declare(w, "headers", (struct exchange_options){.type = EXCHANGE_HEADERS});
    declare(w, "spare", (struct exchange_options){.type = EXCHANGE_FANOUT, .internal = true});
    declare(w, "dlx", (struct exchange_options){.type = EXCHANGE_FANOUT});
    declare(w, "grave", (struct exchange_options){.type = EXCHANGE_FANOUT});
    declare(w, "late", (struct exchange_options){.type = EXCHANGE_DIRECT, .delayed = true});
    declare(
        w, "latest",
        (struct exchange_options){.type = EXCHANGE_FANOUT, .dedupe_size = LATEST_SIZE, .dedupe_ttl_ms = LATEST_TTL_MS});
    for (int q = 0; q < QUEUES; q++) {
        struct queue_options o = options_of(q);
        must(w, engine_queue_declare(queue_vhost(w, q), queue_names[q], &o, &e), &e);
    }
    bind(w, "dlx", "dead", "");
    bind(w, "grave", "grave", "");
    bind(w, "spare", "spare", "");
    bind(w, "late", "late", "late");
    bind(w, "latest", "plain", "");
}

// ---- bindings come and go

static bool may_be_bound(int queue) { return queue != Q_OTHER && queue != Q_GRAVE && queue != Q_LATE; }

static void flip(struct world *w, bool *is, const struct binding_spec *b) {
    struct error e;
    w->bindings.unsure = true;
    enum err code = *is ? engine_unbind(w->vhost, b, &e) : engine_bind(w->vhost, b, &e);
    world_say(w, "%s %s to %s with %s: %s", *is ? "unbind" : "bind", b->destination, b->source, b->key, err_name(code));
    if (code == ERR_IO) longjmp(w->died, 1);
    if (code != ERR_OK && code != ERR_FULL && code != ERR_BUSY) world_fail(w, "bind: %s", e.text);
    if (code == ERR_OK) *is = !*is;
    world_sync(w);
}

void op_bind(struct world *w) {
    int p = (int)pick(w, PATTERNS);
    if (pick(w, 8) == 0) {
        struct binding_spec b = {.source = "topic", .destination = "fanout", .to_exchange = true, .key = patterns[p]};
        flip(w, &w->bindings.led[p], &b);
        return;
    }
    int x = (int)pick(w, EXCHANGES), q = (int)pick(w, QUEUES);
    if (!may_be_bound(q)) return;
    struct binding_spec b = {.source = exchange_names[x], .destination = queue_names[q], .key = patterns[p]};
    if (x == X_HEADERS) b.arguments = headers_arguments(p);
    flip(w, &w->bindings.queue[x][p][q], &b);
}

static void read_binding(void *arg, const struct binding_spec *b) {
    struct bindings *found = arg;
    int p = 0, x = 0;
    while (p < PATTERNS && strcmp(b->key, patterns[p]) != 0) p++;
    while (x < EXCHANGES && strcmp(b->source, exchange_names[x]) != 0) x++;
    if (p == PATTERNS || x == EXCHANGES) return;
    if (b->to_exchange) found->led[p] = true;
    else found->queue[x][p][queue_of("/", b->destination)] = true;
}

// Bindings are synced as soon as they are made, so they are known, unless the process died meanwhile.
void topology_read(struct world *w) {
    struct bindings found = {0}, *b = &w->bindings;
    engine_each_binding(engine_vhost(w->engine, "/"), NULL, read_binding, &found);
    for (int p = 0; p < PATTERNS && !b->unsure; p++) {
        if (found.led[p] != b->led[p])
            world_fail(w, "binding %s of fanout to topic is %s", patterns[p], found.led[p] ? "there again" : "lost");
        for (int x = 0; x < EXCHANGES; x++)
            for (int q = 0; q < QUEUES; q++)
                if (q != Q_MEMORY && found.queue[x][p][q] != b->queue[x][p][q])
                    world_fail(w, "binding %s of %s to %s is %s", patterns[p], queue_names[q], exchange_names[x],
                               found.queue[x][p][q] ? "there again" : "lost");
    }
    *b = found;
}

// ---- what is deleted stays deleted, whatever crashes: the old one's messages are all there, or gone for good

static void gone_all(struct world *w, int queue) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < w->model.n; i++)
        if (w->model.messages[i].in[queue].now & (HERE | HELD | PARKED)) model_change(&w->model, i, queue, GONE);
    for (uint32_t i = 0; i < w->n_held; i++)
        if (w->held[i].queue != queue) w->held[kept++] = w->held[i];
    w->n_held = kept;
}

static void declare_again(struct world *w) {
    w->bindings.unsure = true;
    topology_declare(w);
    if (pick(w, 2)) end_a_life(w);
    world_sync(w);
}

void op_recreate_queue(struct world *w) {
    struct error e;
    world_say(w, "delete and declare levels");
    if (engine_queue_delete(w->vhost, "levels", false, false, NULL, &e)) world_fail(w, "delete: %s", e.text);
    gone_all(w, Q_LEVELS);
    for (int x = 0; x < EXCHANGES; x++)
        for (int p = 0; p < PATTERNS; p++) w->bindings.queue[x][p][Q_LEVELS] = false;
    declare_again(w);
}

void op_recreate_vhost(struct world *w) {
    struct error e;
    world_say(w, "delete and add vhost two");
    if (engine_vhost_delete(w->engine, "two", &e)) world_fail(w, "delete: %s", e.text);
    gone_all(w, Q_OTHER);
    declare_again(w);
}

// What waits in its room goes with it; what is due has left it.
void op_recreate_delayed(struct world *w) {
    struct error e;
    struct engine_stats s;
    int64_t ticked = wall_now(w);
    world_sync(w);
    engine_stats(w->engine, &s);
    if (s.no_room || s.dead_letters > 0) return;
    world_say(w, "delete and declare late");
    if (engine_exchange_delete(w->vhost, "late", false, &e)) world_fail(w, "delete: %s", e.text);
    int64_t now = wall_now(w);
    for (uint32_t i = 0; i < w->model.n; i++) {
        struct message_model *msg = &w->model.messages[i];
        struct entry_model *x = &msg->in[Q_LATE];
        if (!msg->late || x->now != HERE || msg->due_ms < ticked - MARGIN_MS) continue;
        if (msg->due_ms > now + MARGIN_MS) model_change(&w->model, i, Q_LATE, GONE);
        else x->twice = true; // nothing can be said
    }
    declare_again(w);
}
