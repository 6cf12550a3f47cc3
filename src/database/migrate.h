// Applying the numbered migrations that a database lacks. See migrate.c.
#ifndef BARID_DATABASE_MIGRATE_H
#define BARID_DATABASE_MIGRATE_H

#include "database/driver.h"

// On the connection before its thread starts; tells `each` (may be NULL) what was applied.
enum err migrate(struct db *db, const struct migration *migrations, database_migrated_fn *each, void *arg,
                 struct error *e);

#endif
