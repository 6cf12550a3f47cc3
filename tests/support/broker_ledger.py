"""What a broker owes, written down on the clients' side.

Every message has a name (publisher, number), numbers growing. The ledger is told what was sent where, what was
confirmed, delivered and settled, and when an ack is known to be on the disk (`proven`); it raises at once where the broker
breaks its word:

- a message comes twice though nobody gave it back, or again without being marked redelivered
- one comes back whose ack was on the disk, or that was seen in the dead-letter queue
- first deliveries of a queue leave the order of publishing (a publisher's, in a priority level)
- one comes that was never sent there, or with another body

and `check_settled`, when all queues are empty, where a confirmed message was never seen, or is gone without an ack.
"""

HELD, ACKED, GIVEN_BACK, REJECTED = "held", "acked", "given back", "rejected"


class Cell:
    """One message in one queue."""
    __slots__ = ("expected", "confirmed", "level", "life", "state", "seen", "ever_acked", "proven", "dead")

    def __init__(self, level=0, expected=True):
        self.expected, self.level = expected, level
        self.confirmed = self.ever_acked = self.proven = self.dead = False
        self.life = self.state = None
        self.seen = 0


class Queue:
    def __init__(self, name, dead_letters=None, ordered=True, consumed=True):
        """`dead_letters`: the name of the queue for what is rejected here."""
        self.name, self.dead_letters, self.ordered, self.consumed = name, dead_letters, ordered, consumed
        self.cells = {}
        self.last = {}  # (publisher, level) -> the highest number delivered


class Ledger:
    def __init__(self, queues):
        self.queues = {q.name: q for q in queues}
        self.life = 0
        self.floor = {}  # publisher -> numbers up to this one are done with
        self.confirmed = self.delivered = self.redelivered = 0
        self.owed = 0  # messages that are somewhere and were not seen yet

    def fail(self, queue, name, what):
        cell = self.queues[queue].cells.get(name)
        told = {s: getattr(cell, s) for s in Cell.__slots__} if cell else None
        raise AssertionError(f"message {name} in {queue}, life {self.life}: {what}; {told}")

    # ---- publishing

    def sent(self, name, queues):
        """It was sent, and goes to these: (queue, priority level)."""
        for queue, level in queues:
            q = self.queues[queue]
            if name not in q.cells:
                q.cells[name] = Cell(level)
                self.owed += q.consumed
            if q.dead_letters:
                self.queues[q.dead_letters].cells.setdefault(name, Cell(expected=False))

    def was_confirmed(self, name, queues):
        self.confirmed += 1
        for queue, _ in queues:
            self.queues[queue].cells[name].confirmed = True

    # ---- consuming

    def was_delivered(self, queue, name, redelivered):
        q = self.queues[queue]
        cell = q.cells.get(name)
        self.delivered += 1
        self.redelivered += redelivered
        if cell is None:
            self.fail(queue, name, "it was never sent here" if name[1] > self.floor.get(name[0], 0) else "it was done with long ago")
        if cell.proven:
            self.fail(queue, name, "it came back, and its ack was on the disk")
        if cell.dead:
            self.fail(queue, name, "it came back after it was seen in the dead-letter queue")
        if cell.life == self.life and cell.state != GIVEN_BACK:
            self.fail(queue, name, "it came a second time")
        if cell.seen and not redelivered:
            self.fail(queue, name, "it came again without being marked redelivered")
        if not cell.seen and q.ordered:
            key = (name[0], cell.level)
            if name[1] < q.last.get(key, 0):
                self.fail(queue, name, f"it came after number {q.last[key]} of its publisher")
            q.last[key] = name[1]
        self.owed -= not cell.seen and cell.expected
        cell.seen += 1
        cell.life, cell.state = self.life, HELD
        for other in self.queues.values():
            if other.dead_letters == queue and name in other.cells:
                self._left(other, name)

    def _left(self, q, name):
        cell = q.cells[name]
        if cell.life == self.life and cell.state == HELD:
            self.fail(q.name, name, "it is in the dead-letter queue while a consumer holds it")
        cell.dead = True

    def settled(self, queue, name, how):
        cell = self.queues[queue].cells[name]
        cell.state = how
        cell.ever_acked |= how == ACKED

    def was_proven(self, queue, name):
        """What was done with it is on the disk. Nothing is proven of a reject: its dead letter may have been on its way."""
        cell = self.queues[queue].cells.get(name)
        if cell and cell.state == ACKED and cell.life == self.life:
            cell.proven = True

    # ---- lives

    def died(self):
        """The server did. What was held goes back."""
        self.life += 1

    def check_settled(self, counters):
        """All queues are empty. `counters`: publisher -> its highest number; what is older may never be seen again."""
        for q in self.queues.values():
            for name, cell in q.cells.items():
                if not (cell.expected and cell.confirmed):
                    continue
                if not cell.seen and not cell.dead:
                    self.fail(q.name, name, "it was confirmed and never came")
                if not cell.ever_acked and not cell.dead:
                    self.fail(q.name, name, "it is gone, and nobody had acknowledged it")
                if cell.state in (GIVEN_BACK, REJECTED) and not cell.dead:
                    self.fail(q.name, name, "it was not acknowledged in the end, and did not come again")
            q.cells.clear()
        self.floor, self.owed = dict(counters), 0
