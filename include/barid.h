/* libbarid: barid from a C program. Link with -lbarid (pkg-config barid); it needs libpq.
 *
 * The outbox: an event is stored in the transaction of the change it tells of, so that either both happen or neither
 * does. `barid relay` publishes it afterwards. The database needs barid's schema once: `barid migrate`.
 *
 *     barid_outbox *outbox = barid_outbox_new();
 *     PQclear(PQexec(connection, "begin"));
 *     PQclear(PQexec(connection, "insert into orders …"));
 *     barid_event *event = barid_event_new("orders", "order-17", payload, length);
 *     if (barid_outbox_store(outbox, connection, event) == BARID_STORED) PQclear(PQexec(connection, "commit"));
 *     else fprintf(stderr, "%s\n", barid_outbox_error(outbox)), PQclear(PQexec(connection, "rollback"));
 *     barid_event_free(event);
 *     barid_outbox_free(outbox);
 *
 * An outbox and an event belong to one thread at a time. Texts are UTF-8. Nothing here starts threads, keeps
 * connections or writes anywhere but to the connection it is given.
 */
#ifndef BARID_H
#define BARID_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define BARID_API __attribute__((visibility("default")))
#else
#define BARID_API
#endif

struct pg_conn; /* libpq's PGconn */

typedef struct barid_event barid_event;
typedef struct barid_outbox barid_outbox;

/* After every answer but BARID_BROKEN the caller's transaction goes on as if the call had not been made, but for the
 * event that it stored. */
typedef enum barid_result {
    BARID_STORED,         /* it will be published once the transaction commits */
    BARID_MARKED,         /* it is not valid, and was stored as parked: `barid parked list` shows it with the error */
    BARID_INVALID,        /* it is not valid, and nothing was stored */
    BARID_FAILED,         /* not stored after all attempts: the event is not to blame, the text says what is */
    BARID_NOT_MIGRATED,   /* the database has no outbox: `barid migrate` makes it */
    BARID_NO_TRANSACTION, /* no transaction is open on the connection, or it is busy with something else */
    BARID_BROKEN,         /* the connection is lost, or the transaction had failed already: roll back and begin anew */
    BARID_NO_MEMORY
} barid_result;

/* "stored", "marked", …: lower case, for logs. */
BARID_API const char *barid_result_name(barid_result result);

/* ---- events */

/* Copies everything. `topic`: 1 to 249 of the characters A-Z a-z 0-9 . _ -. `key`: events of one key are published in the
 * order in which they were committed; at most 255 bytes; NULL: no order. What is wrong with it barid_outbox_store says.
 * NULL: no memory. */
BARID_API barid_event *barid_event_new(const char *topic, const char *key, const void *payload, size_t length);
BARID_API void barid_event_free(barid_event *event); /* NULL is fine */
/* A header travels with the event: a header of Kafka's or of AMQP's. Of two of one name the later counts. */
BARID_API barid_result barid_event_header(barid_event *event, const char *name, const char *value);
/* An id of the caller's, a UUID in text, by which receivers know the event again. NULL (or never called): a new one. */
BARID_API barid_result barid_event_id(barid_event *event, const char *uuid);

/* ---- the outbox */

/* NULL: no memory. */
BARID_API barid_outbox *barid_outbox_new(void);
BARID_API void barid_outbox_free(barid_outbox *outbox);
/* How often storing is tried when it fails for a while (a lock, a time-out, no room), 1 to 100; 3 otherwise. */
BARID_API void barid_outbox_attempts(barid_outbox *outbox, unsigned attempts);
/* Between two attempts: a random time below this, doubled each time, at most ten seconds; 50 otherwise. */
BARID_API void barid_outbox_backoff_ms(barid_outbox *outbox, unsigned ms);
/* An event that is not valid is stored all the same, marked so that it is never published by itself: BARID_MARKED. */
BARID_API void barid_outbox_mark_invalid(barid_outbox *outbox, int yes);

/* Stores the event in the transaction that is open on `connection`. Each attempt has a savepoint ("barid_store") around
 * it. That makes three round trips, and a subtransaction an event: who stores thousands in one transaction calls
 * `select barid.publish(…)` himself. Blocks until it is answered. */
BARID_API barid_result barid_outbox_store(barid_outbox *outbox, struct pg_conn *connection, const barid_event *event);

/* Of the last call of barid_outbox_store, until the next: the id of what was stored or marked, "" otherwise; what was
 * wrong, "" when it was stored. */
BARID_API const char *barid_outbox_event_id(const barid_outbox *outbox);
BARID_API const char *barid_outbox_error(const barid_outbox *outbox);

#ifdef __cplusplus
}
#endif

#endif
