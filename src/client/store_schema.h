// The tables of a profile's client.db, as numbered migrations: user_version is how many have been applied.
#ifndef BARID_CLIENT_STORE_SCHEMA_H
#define BARID_CLIENT_STORE_SCHEMA_H

extern const char *const store_migrations[]; // ended by NULL; never change one that was released
extern const int store_migration_count;

#endif
