"""kill -9 at random instants under load, again and again; then the ledger: nothing acknowledged is lost, nothing is
doubled, the receipts are right.

BARID_KILL_CYCLES sets the number (50 here, 1,000 in `make nightly`), BARID_SEED repeats the choice of instants."""
import os
import random
import signal
import time

from support.faithful import check_ledger, settle
from support.server import eventually
from support.world import World

CYCLES = int(os.environ.get("BARID_KILL_CYCLES", "50"))
SEED = int(os.environ.get("BARID_SEED", str(time.time_ns() % 1_000_000)))
WINDOW = 4  # messages of a writer in a conversation that not everybody has read yet


def test_kill9_cycles_under_load():
    print(f"BARID_SEED={SEED} BARID_KILL_CYCLES={CYCLES}")
    dice = random.Random(SEED)
    with World() as world:
        conversations = [world.conversation]
        for i in range(3):
            conversations.append(world.alice_api.conversation(["bob"], title=f"number {i}"))
            conversations.append(world.carol_api.conversation(["alice", "bob"], title=f"more {i}"))
        writers = [(world.alice, c) for c in conversations] + [(world.carol, c) for c in conversations if "carol" in c["members"]] \
            + [(world.bob, c) for c in conversations[:3]]
        written = 0
        for cycle in range(CYCLES):
            end = time.monotonic() + dice.uniform(0.02, 0.35)
            while time.monotonic() < end:
                written += feed(writers, written)
                time.sleep(0.005)  # the pace of the load, not a wait for anything
            deaths = world.deaths
            world.server.process.send_signal(signal.SIGKILL)
            eventually(lambda: world.deaths > deaths and world.server.lines and world.server.lines[-1].startswith("ready"),
                       30, "the server coming back")
        written += feed(writers, written)
        settle_all(world, conversations)
        assert world.deaths == CYCLES
        assert written > CYCLES, "there was load"
        print(f"{written} messages, {sum(len(c.inbox()) for c in world.clients)} arrivals, "
              f"{duplicates(world)} answers said duplicate")


def feed(writers, written):
    count = 0
    for client, conversation in writers:
        waiting = client.sql("SELECT count(*) FROM outbox o WHERE conversation_id=? AND "
                             "(SELECT count(*) FROM receipts r WHERE r.message_id=o.message_id AND type='read') < ?",
                             conversation["conversation_id"], len(conversation["members"]) - 1)[0][0]
        for _ in range(WINDOW - waiting):
            client.write(conversation["conversation_id"], f"{client.name} {written + count}")
            count += 1
    return count


def settle_all(world, conversations):
    settle(world.clients, conversations, 120)
    check_ledger(world.clients, conversations)
    gone = [m for c in world.clients for m in list(c.sent())[-20:]]
    for m in gone:
        eventually(lambda i=m: world.bob_api.call("GET", "/message/" + i).status_code in (404, 410), 30, "deletion")


def duplicates(world):
    return sum(c.sql("SELECT count(*) FROM outbox WHERE duplicate=1")[0][0] for c in world.clients)
