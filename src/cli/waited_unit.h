// A unit that a command waits for, on a loop that has nothing else to do.
#ifndef BARID_CLI_WAITED_UNIT_H
#define BARID_CLI_WAITED_UNIT_H

#include "base/error.h"
#include "database/database.h"

#include <stdbool.h>

struct waited_unit { // alone, or first in what its run() works with
    struct db_unit unit;
    struct loop *loop;
    enum err err;
};

enum err unit_wait(struct waited_unit *w, struct loop *loop, struct database *d,
                   enum err (*run)(struct db *db, struct db_unit *u), bool read_only, struct error *e);

#endif
