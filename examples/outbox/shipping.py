#!/usr/bin/python3
"""The shipping service: a webhook that `barid receive` calls for every order, and a list to look at.

    shipping.py ADDR:PORT FILE

It may be asked twice for one event: when its answer was lost on the way, say. So it keeps the event's id, and the second
time does nothing. What it ships is in a SQLite file.
"""
import http.server
import json
import sqlite3
import sys

address, path = sys.argv[1], sys.argv[2]


def open_store():
    store = sqlite3.connect(path)
    store.execute("create table if not exists shipment (event_id text primary key, parcel text)")
    return store


class Shipping(http.server.BaseHTTPRequestHandler):
    def answer(self, status, text=""):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            order = json.loads(body)
            parcel = f"{order['quantity']} x {order['item']} for {order['customer']}"
        except (ValueError, KeyError, TypeError) as e:
            self.answer(422, f"no order: {e}")  # will never be one: parked at once
            return
        with open_store() as store:
            store.execute("insert or ignore into shipment values (?, ?)", (self.headers["ce-id"], parcel))
        self.answer(204)

    def do_GET(self):
        parcels = open_store().execute("select parcel from shipment order by rowid").fetchall()
        self.answer(200, "".join(parcel + "\n" for parcel, in parcels))

    def log_message(self, *_):
        pass


host, port = address.rsplit(":", 1)
server = http.server.ThreadingHTTPServer((host, int(port)), Shipping)
print("ready", flush=True)
server.serve_forever()
