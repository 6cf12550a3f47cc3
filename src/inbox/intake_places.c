// From which offset on: what a bus with places asks when it gives us partitions of a topic.
//
// The question goes to the database behind whatever is being stored, in the same lane, so the answer counts it in. An
// offset that the bus no longer has (the topic was made again, or its events have run out) makes the bus begin at its
// first event; the first delivery below what we said is how we learn of it.
//
// And how far the stored offset may go. An event that cannot be stored is parked on the bus, and until the bus has
// confirmed that, the offset stays below it: else a crash in between would leave it out for good. Then a mark goes into
// the line of what is to be stored, and takes the offset past it, and past what came meanwhile.
#include "inbox/intake_internal.h"

#include "base/assert.h"
#include "base/backoff.h"
#include "base/io.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define KEY_BYTES 512

static const struct backoff ask_backoff = {.base_ms = 200, .cap_ms = 5000, .multiplier = 2.0};

// ---- partitions that are ours

static size_t key_of(const struct bus_place *p, char out[static KEY_BYTES]) {
    size_t n = strnlen(p->topic, KEY_BYTES - sizeof p->partition);
    memcpy(out, &p->partition, sizeof p->partition);
    memcpy(out + sizeof p->partition, p->topic, n);
    return n + sizeof p->partition;
}

static void partition_free(struct intake *i, struct partition *q) {
    struct list_node *n;
    while (q && (n = list_pop_front(&q->parking)) != NULL) {
        free(LIST_ITEM(n, struct parking, node));
        i->parking_n--;
    }
    free(q);
}

static struct partition *partition_of(struct intake *i, const struct bus_place *p) {
    if (p->partition < 0 || !p->topic) return NULL;
    char key[KEY_BYTES];
    return map_get(&i->partitions, key, key_of(p, key));
}

static void remove_partition(struct intake *i, const struct bus_place *p) {
    char key[KEY_BYTES];
    size_t n = key_of(p, key);
    partition_free(i, map_remove(&i->partitions, key, n));
}

static struct partition *add_partition(struct intake *i, const struct bus_place *p, int64_t from) {
    char key[KEY_BYTES];
    size_t n = key_of(p, key);
    struct partition *q = calloc(1, sizeof *q + n);
    if (!q) die("no memory for a partition");
    q->from = from;
    q->last = -1;
    list_init(&q->parking);
    q->key_length = n;
    memcpy(q->key, key, n);
    if (!map_put(&i->partitions, q->key, n, q)) die("no memory for a partition");
    return q;
}

bool intake_came(struct intake *i, const struct bus_place *place) {
    struct partition *q = partition_of(i, place);
    if (!q) return false;
    q->last = place->offset;
    if (q->begun) return false;
    q->begun = true;
    return q->from >= 0 && place->offset < q->from;
}

// ---- events that the bus parks

void intake_parking(struct intake *i, const struct bus_place *place) {
    struct partition *q = partition_of(i, place);
    if (place->partition < 0) return;
    if (!q) q = add_partition(i, place, -1); // beyond PARTITIONS_MAX
    struct parking *p = malloc(sizeof *p);
    if (!p) die("no memory for a partition");
    p->offset = place->offset;
    struct list_node *where = &q->parking.head; // mostly the last
    while (where->prev != &q->parking.head && LIST_ITEM(where->prev, struct parking, node)->offset > p->offset)
        where = where->prev;
    list_insert_before(&p->node, where);
    if (q->last < place->offset) q->last = place->offset;
    i->parking_n++;
}

int64_t intake_hold_of(struct intake *i, const struct taken *t) {
    if (!i->parking_n || t->partition < 0) return INT64_MAX;
    struct partition *q = partition_of(i, &(struct bus_place){.topic = t->place_topic, .partition = t->partition});
    struct list_node *first = q ? list_first(&q->parking) : NULL;
    return first ? LIST_ITEM(first, struct parking, node)->offset : INT64_MAX;
}

static void mark(struct intake *i, struct partition *q, const struct bus_place *place) {
    struct taken *t = taken_mark(&(struct bus_place){place->topic, place->partition, q->last}, q->parked);
    t->reset = !q->begun && q->from >= 0 && q->last < q->from;
    q->marked = q->begun = true;
    intake_collect(i, t);
}

void intake_parked(void *arg, struct bus_subscription *s, const struct bus_place *place) {
    struct intake *i = arg;
    struct partition *q = partition_of(i, place);
    if (!q) return;
    LIST_EACH_SAFE(&q->parking, at) {
        struct parking *p = LIST_ITEM(at, struct parking, node);
        if (p->offset != place->offset) continue;
        list_remove(at);
        free(p);
        i->parking_n--;
        q->parked++;
    }
    if (q->parked && !q->marked) mark(i, q, place);
}

void intake_mark_stored(struct intake *i, const struct taken *t) {
    struct bus_place place = {.topic = t->place_topic, .partition = t->partition};
    struct partition *q = t->revoked ? NULL : partition_of(i, &place);
    if (!q) return;
    q->marked = false;
    q->parked -= t->parked;
    if (q->parked) mark(i, q, &place); // more of them since
}

// ---- the question

static struct db_sql offsets_sql = {
    .text = "select topic, partition, next_offset from barid.offsets where consumer = ?1",
};

static void asked_free(struct asked *a) {
    loop_timer_stop(a->i->options.loop, &a->again);
    list_remove(&a->node);
    for (size_t k = 0; k < a->n; k++) free(a->topics[k]);
    free(a->topics);
    free(a->places);
    free(a);
}

static enum err ask_run(struct db *db, struct db_unit *u) {
    struct asked *a = (struct asked *)u;
    for (size_t k = 0; k < a->n; k++) a->places[k].offset = -1;
    struct db_stmt *s = db_prepare(db, &offsets_sql);
    db_bind_text(s, 1, a->i->options.consumer);
    int row;
    while ((row = db_step(s)) == DB_ROW) {
        const char *topic = db_text(s, 0, NULL);
        int64_t number = db_int(s, 1), offset = db_int(s, 2);
        for (size_t k = 0; k < a->n; k++)
            if (a->places[k].partition == number && strcmp(a->topics[k], topic) == 0) a->places[k].offset = offset;
    }
    return (enum err) - row;
}

static void answer(struct asked *a) {
    struct intake *i = a->i;
    size_t n = 0;
    for (size_t k = 0; k < a->n; k++) { // those that were taken away meanwhile have partition -1
        if (a->places[k].partition < 0) continue;
        remove_partition(i, &a->places[k]);
        // Beyond the bound only the notice of a reset is lost.
        if (i->partitions.len < PARTITIONS_MAX) add_partition(i, &a->places[k], a->places[k].offset);
        a->places[n++] = a->places[k];
    }
    if (n > 0) bus_assigned(i->subscription, a->places, n);
}

static void ask(struct asked *a);

static void ask_done(struct db_unit *u, enum err err) {
    struct asked *a = (struct asked *)u;
    struct intake *i = a->i;
    if (!i->subscription || err == ERR_OK) {
        if (i->subscription) answer(a);
        asked_free(a);
        return;
    }
    log_event(LOG_WARN, "offsets_unknown", "consumer", i->options.consumer, "error", a->unit.error.text, NULL);
    loop_timer_start(i->options.loop, &a->again, backoff_delay(&ask_backoff, i->options.io, a->failures++, 50));
}

static void ask_again(struct loop_timer *t) { ask(LIST_ITEM(t, struct asked, again)); }

static void ask(struct asked *a) {
    a->unit = (struct db_unit){.run = ask_run, .done = ask_done, .lane = INTAKE_LANE, .frees_space = true};
    enum err err = database_submit(a->i->options.database, &a->unit);
    if (err != ERR_OK) ask_done(&a->unit, err);
}

void intake_assigned(void *arg, struct bus_subscription *s, const struct bus_place *places, size_t n) {
    struct intake *i = arg;
    if (n == 0) return;
    struct asked *a = calloc(1, sizeof *a);
    if (!a || !(a->places = calloc(n, sizeof *a->places)) || !(a->topics = calloc(n, sizeof *a->topics)))
        die("no memory for partitions");
    a->i = i;
    a->n = n;
    a->again.fn = ask_again;
    for (size_t k = 0; k < n; k++) {
        if (!(a->topics[k] = strdup(places[k].topic))) die("no memory for partitions");
        a->places[k] = (struct bus_place){.topic = a->topics[k], .partition = places[k].partition, .offset = -1};
    }
    list_push_back(&i->asked, &a->node);
    ask(a);
}

void intake_revoked(void *arg, struct bus_subscription *s, const struct bus_place *places, size_t n) {
    struct intake *i = arg;
    for (size_t k = 0; k < n; k++) {
        remove_partition(i, &places[k]);
        intake_give_up(i, &places[k]);
        LIST_EACH(&i->asked, at) {
            struct asked *a = LIST_ITEM(at, struct asked, node);
            for (size_t j = 0; j < a->n; j++)
                if (a->places[j].partition == places[k].partition && strcmp(a->topics[j], places[k].topic) == 0)
                    a->places[j].partition = -1;
        }
    }
}

void intake_places_free(struct intake *i) {
    struct list_node *n;
    while ((n = list_first(&i->asked)) != NULL) asked_free(LIST_ITEM(n, struct asked, node));
    size_t at = 0;
    struct partition *q;
    while ((q = map_next(&i->partitions, &at)) != NULL) partition_free(i, q);
    map_release(&i->partitions);
}
