/* The order service in C: an order and the event that tells of it, in one transaction.
 *
 *     order_service DATABASE CUSTOMER ITEM QUANTITY
 *
 * It knows neither who wants to hear of orders nor whether the broker is there. */
#include <barid.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>

/* The order's row, and the event's payload as PostgreSQL writes it. */
static PGresult *insert_order(PGconn *connection, char **values) {
    return PQexecParams(connection,
                        "insert into orders (customer, item, quantity) values ($1, $2, $3) returning order_id, "
                        "json_build_object('order_id', order_id, 'customer', customer, 'item', item, "
                        "'quantity', quantity)::text",
                        3, NULL, (const char *const *)values, NULL, NULL, 0);
}

static int store_event(PGconn *connection, const char *order_id, const char *payload) {
    barid_outbox *outbox = barid_outbox_new();
    barid_event *event = barid_event_new("order_placed", order_id, payload, strlen(payload));
    barid_result result = outbox && event ? barid_outbox_store(outbox, connection, event) : BARID_NO_MEMORY;
    if (result == BARID_STORED) printf("order %s, event %s\n", order_id, barid_outbox_event_id(outbox));
    else fprintf(stderr, "the event is not stored: %s\n", outbox ? barid_outbox_error(outbox) : "out of memory");
    barid_event_free(event);
    barid_outbox_free(outbox);
    return result == BARID_STORED;
}

static int run(PGconn *connection, const char *sql) {
    PGresult *answer = PQexec(connection, sql);
    int ok = PQresultStatus(answer) == PGRES_COMMAND_OK;
    PQclear(answer);
    return ok;
}

static int place_order(PGconn *connection, char **values) {
    if (!run(connection, "begin")) return 0;
    PGresult *order = insert_order(connection, values);
    int ok = PQresultStatus(order) == PGRES_TUPLES_OK &&
             store_event(connection, PQgetvalue(order, 0, 0), PQgetvalue(order, 0, 1));
    PQclear(order);
    return run(connection, ok ? "commit" : "rollback") && ok;
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "order_service DATABASE CUSTOMER ITEM QUANTITY\n");
        return 2;
    }
    PGconn *connection = PQconnectdb(argv[1]);
    int ok = PQstatus(connection) == CONNECTION_OK && place_order(connection, argv + 2);
    if (!ok) fprintf(stderr, "no order was placed: %s\n", PQerrorMessage(connection));
    PQfinish(connection);
    return ok ? 0 : 1;
}
