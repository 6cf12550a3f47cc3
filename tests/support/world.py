"""A small world for fault tests: a server with alice, bob (on two devices) and carol in one conversation, each with a
faithful client, and a keeper that starts the server again whenever a crash point has killed it.

    with World(env={"BARID_CRASH_AT": "accept.committed:2"}) as world:
        world.chatter(5)
        world.settled()
"""
import base64
import os
import shutil
import signal
import tempfile
import threading

from support.faithful import Faithful, check_ledger, settle
from support.server import Server, eventually

# A picture small enough to read in a test: one transparent pixel.
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==")

# The safe points every delivered and read message has passed, in this order of first appearance.
ROAD = ["accepted", "published", "queued", "received", "deleted"]


class World:
    def __init__(self, args=(), env=None, over="socket", carol_over="http", read=True):
        self.directory = tempfile.mkdtemp(prefix="barid-world-")
        self.server = Server(args=args)
        self.env = env or {}
        self.deaths = 0
        self.clients = []
        self.closing = False
        self.keeper = None
        self.options = (over, carol_over, read)

    def __enter__(self):
        over, carol_over, read = self.options
        self.server.start(env=self.env)
        # The crash points lie on the road of messages: making accounts passes none of them.
        self.alice_api = self.server.new_user("alice")
        self.bob_api = self.server.new_user("bob")
        self.bob2_api = self.bob_api.another_device()
        self.carol_api = self.server.new_user("carol")
        self.conversation = self.alice_api.conversation(["bob", "carol"])
        self.id = self.conversation["conversation_id"]
        self.keeper = threading.Thread(target=self._keep, daemon=True)
        self.keeper.start()
        self.alice = self.client(self.alice_api, over, read)
        self.bob = self.client(self.bob_api, over, read)
        self.bob2 = self.client(self.bob2_api, over, read)
        self.carol = self.client(self.carol_api, carol_over, read)
        return self

    def client(self, api, over="socket", read=True):
        c = Faithful(api, self.directory, over, read).run()
        self.clients.append(c)
        return c

    def __exit__(self, kind, error, trace):
        self.closing = True
        for c in self.clients:
            c.stop()
        if kind is not None:
            print(f"--- deaths: {self.deaths}; log of the server, last lines ---\n{self.server.log()[-4000:]}")
        self.server.process.kill()
        if self.keeper:
            self.keeper.join(30)
        self.server.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _keep(self):
        """Starts the server anew when it has died, without its crash point."""
        while not self.closing:
            code = self.server.process.wait()
            if self.closing:
                return
            assert code == -signal.SIGKILL, f"the server ended with {code}: {self.server.log()[-2000:]}"
            self.server.process.stdout.close()
            self.deaths += 1
            self.server.start()

    def chatter(self, count):
        """Everybody writes: alice texts and a picture, bob and carol an answer each."""
        for i in range(count):
            self.alice.write(self.id, f"alice says {i}")
            if i == count // 2:
                self.alice.write(self.id, media=PIXEL)
        self.bob.write(self.id, "bob answers")
        self.carol.write(self.id, "carol answers")

    def settled(self, seconds=60):
        settle(self.clients, [self.conversation], seconds)
        check_ledger(self.clients, [self.conversation])

    def points(self, message_id):
        return [p["point"] for p in self.alice_api.journey(message_id)["points"]]

    def check_journeys(self):
        """Every message passed every safe point, and its content is gone."""
        for c in self.clients:
            for message_id in c.sent():
                points = eventually(lambda: self._whole(message_id), 20, f"the whole journey of {message_id}")
                firsts = [points.index(p) for p in ROAD]
                assert firsts == sorted(firsts), points
                assert self.alice_api.call("GET", "/message/" + message_id).status_code == 410

    def _whole(self, message_id):
        points = self.points(message_id)
        return points if {*ROAD, "created", "read"} <= set(points) else None


def files_holding(directory, needle):
    """The files below a directory whose bytes contain the needle."""
    found = []
    for root, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(root, name)
            with open(path, "rb") as f:
                if needle in f.read():
                    found.append(os.path.relpath(path, directory))
    return found
