// Bodies that the owner keeps: how many stored messages carry each ticket. That one is gone is told after the record
// that says so was appended, with the flush that released the message's own record.
#include "engine/internal.h"

static void tell(struct engine *e, const uint8_t ticket[CLAIM_TICKET], int change) {
    if (e->claim) e->claim(e->claim_arg, ticket, change);
}

uint32_t claim_new(struct engine *e, const uint8_t ticket[CLAIM_TICKET]) {
    uint32_t h = slab_new(&e->claims);
    memcpy(slab_at(&e->claims, h), ticket, CLAIM_TICKET);
    tell(e, ticket, 1);
    return h;
}

void claim_drop(struct engine *e, uint32_t h) {
    const uint8_t *ticket = slab_at(&e->claims, h);
    if (e->replaying) {
        tell(e, ticket, -1);
    } else {
        ROOM_FOR_ONE(e->unclaimed, e->n_unclaimed, e->cap_unclaimed);
        memcpy(e->unclaimed[e->n_unclaimed++].bytes, ticket, CLAIM_TICKET);
    }
    slab_free(&e->claims, h);
}

void claims_flushed(struct engine *e) {
    for (uint32_t i = 0; i < e->n_unclaimed; i++) tell(e, e->unclaimed[i].bytes, -1);
    e->n_unclaimed = 0;
}
