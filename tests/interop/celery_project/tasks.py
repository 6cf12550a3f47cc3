"""A Celery application as people write them: what `celery -A tasks worker` runs in tests/interop/test_celery.py.

From the environment: BROKER, RESULTS (the result backend), QUEUE_TYPE (classic or quorum), NOTES (a directory in which
tasks leave what a test wants to know).
"""
import os
import time

from celery import Celery
from kombu import Exchange, Queue

app = Celery("tasks", broker=os.environ["BROKER"], backend=os.environ["RESULTS"])
quorum = os.environ.get("QUEUE_TYPE") == "quorum"
app.conf.update(
    task_default_queue="work",
    task_default_queue_type="quorum" if quorum else "classic",
    broker_native_delayed_delivery_queue_type="quorum" if quorum else "classic",
    task_queues=[
        Queue("work", Exchange("work", "topic" if quorum else "direct"), routing_key="work", durable=True,
              queue_arguments={"x-queue-type": "quorum"} if quorum else {}),
        *([] if quorum else [Queue("urgent", Exchange("work"), routing_key="urgent", queue_arguments={"x-max-priority": 10}),
                             Queue("audit", Exchange("audit", "topic"), routing_key="audit.#")]),
    ],
    task_default_exchange="work", task_default_exchange_type="topic" if quorum else "direct",
    task_default_routing_key="work", broker_connection_retry_on_startup=True, broker_connection_max_retries=None,
    broker_transport_options={"confirm_publish": True}, worker_prefetch_multiplier=1, result_expires=600,
    worker_send_task_events=True, task_send_sent_event=True, worker_cancel_long_running_tasks_on_connection_loss=False)
NOTES = os.environ["NOTES"]


def note(name, text):
    with open(os.path.join(NOTES, name), "a", encoding="ascii") as f:
        f.write(text + "\n")


@app.task(bind=True)
def add(self, a, b):
    note("who", self.request.hostname)
    return a + b


@app.task
def total(numbers):
    return sum(numbers)


@app.task(bind=True, max_retries=5)
def unlucky(self, times):
    if self.request.retries < times:
        raise self.retry(countdown=1, exc=RuntimeError("again"))
    return self.request.retries


@app.task
def fail():
    raise ValueError("as it must")


@app.task
def now():
    return time.time()


@app.task
def write(name, text):
    note(name, text)


@app.task
def slow(seconds, name):
    time.sleep(seconds)
    note(name, "done")


@app.task(bind=True, acks_late=True, reject_on_worker_lost=True)
def stubborn(self, name):
    """The first to get it never ends; who gets it again does."""
    note(name, self.request.hostname)
    if not self.request.delivery_info["redelivered"]:
        time.sleep(600)
    return self.request.hostname
