#!/usr/bin/python3
"""The order service in Python: an order and the event that tells of it, in one transaction.

    order_service.py DATABASE CUSTOMER ITEM QUANTITY

It knows neither who wants to hear of orders nor whether the broker is there. Needs psycopg2 (Debian: python3-psycopg2).
"""
import json
import sys

import psycopg2


def place_order(connection, customer, item, quantity):
    with connection, connection.cursor() as cursor:  # commits, or rolls back both
        cursor.execute("insert into orders (customer, item, quantity) values (%s, %s, %s) returning order_id",
                       (customer, item, quantity))
        order_id = cursor.fetchone()[0]
        payload = json.dumps({"order_id": order_id, "customer": customer, "item": item, "quantity": quantity})
        cursor.execute("select barid.publish('order_placed', %s, %s)", (str(order_id), payload))
        return order_id, cursor.fetchone()[0]


if len(sys.argv) != 5:
    sys.exit("order_service.py DATABASE CUSTOMER ITEM QUANTITY")
order, event = place_order(psycopg2.connect(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
print(f"order {order}, event {event}")
