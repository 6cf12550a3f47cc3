"""The server is killed on the road of messages while many people write to each other in many conversations at once. On PostgreSQL
sends, receipts and what enters mailboxes share their commits then: what one transaction had of many messages is there for
all of them or for none, and whatever was acknowledged is there."""
import pytest

from support.faithful import check_ledger, settle
from support.invariants import broken
from support.parts import DISTRIBUTED
from support.server import eventually
from support.world import World

CONVERSATIONS = 24
EACH = 3  # messages of each of three writers in each conversation
POINTS = ["accept.before_commit", "queue.before_commit", "queue.committed", "received.before_commit", "delete.before"]

# Rows of one transaction: the event of a message that entered the mailboxes, the delivery to somebody who never comes.
QUEUED_TOGETHER = "select max(n) from (select count(*) as n from barid.inbox where consumer = 'mailbox' group by xmin::text) g"
SENT_TOGETHER = """select max(n) from (select count(*) as n from barid.delivery x join barid.account a on a.uid = x.uid
    where a.user_id = 'dave' group by x.xmin::text) g"""


@pytest.mark.parametrize("point", POINTS)
def test_killed_among_many(point, parts):
    with World(env={"BARID_CRASH_AT": f"{point}:60"}) as world:
        world.server.new_user("dave").logout()
        rooms = [world.alice_api.conversation(["bob", "carol"]) for _ in range(CONVERSATIONS)]
        daves = [world.alice_api.conversation(["bob", "carol", "dave"]) for _ in range(CONVERSATIONS // 4)]
        for n in range(EACH):
            for room in rooms + daves:
                for writer in (world.alice, world.bob, world.carol):
                    writer.write(room["conversation_id"], f"{writer.name} says {n}")
        eventually(lambda: world.deaths == 1, 60, f"the crash at {point}")
        settle(world.clients, rooms, 60)
        eventually(lambda: agreed(world.clients, rooms + daves), 30, "every message everywhere")
        check_ledger(world.clients, rooms + daves)
        if parts == DISTRIBUTED:
            eventually(lambda: not broken(world.server.parts), 20, "the tables to agree with each other")
            assert world.server.parts.value(QUEUED_TOGETHER) > 1
            assert world.server.parts.value(SENT_TOGETHER) > 1


def agreed(clients, rooms):
    try:
        check_ledger(clients, rooms)
    except AssertionError:
        return False
    return True
