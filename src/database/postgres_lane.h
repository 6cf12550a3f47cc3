// A connection that runs units one after the other. See postgres_lane.c.
#ifndef BARID_DATABASE_POSTGRES_LANE_H
#define BARID_DATABASE_POSTGRES_LANE_H

#include "database/driver.h"
#include "database/postgres_health.h"

struct postgres_db;

// What lanes know together.
struct postgres_shared {
    struct database_options options;
    struct postgres_health health;
    pthread_mutex_t mutex; // guards what follows, and each lane's `connected`
    uint64_t again;
    bool unnamed; // prepared statements do not survive
};

struct postgres_lane {
    struct postgres_shared *shared;
    enum db_role role;
    struct postgres_db *db; // the lane's thread's; NULL: not connected
    bool connected;         // what others know of it
};

// Runs a unit to its end; the error is the unit's.
enum err postgres_lane_run(struct postgres_lane *l, struct db_unit *u, unsigned *commits);
void postgres_lane_disconnect(struct postgres_lane *l);

#endif
