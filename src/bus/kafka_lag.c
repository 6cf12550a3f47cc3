// How far behind a group is, as far as this process knows: of the partitions assigned to it, the end (as the last fetch
// told it, so nothing is asked here) minus what was settled.
#include "bus/kafka_group.h"

#include <string.h>

static void add_partition(struct bus_queue_stats *q, struct kafka_partition *p) {
    int64_t low, high;
    struct list_node *n = list_first(&p->unsettled);
    if (n) {
        int64_t at = rd_kafka_message_timestamp(LIST_ITEM(n, struct kafka_event, unsettled)->m, NULL);
        if (at > 0 && (!q->oldest_at_ms || at < q->oldest_at_ms)) q->oldest_at_ms = at;
    }
    if (p->next < 0 || rd_kafka_get_watermark_offsets(p->member->rk, p->topic, p->number, &low, &high)) return;
    if (high > p->next) q->ready += (uint64_t)(high - p->next);
}

static void add_member(struct bus_queue_stats *q, struct kafka_member *m) {
    LIST_EACH(&m->partitions, at) add_partition(q, LIST_ITEM(at, struct kafka_partition, node));
    q->unacked += m->in_hand;
    q->ready += m->events.len - m->in_hand;
    q->parked += m->parked;
    q->delivered += m->delivered;
    q->acked += m->acked;
}

static bool seen_before(struct kafka *k, const struct kafka_member *m) {
    LIST_EACH(&k->members, at) {
        const struct kafka_member *other = LIST_ITEM(at, struct kafka_member, node);
        if (other == m) return false;
        if (!other->ended && strcmp(other->group, m->group) == 0) return true;
    }
    return false;
}

void kafka_each_queue(struct bus *b, void (*each)(void *arg, const struct bus_queue_stats *q), void *arg) {
    struct kafka *k = (struct kafka *)b;
    LIST_EACH(&k->members, at) {
        struct kafka_member *m = LIST_ITEM(at, struct kafka_member, node);
        if (m->ended || seen_before(k, m)) continue;
        struct bus_queue_stats q = {.name = m->group};
        for (struct list_node *n = at; n; n = list_next(&k->members, n)) {
            struct kafka_member *same = LIST_ITEM(n, struct kafka_member, node);
            if (!same->ended && strcmp(same->group, m->group) == 0) add_member(&q, same);
        }
        each(arg, &q);
    }
}
