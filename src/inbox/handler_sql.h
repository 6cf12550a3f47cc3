// What the files of the SQL function share: handler_sql.c calls it, handler_sql_look.c looks it up, handler_sql_doubt.c
// finds out whose fault a failure is.
#ifndef BARID_INBOX_HANDLER_SQL_H
#define BARID_INBOX_HANDLER_SQL_H

#include "base/list.h"
#include "database/database.h"
#include "inbox/handler_internal.h"

#define SQL_BATCH      256 // events a transaction
#define SQL_NAME_BYTES 64  // as PostgreSQL's, with the NUL
#define SQL_TEXT_BYTES 1024
#define SQL_SHAPES     4 // of a function: how it wants the payload

struct sql_event {
    struct list_node node; // in its slot's queue
    struct handler_event event;
};

// One look at the function in the catalogue.
struct sql_look {
    struct db_unit unit; // first
    struct sql_handler *h;
    struct slot *slot; // whose event failed; NULL: at the start
    char why[ERROR_TEXT_MAX];
    int shape; // -1: none fits
};

// A transaction beside the one that failed.
struct sql_probe {
    struct db_unit unit; // first
    struct slot *slot;
};

struct slot {
    struct db_unit unit; // first
    struct sql_handler *h;
    struct list queue;
    struct sql_event *batch[SQL_BATCH];
    size_t n;
    uint32_t limit; // events the next batch may have
    uint32_t alone; // so many go one by one
    bool running;   // a batch, or the question whose fault its failure is
    struct db_sql *call;
    char why[ERROR_TEXT_MAX]; // the batch failed
    struct sql_look look;
    struct sql_probe probe;
    int64_t suspect;  // an event that failed alone as if the database were away …
    uint32_t strikes; // … so often while it was not
    bool probed;      // just before the batch, and the database was well
};

struct sql_handler {
    struct handler base; // first
    char schema[SQL_NAME_BYTES], function[SQL_NAME_BYTES];
    char timeout[16];
    struct {
        char text[SQL_TEXT_BYTES];
        struct db_sql sql;
    } calls[SQL_SHAPES];
    struct db_sql *call; // one of them, once the function was looked up
    struct sql_look look;
    struct loop_idle idle;
    uint32_t careful; // so many batches are to go one at a time
    uint32_t turn;    // the slot that is asked first
    uint32_t slots_n;
    bool closing;
    struct slot slots[];
};

// handler_sql.c: what becomes of a slot's batch
void sql_refuse(struct slot *s, const char *why); // of one event: an attempt is spent
void sql_again(struct slot *s);                   // as soon as may be
void sql_away(struct slot *s, const char *why);   // when the other side is back
void sql_run(struct slot *s);

// handler_sql_look.c
void sql_look_at_start(struct handler *base);
void sql_look_again(struct slot *s); // one event failed: is there still such a function? Goes on with the slot

// handler_sql_doubt.c
bool sql_means_away(enum err err);
void sql_doubt(struct slot *s);        // the batch failed as if the database were away. Goes on with the slot
bool sql_probe_before(struct slot *s); // true: it goes on with the slot

#endif
