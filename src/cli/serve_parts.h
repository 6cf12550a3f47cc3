// The parts that store and carry for `barid serve`: which they are (--database, --bus, --data-store), whether they make
// sense together, and opening and closing them.
//
//   SQLite, the embedded bus, files: below --data, and this server is the only one
//   PostgreSQL, Kafka or AMQP, PostgreSQL: somewhere else, for any number of servers, and --data is not needed
//
// A server with anything of its own beside PostgreSQL is the only one on that database (chat/servers.h).
#ifndef BARID_CLI_SERVE_PARTS_H
#define BARID_CLI_SERVE_PARTS_H

#include "base/error.h"
#include "base/loop.h"
#include "cli/config.h"

#include <stdbool.h>
#include <stdint.h>

struct bus;
struct claims;
struct database;
struct datastore;
struct io;
struct servers;

#define PARTS_URL 4096

struct serve_parts {
    const struct config *config;
    char database_url[PARTS_URL], bus_url[PARTS_URL];
    const char *bus_prefix;
    bool postgres, embedded, files; // which database, bus and data store
    uint64_t low_water, bus_low_water;

    struct loop *loop;
    struct io *io;
    int lock_fd;
    struct database *database;
    struct servers *servers; // PostgreSQL
    struct datastore *datastore;
    struct claims *claims; // the embedded bus
    struct bus *bus;
    void (*opened)(void *arg, enum err err, const struct error *e);
    void *arg;
    struct loop_post post;
};

// False after telling what makes no sense.
bool serve_parts_settings(struct serve_parts *p, const struct config *c, uint64_t low_water);
bool serve_parts_local(const struct serve_parts *p); // something is kept below --data
// `opened` from a turn of the loop. The struct is the caller's, and stays where it is.
enum err serve_parts_open(struct serve_parts *p, struct loop *loop,
                          void (*opened)(void *arg, enum err err, const struct error *e), void *arg, struct error *e);
void serve_parts_close(struct serve_parts *p);       // after chat_free
void serve_parts_free(struct serve_parts *p);        // after the loop has been freed
void serve_parts_print(const struct serve_parts *p); // the lines of "ready"

#endif
