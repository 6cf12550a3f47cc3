// What is published, and what the answer must be.
#include "sim/world.h"
#include "wire/properties.h"

#include <stdio.h>
#include <string.h>

static const char *const keys[] = {"a.b", "a.c", "b.b", "c", "a.b.c"};

void fill_body(uint32_t number, uint32_t size, char *out) {
    for (uint32_t i = 0; i < size; i++) out[i] = (char)('a' + (number * 7 + i) % 26);
    char text[16];
    int n = snprintf(text, sizeof text, "%06u", number);
    memcpy(out, text, (size_t)n);
}

struct answer {
    struct world *world;
    uint32_t message;
};
static struct answer answers[MESSAGES_MAX];

static void answered(void *arg, enum publish_result result) {
    struct answer *a = arg;
    struct world *w = a->world;
    struct model *m = &w->model;
    const struct message_model *msg = &m->messages[a->message];
    while (m->next_answer < m->n && !m->messages[m->next_answer].accepted) m->next_answer++;
    if (m->next_answer != a->message)
        world_fail(w, "message %u was answered before message %u", a->message, m->next_answer);
    m->next_answer++;
    if (w->sabotage != SABOTAGE_EARLY_CONFIRM && msg->pos > journal_durable(engine_journal(w->engine)))
        world_fail(w, "message %u was confirmed before it was durable", a->message);
    if (result != msg->result) world_fail(w, "message %u was answered otherwise than was said", a->message);
}

// ---- what must be a duplicate

enum expected { FRESH, REPEATED, EITHER };

static enum expected by_time(int64_t now, int64_t surely_until, int64_t maybe_until) {
    if (now < surely_until - MARGIN_MS) return REPEATED;
    return now <= maybe_until + MARGIN_MS ? EITHER : FRESH;
}

// An id that was used before: the message goes straight to the queue that knows ids.
static enum expected choose_old_id(struct world *w, struct message_model *msg, uint32_t number) {
    msg->key = w->model.messages[pick(w, number)].key;
    const struct id_model *id = &w->model.ids[msg->key];
    return by_time(wall_now(w), id->surely_until_ms, id->maybe_until_ms);
}

static enum expected expect_present(const struct world *w, uint8_t value) {
    enum expected expected = FRESH;
    for (uint32_t i = 0; i < w->model.n; i++) {
        const struct message_model *msg = &w->model.messages[i];
        const struct entry_model *x = &msg->in[Q_PRESENT];
        if (msg->value != value || !(x->now & (HERE | HELD | PARKED))) continue;
        if (!x->unsure && !x->twice) return REPEATED;
        expected = EITHER;
    }
    return expected;
}

static enum expected expect_latest(struct world *w, uint8_t value) {
    enum expected expected = FRESH;
    for (uint32_t i = 0; i < w->n_latest; i++)
        if (w->latest[i].value == value) expected = by_time(wall_now(w), w->latest[i].until_ms, w->latest[i].until_ms);
    return expected;
}

// One that is added again keeps its old place too, which is pushed out in its turn.
static void latest_add(struct world *w, uint8_t value) {
    if (w->n_latest == LATEST_SIZE) memmove(w->latest, w->latest + 1, --w->n_latest * sizeof *w->latest);
    w->latest[w->n_latest].value = value;
    w->latest[w->n_latest++].until_ms = wall_now(w) + LATEST_TTL_MS;
}

// ---- where it goes

struct plan {
    struct message out;
    struct vhost *vhost;
    bool goes[QUEUES], to_latest;
    enum expected expected;
    uint64_t x_delay;
};

static void to_queue(struct world *w, struct plan *p, int queue) {
    p->vhost = queue_vhost(w, queue);
    p->out.exchange = "";
    p->out.routing_key = queue_names[queue];
    p->goes[queue] = true;
}

static void to_exchange(struct world *w, struct plan *p, int exchange, uint32_t number) {
    p->out.exchange = exchange_names[exchange];
    p->out.routing_key = keys[pick(w, 5)];
    topology_targets(w, exchange, p->out.routing_key, number, p->goes);
}

static void to_late(struct world *w, struct plan *p, struct message_model *msg) {
    p->out.exchange = p->out.routing_key = "late";
    p->goes[Q_LATE] = true;
    p->x_delay = 1 + pick(w, 3000);
    msg->late = true;
    msg->due_ms = wall_now(w) + (int64_t)p->x_delay;
}

static void to_latest(struct world *w, struct plan *p, struct message_model *msg) {
    p->out.exchange = "latest";
    p->out.routing_key = "";
    p->to_latest = p->goes[Q_PLAIN] = true;
    msg->value = (uint8_t)(1 + pick(w, 6));
    p->expected = expect_latest(w, msg->value);
}

static void to_some_queue(struct world *w, struct plan *p, struct message_model *msg) {
    int queue = (int)pick(w, QUEUES);
    if (queue == Q_GRAVE) queue = Q_LOSSY;
    to_queue(w, p, queue);
    if (queue != Q_PRESENT || pick(w, 3) == 0) return;
    msg->value = (uint8_t)(1 + pick(w, 12));
    p->expected = expect_present(w, msg->value);
}

static void choose_target(struct world *w, struct plan *p, struct message_model *msg, uint32_t number) {
    uint64_t dice = pick(w, 20);
    p->vhost = w->vhost;
    msg->key = number;
    if (number > 0 && pick(w, 10) == 0) {
        to_queue(w, p, Q_ONCE);
        p->expected = choose_old_id(w, msg, number);
    } else if (dice < 9) to_some_queue(w, p, msg);
    else if (dice < 13) to_exchange(w, p, X_TOPIC, number);
    else if (dice < 15) to_exchange(w, p, X_FANOUT, number);
    else if (dice < 17) to_exchange(w, p, X_HEADERS, number);
    else if (dice < 19) to_late(w, p, msg);
    else to_latest(w, p, msg);
}

// ---- what it carries

// Valid until the next call. Kept, because a process may end without coming back.
static struct view write_properties(const struct message_model *msg, const struct plan *p, uint32_t number) {
    static struct buf headers = {.max = 4096}, out = {.max = 8192};
    buf_clear(&headers);
    buf_clear(&out);
    table_put_integer(&headers, "n", number);
    if (header_h(number) >= 0) {
        table_put_integer(&headers, "h", header_h(number));
        table_put_integer(&headers, "g", header_g(number));
    }
    if (p->x_delay) table_put_integer(&headers, "x-delay", (int64_t)p->x_delay);
    if (msg->value) table_put_integer(&headers, "x-deduplication-header", msg->value);
    struct properties properties = {.flags = PROPERTY_HEADERS | PROPERTY_DELIVERY_MODE,
                                    .delivery_mode = msg->persistent ? 2 : 1,
                                    .headers = {.data = headers.data, .length = (uint32_t)headers.len}};
    properties_encode(&out, &properties);
    return (struct view){.data = out.data, .length = (uint32_t)out.len};
}

static void choose_content(struct world *w, struct plan *p, struct message_model *msg, uint32_t number) {
    static char body[40000];
    msg->size = pick(w, w->bulk ? 3 : 40) == 0 ? CLAIM_TICKET + (uint32_t)pick(w, 30000)
                                               : CLAIM_TICKET + (uint32_t)pick(w, 900);
    msg->priority = (uint8_t)pick(w, 6);
    msg->persistent = (pick(w, 8) != 0) != w->fleeting;
    msg->claimed = pick(w, 8) == 0;
    fill_body(number, msg->size, body);
    p->out.body = body;
    p->out.body_length = msg->claimed ? CLAIM_TICKET : msg->size;
    p->out.claimed = msg->claimed;
    p->out.claimed_length = msg->size;
    p->out.persistent = msg->persistent;
    p->out.priority = msg->priority;
    if (msg->late || pick(w, 12) != 0) return;
    p->out.delay_ms = 1 + pick(w, 3000);
    msg->due_ms = wall_now(w) + (int64_t)p->out.delay_ms;
}

// ---- publishing

static void taken(struct world *w, uint32_t number, int queue) {
    struct message_model *msg = &w->model.messages[number];
    msg->in[queue] = (struct entry_model){.now = HERE, .may = HERE, .owed = msg->in[queue].owed};
    if (queue_is_lossy(queue)) msg->in[queue].may |= GONE;
    if (queue == Q_LOSSY) msg->in[Q_GRAVE].owed = true;
    if (msg->persistent && queue != Q_MEMORY && w->sabotage != SABOTAGE_EARLY_CONFIRM)
        msg->pos = journal_appended(engine_journal(w->engine));
    if (queue != Q_ONCE) return;
    struct id_model *id = &w->model.ids[msg->key];
    id->surely_until_ms = id->maybe_until_ms = wall_now(w) + 5000;
}

static void check_result(struct world *w, const struct plan *p, const struct message_model *msg, uint32_t number) {
    bool duplicate = msg->result == PUBLISH_DUPLICATE, anywhere = false;
    if (duplicate && p->expected == FRESH) world_fail(w, "message %u was called a duplicate and is none", number);
    if (!duplicate && p->expected == REPEATED) world_fail(w, "message %u is a duplicate and was taken", number);
    for (int q = 0; q < QUEUES; q++) anywhere |= p->goes[q];
    if (!duplicate && msg->result != (anywhere ? PUBLISH_OK : PUBLISH_UNROUTABLE))
        world_fail(w, "message %u went %s", number, anywhere ? "nowhere" : "somewhere");
}

void op_publish(struct world *w) {
    struct model *m = &w->model;
    if (m->n == MESSAGES_MAX) return;
    uint32_t number = m->n;
    struct message_model *msg = &m->messages[number];
    struct plan p = {0};
    char id[16];
    memset(msg, 0, sizeof *msg);
    choose_target(w, &p, msg, number);
    choose_content(w, &p, msg, number);
    snprintf(id, sizeof id, "%u", msg->key);
    p.out.message_id = id;
    struct view properties = write_properties(msg, &p, number);
    p.out.properties = properties.data;
    p.out.properties_length = properties.length;
    answers[number] = (struct answer){.world = w, .message = number};
    m->n++;
    struct error e;
    enum err code = engine_publish(p.vhost, &p.out, answered, &answers[number], &msg->result, &e);
    world_say(w, "publish %u to %s %s%s (%u bytes%s%s): %s", number, p.out.exchange, p.out.routing_key,
              p.vhost == w->other ? " in two" : "", msg->size, msg->persistent ? "" : ", transient",
              msg->due_ms ? ", delayed" : "", err_name(code));
    if (code == ERR_IO) longjmp(w->died, 1);
    if (code != ERR_OK && code != ERR_FULL && code != ERR_BUSY) world_fail(w, "publish: %s", e.text);
    if (code != ERR_OK) return;
    msg->accepted = true;
    check_result(w, &p, msg, number);
    for (int q = 0; q < QUEUES; q++)
        if (p.goes[q] && msg->result != PUBLISH_DUPLICATE) taken(w, number, q);
    if (p.to_latest && msg->result == PUBLISH_OK) latest_add(w, msg->value);
}
