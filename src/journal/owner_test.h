// For tests: a small owner of a journal, as the engine is one: items are published, acked, moved by compaction.
// It knows what was durable, and after a crash checks what came back.
#ifndef BARID_JOURNAL_OWNER_TEST_H
#define BARID_JOURNAL_OWNER_TEST_H

#include "base/test.h"
#include "journal/journal.h"
#include "sim/io_sim.h"

#define OWNER_ITEMS 20000
#define OWNER_DIR   "journal"

enum { OWNER_PUBLISH = 1, OWNER_ACK, OWNER_MOVED };

struct owner_item {
    bool published, acked;
    jpos published_at, acked_at;
    struct journal_ref ref;
    bool seen_live, seen_acked; // by the replay at hand
};

struct owner {
    struct io_sim *sim;
    struct journal *j;
    struct journal_options options;
    struct error error;
    uint32_t count, lowest_live;
    uint64_t order, replayed_order; // every record carries the count of appends so far
    uint64_t durable_order;         // the newest order known to be durable
    uint64_t orders_begun;          // the newest order in the batch that is out
    jpos durable;
    struct owner_item items[OWNER_ITEMS];
};

static inline struct owner *owner_new(struct io_sim *sim) {
    struct owner *o = calloc(1, sizeof *o);
    assert_non_null(o);
    o->sim = sim;
    o->options = (struct journal_options){.dir = OWNER_DIR, .segment_bytes = 64 << 10, .low_water_bytes = 1};
    return o;
}

static inline enum err owner_replay(void *arg, const struct journal_record *r, struct error *e) {
    (void)e;
    struct owner *o = arg;
    uint64_t order;
    uint32_t item;
    assert_true(r->length >= 12);
    memcpy(&order, r->payload, 8);
    memcpy(&item, r->payload + 8, 4);
    for (uint32_t i = 12; i < r->length; i++) assert_int_equal(r->payload[i], (uint8_t)(order + i));
    assert_true(order > o->replayed_order); // the order of appending
    if (order > o->durable_order) assert_true(order == o->replayed_order + 1 || o->replayed_order < o->durable_order);
    if (order > o->durable_order + 1) assert_int_equal(order, o->replayed_order + 1); // no holes behind the durable
    o->replayed_order = order;
    struct owner_item *it = &o->items[item];
    if (r->kind == OWNER_ACK) {
        assert_true(r->flags & JOURNAL_EPHEMERAL);
        if (it->seen_live) journal_release(o->j, &it->ref);
        it->seen_live = false;
        it->seen_acked = true;
        return ERR_OK;
    }
    assert_false(it->seen_acked);
    if (it->seen_live) journal_release(o->j, &it->ref);
    it->seen_live = true;
    it->ref = r->ref;
    return ERR_OK;
}

static inline enum err owner_open(struct owner *o) {
    for (uint32_t i = 0; i < o->count; i++) o->items[i].seen_live = o->items[i].seen_acked = false;
    o->replayed_order = 0;
    return journal_open(&o->j, io_sim_io(o->sim), &o->options, owner_replay, o, &o->error);
}

// After an open: is what must be there there, and what must not be not? Then takes what is there for the truth.
static inline void owner_verify(struct owner *o) {
    for (uint32_t i = 0; i < o->count; i++) {
        struct owner_item *it = &o->items[i];
        bool published = it->published && it->published_at <= o->durable;
        bool acked = it->acked && it->acked_at <= o->durable;
        if (published && !it->acked && !it->seen_live) fail_msg("item %u was durable and is lost", i);
        if (acked && it->seen_live) fail_msg("item %u was acked durably and is back", i);
        if (!it->published && it->seen_live) fail_msg("item %u came from nowhere", i);
        it->published = it->seen_live || it->published;
        it->acked = it->published && !it->seen_live;
        it->published_at = it->acked_at = 0;
    }
    if (o->replayed_order > o->order) fail_msg("records from nowhere");
    o->order = o->durable_order = o->replayed_order > o->durable_order ? o->replayed_order : o->durable_order;
    o->durable = journal_durable(o->j);
}

static inline enum err owner_append(struct owner *o, uint8_t kind, unsigned flags, uint32_t item, uint32_t refers,
                                    uint32_t extra, struct journal_ref *ref, jpos *pos) {
    static uint8_t body[2 << 20];
    uint64_t order = o->order + 1;
    memcpy(body, &order, 8);
    memcpy(body + 8, &item, 4);
    for (uint32_t i = 12; i < 12 + extra; i++) body[i] = (uint8_t)(order + i);
    struct iovec parts[2] = {{body, 5}, {body + 5, 7 + extra}};
    enum err err = journal_append(o->j, kind, flags, refers, parts, 2, ref, pos);
    if (err == ERR_OK) o->order = order;
    return err;
}

static inline enum err owner_publish(struct owner *o, uint32_t extra) {
    assert_true(o->count < OWNER_ITEMS);
    struct owner_item it = {.published = true};
    enum err err = owner_append(o, OWNER_PUBLISH, 0, o->count, 0, extra, &it.ref, &it.published_at);
    if (err == ERR_OK) o->items[o->count++] = it;
    return err;
}

static inline bool owner_live(const struct owner *o, uint32_t item) {
    return item < o->count && o->items[item].published && !o->items[item].acked;
}

static inline enum err owner_ack(struct owner *o, uint32_t item) {
    struct owner_item *it = &o->items[item];
    enum err err =
        owner_append(o, OWNER_ACK, JOURNAL_URGENT | JOURNAL_EPHEMERAL, item, it->ref.segment, 0, NULL, &it->acked_at);
    if (err != ERR_OK) return err;
    it->acked = true;
    journal_release(o->j, &it->ref);
    return ERR_OK;
}

static inline enum err owner_batch(struct owner *o) {
    struct journal_batch *b = journal_batch_begin(o->j);
    if (b == NULL) return ERR_OK;
    enum err err = journal_batch_write(b, &o->error);
    if (err != ERR_OK) return err;
    journal_batch_end(o->j, b);
    o->durable = journal_durable(o->j);
    if (o->durable == journal_appended(o->j)) o->durable_order = o->order;
    return ERR_OK;
}

static inline enum err owner_flush(struct owner *o) {
    enum err err = ERR_OK;
    while (err == ERR_OK && journal_durable(o->j) < journal_appended(o->j)) err = owner_batch(o);
    return err;
}

static inline enum err owner_move(void *arg, const struct journal_record *r, struct error *e) {
    (void)e;
    struct owner *o = arg;
    uint32_t item;
    memcpy(&item, r->payload + 8, 4);
    struct owner_item *it = &o->items[item];
    bool same = it->ref.segment == r->ref.segment && it->ref.offset == r->ref.offset;
    if (r->kind == OWNER_ACK || !owner_live(o, item) || !same) return ERR_OK;
    struct journal_ref ref, old = it->ref;
    jpos pos;
    enum err err = owner_append(o, OWNER_MOVED, JOURNAL_URGENT, item, 0, r->length - 12, &ref, &pos);
    if (err != ERR_OK) return err;
    it->ref = ref;
    journal_release(o->j, &old);
    return ERR_OK;
}

static inline enum err owner_compact(struct owner *o) {
    uint32_t segment = journal_compact_next(o->j);
    return segment == 0 ? ERR_OK : journal_scan(o->j, segment, owner_move, o, &o->error);
}

// The machine loses its power, or only the process ends; then the journal is opened again and looked at.
static inline void owner_crash(struct owner *o, bool power) {
    if (power) io_sim_crash(o->sim);
    else io_sim_kill(o->sim);
    journal_close(o->j);
    o->j = NULL;
}

static inline void owner_reopen(struct owner *o) {
    enum err err = owner_open(o);
    if (err != ERR_OK) fail_msg("cannot open again: %s", o->error.text);
    owner_verify(o);
}

static inline void owner_free(struct owner *o) {
    journal_close(o->j);
    free(o);
}

#endif
