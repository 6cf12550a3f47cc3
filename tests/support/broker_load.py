"""A load on a broker that uses all it has, written for speed, with a ledger of it: for killing the server under it.

    with BrokerLoad(dice) as load:
        load.run(0.3)           # seconds
        load.kill()             # and start it again, and check what came back
        load.settle()           # everything is consumed, and the ledger checked
"""
import collections
import select
import struct
import time

from support import amqp
from support.amqp import Raw, ack, consume, method, nack, reject
from support.broker_ledger import ACKED, GIVEN_BACK, REJECTED, Ledger, Queue
from support.management import Management
from support.server import Server

FILL = bytes(i * 7 % 251 for i in range(400_000))  # beyond --claim-bytes: large bodies take another way
WINDOW = 300       # of a publisher: messages that are not confirmed
OWED = 1500        # messages that nobody has seen yet: with more, nothing is published
BATCH = 20         # publishes between two looks at the sockets
SETTLE_SECONDS = 60
HEAD = struct.Struct(">BHI")
DELIVER = struct.pack(">HH", *amqp.DELIVER)

EXCHANGES = [("f.direct", "direct", {}), ("f.topic", "topic", {}), ("f.fanout", "fanout", {}), ("f.headers", "headers", {}),
             ("f.top", "fanout", {}), ("f.dlx", "direct", {}), ("f.delay", "x-delayed-message", {"x-delayed-type": "direct"})]


def dead(queue):
    return {"x-dead-letter-exchange": "f.dlx", "x-dead-letter-routing-key": queue}


# name: (arguments, bindings (exchange, key, arguments), what the ledger knows of it)
QUEUES = {
    "q.one": ({}, [("f.direct", "one", {})], {}),
    "q.two": ({}, [("f.direct", "two", {}), ("f.topic", "#.two", {})], {}),
    "q.quorum": ({"x-queue-type": "quorum"}, [("f.direct", "quorum", {})], {}),
    "q.priority": ({"x-max-priority": ("B", 5)}, [("f.direct", "priority", {})], {}),
    "q.topic": ({}, [("f.topic", "a.*.#", {})], {}),
    "q.fan": ({}, [("f.fanout", "", {})], {}),
    "q.fan2": ({}, [("f.fanout", "ignored", {})], {"ordered": False}),  # two consumers
    "q.red": ({}, [("f.headers", "", {"x-match": "all", "color": "red"})], {}),
    "q.limit": ({"x-delivery-limit": 3, **dead("d.limit")}, [("f.direct", "limit", {})], {"dead_letters": "d.limit"}),
    "q.reject": (dead("d.reject"), [("f.direct", "reject", {})], {"dead_letters": "d.reject"}),
    "q.ttl": ({"x-message-ttl": 40, **dead("d.ttl")}, [("f.direct", "ttl", {})], {"dead_letters": "d.ttl", "consumed": False}),
    "q.retry": ({"x-retry-delay": 15, "x-retry-max-delay": 60}, [("f.direct", "retry", {})], {}),
    "q.delay": ({}, [("f.delay", "delay", {})], {"ordered": False}),
    "q.single": ({"x-single-active-consumer": True}, [("f.direct", "single", {})], {}),
    "q.dedupe": ({"x-deduplication-window": 600_000}, [("f.direct", "dedupe", {})], {"ordered": False}),
    "q.tx": ({}, [("f.direct", "tx", {})], {}),
    "q.backlog": ({}, [("f.direct", "backlog", {})], {"consumed": False}),  # until it is settled
    "d.limit": ({}, [("f.dlx", "d.limit", {})], {"ordered": False}),
    "d.reject": ({}, [("f.dlx", "d.reject", {})], {"ordered": False}),
    "d.ttl": ({}, [("f.dlx", "d.ttl", {})], {}),
}
TWICE = ("q.fan2", "q.single")  # consumed from two connections


def body_of(name):
    publisher, number = name
    size = number * 2654435761 % 97 if number % 50 else number * 2654435761 % 400_000
    return b"%d %d " % name + FILL[:size]


def name_of(body):
    publisher, number, _ = body.split(b" ", 2)
    return int(publisher), int(number)


class Route:
    """How a kind of message is sent, and where it must come to."""

    def __init__(self, weight, exchange, key, queues, **properties):
        self.weight, self.exchange, self.key, self.queues = weight, exchange, key, queues
        self.properties = amqp.properties(delivery_mode=2, **properties)


def routes():
    plain = [("one", 5), ("two", 3), ("quorum", 3), ("limit", 4), ("reject", 4), ("ttl", 2), ("retry", 2), ("single", 4), ("backlog", 1)]
    made = [Route(weight, "f.direct", key, [("q." + key, 0)]) for key, weight in plain]
    made += [Route(1, "f.direct", "priority", [("q.priority", min(p, 5))], priority=p) for p in (0, 1, 3, 5, 9)]
    made += [Route(2, "f.topic", "a.b", [("q.topic", 0)]), Route(2, "f.topic", "a.b.two", [("q.topic", 0), ("q.two", 0)]),
             Route(2, "f.fanout", "x", [("q.fan", 0), ("q.fan2", 0)]),
             Route(2, "f.headers", "", [("q.red", 0)], headers={"color": "red", "more": 1}),
             Route(1, "f.headers", "", [], headers={"color": "blue"}),
             Route(2, "f.top", "a.x", [("q.topic", 0), ("q.fan", 0), ("q.fan2", 0)]),
             Route(1, "", "q.one", [("q.one", 0)])]
    made += [Route(1, "f.delay", "delay", [("q.delay", 0)], headers={"x-delay": ("I", ms)}) for ms in (0, 10, 100)]
    return made


class Content:
    def __init__(self, queue, tag, again):
        self.queue, self.tag, self.again = queue, tag, again
        self.left, self.body = None, []


class Link:
    """A connection that never blocks: what is to be sent is kept, what is heard is handed to the load."""

    def __init__(self, load, setup):
        self.load = load
        raw = Raw(load.server.amqp_port).open().channel(1)
        setup(raw)
        self.socket, self.unread = raw.socket, raw.unread
        self.socket.setblocking(False)
        self.out = []
        self.contents = {}  # channel -> what is coming there: those of channels may interleave
        self.ended = False

    def send(self, *data):
        self.out += data

    def flush(self):
        if not self.out or self.ended:
            return
        data = b"".join(self.out)
        try:
            data = data[self.socket.send(data):]
        except BlockingIOError:
            pass
        except OSError:
            self.ended = True
        self.out = [data] if data else []

    def hear(self):
        """Takes what is there; false when there was nothing."""
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self.ended = True
            return False
        self._take(self.unread + data)
        return True

    def _take(self, data):
        at, end = 0, len(data)
        while end - at >= 8:
            kind, channel, size = HEAD.unpack_from(data, at)
            if end - at < size + 8:
                break
            if kind == amqp.BODY:
                self._body(self.contents[channel], data[at + 7:at + 7 + size])
            elif kind == amqp.CONTENT_HEADER:
                self.contents[channel].left = struct.unpack_from(">Q", data, at + 11)[0]
            elif kind == amqp.METHOD and data[at + 7:at + 11] == DELIVER:
                length = data[at + 11]
                queue = data[at + 12:at + 12 + length].decode()
                self.contents[channel] = Content(queue, *struct.unpack_from(">Q?", data, at + 12 + length))
            elif kind == amqp.METHOD:
                self.heard(struct.unpack_from(">HH", data, at + 7), data[at + 11:at + 7 + size])
            at += size + 8
        self.unread = data[at:]

    def _body(self, content, part):
        content.body.append(part)
        content.left -= len(part)
        if content.left == 0:
            self.delivered(content.queue, content.tag, content.again, b"".join(content.body))

    def heard(self, name, arguments):
        assert name == amqp.CLOSE and self.load.stopping, f"heard {name} {arguments[:300]}"
        self.socket.send(method(0, amqp.CLOSE_OK))  # a few bytes: there is room
        self.out = []

    def delivered(self, queue, tag, again, body):
        raise AssertionError("a delivery that nobody asked for")


class Publisher(Link):
    """Publishes with confirms whatever the dice say."""

    def __init__(self, load, number):
        super().__init__(load, lambda raw: raw.call(method(1, amqp.CONFIRM_SELECT, b"\0"), amqp.CONFIRM_SELECT_OK))
        self.number = number
        self.waiting = collections.deque()
        self.done = 0

    def publish(self, route, name):
        self.load.ledger.sent(name, route.queues)
        self.waiting.append((name, route))
        self.send(amqp.publish(1, route.exchange, route.key, body_of(name), route.properties))

    def work(self):
        if len(self.waiting) < WINDOW:
            for route in self.load.dice.choices(self.load.routes, self.load.weights, k=BATCH):
                self.publish(route, self.load.next_name(self.number))

    def heard(self, name, arguments):
        if name != amqp.ACK:
            super().heard(name, arguments)
            return
        tag = struct.unpack_from(">Q", arguments)[0]
        for _ in range(tag - self.done):
            message, route = self.waiting.popleft()
            self.load.ledger.was_confirmed(message, route.queues)
        self.load.count("confirms", tag - self.done)
        self.done = tag


class Deduplicated(Publisher):
    """Everything is said twice, and again what was not confirmed before the server died."""

    def work(self):
        load = self.load
        for name, props in load.unsure[:BATCH]:
            self.again(name, props)
        del load.unsure[:BATCH]
        if len(self.waiting) < WINDOW:
            for _ in range(2):
                name = load.next_name(self.number)
                props = amqp.properties(delivery_mode=2, message_id="%d-%d" % name)
                load.recent.append((name, props))
                self.again(name, props)
                self.again(*load.dice.choice(load.recent))
            del load.recent[:-2000]

    def again(self, name, props):
        route = Route(0, "f.direct", "dedupe", [("q.dedupe", 0)])
        route.properties = props
        self.publish(route, name)


class Transaction(Link):
    """Publishes and acknowledges in transactions."""

    def __init__(self, load, number):
        def setup(raw):
            raw.call(method(1, amqp.TX_SELECT), amqp.TX_SELECT_OK)
            raw.call(amqp.qos(1, 50), amqp.QOS_OK)
            raw.send(consume(1, "q.tx", "q.tx", no_wait=True))

        super().__init__(load, setup)
        self.number = number
        self.names, self.acked = [], []
        self.committing = False

    def work(self):
        if self.committing:
            return
        for _ in range(self.load.dice.randrange(1, 30)):
            name = self.load.next_name(self.number)
            self.load.ledger.sent(name, [("q.tx", 0)])
            self.names.append(name)
            self.send(amqp.publish(1, "f.direct", "tx", body_of(name)))
        self.committing = True
        self.committed, self.acked_in = self.names, self.acked
        self.names, self.acked = [], []
        self.send(method(1, amqp.TX_COMMIT))

    def heard(self, name, arguments):
        if name != amqp.TX_COMMIT_OK:
            super().heard(name, arguments)
            return
        for message in self.committed:
            self.load.ledger.was_confirmed(message, [("q.tx", 0)])
        for message in self.acked_in:
            self.load.ledger.was_proven("q.tx", message)
        self.load.count("commits", 1)
        self.committing = False

    def delivered(self, queue, tag, again, body):
        name = self.load.delivered(queue, again, body)
        self.send(ack(1, tag))
        self.load.ledger.settled(queue, name, ACKED)
        self.acked.append(name)


class Consumer(Link):
    """Consumes queues, a channel each, and settles in every way there is. Now and then it asks for something that is
    answered when all before it is on the disk: then its acks are."""

    def __init__(self, load, queues, prefetch):
        self.held = {}
        self.channels = {}

        def setup(raw):
            for i, queue in enumerate(queues):
                raw.channel(i + 2)
                raw.call(amqp.qos(i + 2, prefetch), amqp.QOS_OK)
                self.channels[queue] = i + 2
                self.held[queue] = []
            for queue, channel in self.channels.items():
                raw.send(consume(channel, queue, queue, no_wait=True))

        super().__init__(load, setup)
        self.acked, self.proving = [], None
        self.patient = False

    def delivered(self, queue, tag, again, body):
        name = self.load.delivered(queue, again, body)
        held = self.held[queue]
        held.append((tag, name))
        dice, channel = self.load.dice.random(), self.channels[queue]
        if self.load.settling or dice < 0.3 or len(held) > 20:
            self.ack(queue, len(held) > 1)
        elif dice < 0.4 and len(held) == 1:
            self.give_back(queue, name, nack(channel, tag), GIVEN_BACK)
        elif dice < 0.5 and len(held) == 1 and self.load.ledger.queues[queue].dead_letters:
            self.give_back(queue, name, reject(channel, tag) if tag % 2 else nack(channel, tag, requeue=False), REJECTED)
        elif dice < 0.7:
            self.held[queue] = held[:-1]
            self.send(ack(channel, tag))
            self.note_ack(queue, name)

    def ack(self, queue, multiple):
        held = self.held[queue]
        self.send(ack(self.channels[queue], held[-1][0], multiple))
        for _, name in held:
            self.note_ack(queue, name)
        self.held[queue] = []

    def note_ack(self, queue, name):
        self.load.ledger.settled(queue, name, ACKED)
        self.acked.append((queue, name))

    def give_back(self, queue, name, data, how):
        self.held[queue] = []
        self.send(data)
        self.load.ledger.settled(queue, name, how)

    def work(self):
        for queue, held in self.held.items():
            if held and (self.load.settling or self.load.dice.random() < 0.05):
                self.ack(queue, True)
        if self.acked and self.proving is None and self.load.dice.random() < 0.2:
            self.proving, self.acked = self.acked, []
            self.send(amqp.bind(1, "q.one", "f.direct", "one"))

    def heard(self, name, arguments):
        if name != amqp.QUEUE_BIND_OK:
            super().heard(name, arguments)
            return
        for queue, message in self.proving:
            self.load.ledger.was_proven(queue, message)
        self.load.count("proven", len(self.proving))
        self.proving = None


class BrokerLoad:
    def __init__(self, dice, **server):
        self.dice = dice
        self.server = Server(amqp=True, management=True, **server)
        self.ledger = Ledger([Queue(name, **known) for name, (_, _, known) in QUEUES.items()])
        self.routes = routes()
        self.weights = [r.weight for r in self.routes]
        self.counters = collections.Counter()
        self.counts = collections.Counter()
        self.links, self.unsure, self.recent = [], [], []
        self.settling = self.stopping = False
        self.churn = {}  # name -> must it be there? None: nobody knows
        self.n_churn = 0

    def __enter__(self):
        self.server.__enter__()
        self._declare()
        self.topology = self._topology()
        return self

    def __exit__(self, *error):
        self._close_links()
        self.server.__exit__(*error)

    # ---- what the links ask

    def next_name(self, publisher):
        self.counters[publisher] += 1
        return publisher, self.counters[publisher]

    def delivered(self, queue, again, body):
        name = name_of(body)
        self.ledger.was_delivered(queue, name, again)
        assert body == body_of(name), f"message {name} in {queue} has another body"
        return name

    def count(self, what, n):
        self.counts[what] += n

    # ---- topology

    def _declare(self):
        api = Management(self.server)
        api.put("vhosts", "other")
        api.put("users", "worker", password="secret", tags="monitoring")
        api.put("permissions", "/", "worker", configure="^w", write=".*", read="^(w|q)")
        with Raw(self.server.amqp_port) as raw:
            raw.open().channel(1)
            for name, kind, arguments in EXCHANGES:
                raw.call(amqp.declare_exchange(1, name, kind, arguments, durable=True), amqp.EXCHANGE_DECLARE_OK)
            for key, name in (("a.x", "f.topic"), ("", "f.fanout")):
                raw.call(amqp.bind_exchange(1, name, "f.top", key), amqp.EXCHANGE_BIND_OK)
            for queue, (arguments, bindings, _) in QUEUES.items():
                raw.call(amqp.declare(1, queue, arguments, durable=True), amqp.QUEUE_DECLARE_OK)
                for exchange, key, more in bindings:
                    raw.call(amqp.bind(1, queue, exchange, key, more), amqp.QUEUE_BIND_OK)

    def _topology(self):
        """All that must be there for ever: definitions, without what churns."""
        api = Management(self.server)
        said = api.get("definitions")
        return {kind: sorted((str(sorted(x.items())) for x in said[kind] if "churn" not in str(x)))
                for kind in ("users", "vhosts", "permissions", "topic_permissions", "exchanges", "queues", "bindings")}

    def _churn(self):
        """A durable queue with a binding and a user come and go in each life; what is not durable is left behind."""
        self.n_churn += 1
        api = Management(self.server)
        name = f"churn.{self.n_churn}"
        self.churn[name] = None
        old = next((n for n, there in self.churn.items() if there), None) if self.n_churn % 3 == 0 else None
        self.churn_raw = raw = Raw(self.server.amqp_port).open().channel(1)
        raw.call(amqp.declare(1, "passing-" + name), amqp.QUEUE_DECLARE_OK)
        raw.call(amqp.declare(1, "exclusive-" + name, exclusive=True), amqp.QUEUE_DECLARE_OK)
        raw.call(amqp.declare_exchange(1, "passing-" + name, "topic"), amqp.EXCHANGE_DECLARE_OK)
        raw.call(amqp.bind(1, "passing-" + name, "f.direct", "one"), amqp.QUEUE_BIND_OK)
        raw.call(amqp.declare(1, name, {"x-max-length": self.n_churn}, durable=True), amqp.QUEUE_DECLARE_OK)
        raw.call(amqp.bind(1, name, "f.topic", name, {"n": self.n_churn}), amqp.QUEUE_BIND_OK)
        api.put("users", name, password="p" + name, tags="")
        self.churn[name] = True
        if old:
            self.churn[old] = None
            api.delete("users", old)
            raw.call(amqp.delete(1, old), amqp.QUEUE_DELETE_OK)
            self.churn[old] = False

    def check_topology(self):
        assert self._topology() == self.topology
        api = Management(self.server)
        queues = {q["name"] for q in api.get("queues", "/")}
        exchanges = {x["name"] for x in api.get("exchanges", "/")}
        assert [n for n in queues | exchanges if n.startswith(("passing-", "exclusive-"))] == []
        bound = {b["routing_key"] for b in api.get("definitions")["bindings"] if b["source"] == "f.topic"}
        users = {u["name"] for u in api.get("users")}
        for name, there in self.churn.items():
            assert there is None or [name in queues, name in bound, name in users] == [there] * 3, (name, there)

    # ---- driving it

    def connect(self):
        consumed = [q.name for q in self.ledger.queues.values() if (q.consumed or self.settling and q.name != "q.ttl") and q.name != "q.tx"]
        self.dice.shuffle(consumed)
        prefetch = self.dice.choice((1, 10, 100, 1000))
        half = len(consumed) // 2
        self.links = [Consumer(self, consumed[:half] + [q for q in TWICE if q not in consumed[:half]], prefetch),
                      Consumer(self, consumed[half:] + [q for q in TWICE if q not in consumed[half:]], prefetch),
                      Transaction(self, 9)]
        if not self.settling:
            self.links += [Publisher(self, 1), Publisher(self, 2), Publisher(self, 3), Deduplicated(self, 8)]
        self.poll = select.poll()
        self.by_descriptor = {}
        for link in self.links:
            self.poll.register(link.socket, select.POLLIN)
            self.by_descriptor[link.socket.fileno()] = link
            link._take(link.unread)

    def step(self, wait=2):
        for link in self.links:
            if isinstance(link, Publisher) and self.ledger.owed > OWED:
                continue  # consumers are to keep up
            if not (self.settling and isinstance(link, Transaction)):
                link.work()
            elif link.acked and not link.committing:
                self._last_commit(link)
            link.flush()
        self.hear(wait)

    def hear(self, wait=2):
        for descriptor, _ in self.poll.poll(wait):
            link = self.by_descriptor[descriptor]
            if not link.hear() and link.ended:
                self.poll.unregister(descriptor)

    @staticmethod
    def _last_commit(link):
        link.committing, link.committed, link.acked_in, link.acked = True, [], link.acked, []
        link.send(method(1, amqp.TX_COMMIT))

    def run(self, seconds, until=None):
        """Load for so long, or until `until` says so, or the server is gone."""
        end = time.monotonic() + seconds
        self.connect()
        while time.monotonic() < end and not (until and until()) and not all(link.ended for link in self.links):
            self.step()

    def life(self):
        """What a life of the server has besides the load."""
        self._churn()

    def after_death(self):
        """The server is dead. What it said before counts."""
        self.stopping = True
        for link in self.links:
            while not link.ended:
                if not link.hear() and not link.ended:
                    select.select([link.socket], [], [], 5)
            if isinstance(link, Deduplicated):
                self.unsure += [(name, route.properties) for name, route in link.waiting]
        self._close_links()
        self.stopping = False
        self.ledger.died()

    def _close_links(self):
        for link in self.links:
            link.socket.close()
        self.links = []
        if getattr(self, "churn_raw", None):
            self.churn_raw.close()

    def settle(self):
        """Consumes everything, and checks the ledger."""
        self.settling = True
        self.connect()
        end = time.monotonic() + SETTLE_SECONDS
        while not self._empty():
            for _ in range(50):
                self.step(1)
            assert time.monotonic() < end, f"not empty: {self._messages()}"
        self.ledger.check_settled(self.counters)
        self._close_links()
        self.recent, self.unsure = [], []
        self.ledger.died()  # what is new in the next round is another life of these connections
        self.settling = False

    def _messages(self):
        api = Management(self.server)
        return {q["name"]: q["messages"] for q in api.get("queues", "/") if q["messages"] and "churn" not in q["name"]}

    def _delayed(self):
        return Management(self.server).get("exchanges", "/", "f.delay").get("messages_delayed", 0)

    def _empty(self):
        return not self._messages() and not self._delayed() and not any(getattr(link, "committing", False) for link in self.links)
