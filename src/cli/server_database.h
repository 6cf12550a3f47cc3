// What the server's database is made of: every part's tables, in the order of their numbers. For the server, and for
// tools that work on the database while none runs.
#ifndef BARID_CLI_SERVER_DATABASE_H
#define BARID_CLI_SERVER_DATABASE_H

#include "database/database.h"

extern const struct migration server_migrations[];          // SQLite
extern const struct migration server_postgres_migrations[]; // PostgreSQL

#endif
