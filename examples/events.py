#!/usr/bin/python3
"""Shows the events of the messaging service as they happen: they are ordinary AMQP messages.

    examples/events.py [amqp://guest:guest@127.0.0.1:5672/]

A queue of our own is bound to the topic exchange barid.events. Its name ends with the connection (exclusive), so what
happens while nobody looks is not kept; a durable queue keeps it. Needs pika (Debian: python3-pika).
"""
import json
import sys

import pika

URL = sys.argv[1] if len(sys.argv) > 1 else "amqp://guest:guest@127.0.0.1:5672/"


def show(channel, method, properties, body):
    event = json.loads(body)
    print(f"{method.routing_key:18} {event['conversation_id']} #{event['seq']} {event.get('by_user_id', '')}", flush=True)
    channel.basic_ack(method.delivery_tag)


channel = pika.BlockingConnection(pika.URLParameters(URL)).channel()
queue = channel.queue_declare("", exclusive=True).method.queue
channel.queue_bind(queue, "barid.events", "message_*")
channel.basic_qos(prefetch_count=100)
channel.basic_consume(queue, show)
print("waiting for events; Ctrl-C ends", flush=True)
try:
    channel.start_consuming()
except KeyboardInterrupt:
    pass
