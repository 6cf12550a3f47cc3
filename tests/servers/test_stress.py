"""Devices that log in, log out, send and acknowledge at random, at random servers, all at once. At the end the database
must agree with itself, and every device with the database.

BARID_STRESS_SECONDS is how long (8), BARID_SEED repeats the choices."""
import os
import random
import threading
import time

import requests

from support.balancer import Balancer
from support.invariants import broken
from support.server import Api, ApiError, eventually, new_id

SECONDS = float(os.environ.get("BARID_STRESS_SECONDS", "8"))
SEED = int(os.environ.get("BARID_SEED", str(time.time_ns() % 1_000_000)))
USERS = 6

TROUBLE = (ApiError, requests.RequestException)


class Device:
    """One that notes every entry it gets, and acknowledges and receives some of them."""

    def __init__(self, api):
        self.api = api
        self.lock = threading.Lock()
        self.cursor = 0
        self.got = []  # ids of messages, in order
        self.faults = []

    def page(self, dice):
        with self.lock:
            entries = self.api.mailbox(after=self.cursor, limit=dice.randint(1, 40))["entries"]
            for e in entries:
                if e["cursor"] != self.cursor + 1:
                    self.faults.append(f"{e['cursor']} after {self.cursor}")
                self.cursor = e["cursor"]
                if e["type"] == "message":
                    self.got.append(e["message_id"])
            if entries and dice.random() < 0.5:
                self.api.mailbox_ack(self.cursor)
            for e in entries:
                if e["type"] == "message" and dice.random() < 0.8:
                    (self.api.read if dice.random() < 0.3 else self.api.received)(e["message_id"])


class User:
    def __init__(self, name, somewhere):
        self.name = name
        self.somewhere = somewhere
        Api(somewhere).add_user(name)
        self.lock = threading.Lock()
        self.devices = []
        self.login()

    def login(self):
        api = Api(self.somewhere)
        api.login(self.name)
        with self.lock:
            self.devices.append(Device(api))

    def logout(self, dice):
        with self.lock:
            device = self.devices.pop(dice.randrange(len(self.devices))) if self.devices else None
        if device:
            with device.lock:
                device.api.logout()

    def any(self, dice):
        with self.lock:
            return dice.choice(self.devices) if self.devices else None


def step(dice, users, conversations, sent):
    user = dice.choice(users)
    what = dice.random()
    if what < 0.04 and len(user.devices) < 6:
        user.login()
    elif what < 0.08:
        user.logout(dice)
    else:
        device = user.any(dice)
        if device is None:
            user.login()
        elif what < 0.45:
            mine = [c for c in conversations if user.name in c["members"]]
            message_id = new_id()
            device.api.send(dice.choice(mine)["conversation_id"], "x" * dice.randint(1, 200), message_id)
            sent.append(message_id)
        else:
            device.page(dice)


def work(seed, until, users, conversations, sent, trouble):
    dice = random.Random(seed)
    while time.monotonic() < until:
        try:
            step(dice, users, conversations, sent)
        except TROUBLE as e:
            if getattr(e, "status", 0) != 401:  # logged out by another thread meanwhile
                trouble.append(str(e)[:300])


def test_at_the_end_everything_agrees(three):
    print(f"BARID_SEED={SEED} BARID_STRESS_SECONDS={SECONDS}")
    dice = random.Random(SEED)
    somewhere = Balancer(three)
    parts = three[0].parts
    users = [User(f"u{i}", somewhere) for i in range(USERS)]
    names = [u.name for u in users]
    conversations = [users[0].devices[0].api.conversation(names[1:], title="all")]
    conversations += [users[i].devices[0].api.conversation([names[(i + 1) % USERS]]) for i in range(USERS)]
    sent, trouble = [], []
    threads = [threading.Thread(target=work, args=(dice.random(), time.monotonic() + SECONDS, users, conversations, sent, trouble))
               for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not trouble, trouble[:5]
    eventually(lambda: parts.value("select count(*) from barid.outbox") == 0
               and parts.value("select count(*) from barid.message where published_at is null") == 0, 30, "everything published")
    assert not broken(parts)
    assert parts.value("select count(*) from barid.message") == len(sent)
    for user in users:
        for device in user.devices:
            while device.api.mailbox(after=device.cursor)["entries"]:
                device.page(dice)
            assert not device.faults, f"{user.name}: {device.faults[:5]}"
            assert len(device.got) == len(set(device.got)), "a message came twice"
    assert not broken(parts)
    print(f"{len(sent)} messages, {parts.value('select count(*) from barid.device')} devices")
