// Leases on buckets: what lease.c (on the loop) asks of the database, and lease_unit.c (on its threads) answers.
#ifndef BARID_OUTBOX_LEASE_H
#define BARID_OUTBOX_LEASE_H

#include "outbox/internal.h"

#define LEASE_CHANNEL "barid_leases" // the payload is the queue; somebody came, went or gave something back

struct lease_unit {
    struct db_unit unit; // first
    struct leases *l;
    const char *queue, *name, *settings; // settings: may be NULL
    char away[ERROR_TEXT_MAX];           // "": it is not
    struct id me;
    uint32_t lease_ms;
    uint64_t keep, give_back; // sets of buckets
    bool leave;               // give_back is all there is, and we are no longer a member
    bool no_more;             // takes none
    bool announce;            // the first time: others hear of us
    uint64_t sent_ns;         // by the monotonic clock, before it was submitted
    // answers
    uint64_t kept, gained;
    uint32_t members;
    int awake; // what our row says; -1: nothing yet
};

enum err lease_run(struct db *db, struct db_unit *u);
// How many buckets a member may have: all together get all of them, none is left over.
uint32_t lease_share(uint32_t members);
uint32_t lease_count(uint64_t buckets);

#endif
