"""The server is killed at every safe point in turn. It starts again, the clients go on where their stores say,
and every message has arrived once, in order, with its receipts, and its content is gone."""
import pytest

from support.server import eventually
from support.world import World

POINTS = [
    "accept.before_commit",
    "accept.committed",
    "publish.claimed",
    "publish.confirmed",
    "publish.deleted",
    "queue.before_commit",
    "queue.committed",
    "queue.acked",
    "notify.sent",
    "received.before_commit",
    "received.committed",
    "delete.before",
    "delete.done",
    "read.before_commit",
    "read.committed",
]


@pytest.mark.parametrize("passing", [1, 3])
@pytest.mark.parametrize("point", POINTS)
def test_killed_at(point, passing):
    with World(env={"BARID_CRASH_AT": f"{point}:{passing}"}) as world:
        world.chatter(4)
        eventually(lambda: world.deaths == 1, 30, f"the crash at {point}")
        world.settled()
        world.check_journeys()


def test_killed_at_expiry():
    with World(args=["--message-ttl", "1s", "--sweep-every-ms", "100"], env={"BARID_CRASH_AT": "expire.committed:1"}, read=False) as world:
        stranger = world.server.new_user("dave")  # never connects
        c = world.alice_api.conversation(["dave"])
        message_id = world.alice.write(c["conversation_id"], "are you there?")
        eventually(lambda: world.deaths == 1, 30, "the crash at expiry")
        eventually(lambda: message_id in world.alice.receipts("expired"), 30, "the sender being told")
        assert "expired" in world.points(message_id)
        assert stranger.call("GET", "/message/" + message_id).status_code == 410
        assert not [e for e in stranger.mailbox()["entries"] if e["message_id"] == message_id]
        assert not world.alice.faults
