"""kill -9 under a load of AMQP that uses all the broker has, again and again, at random instants and at chosen ones; after
each the topology, all along the ledger: nothing confirmed is lost, nothing comes twice, the order is kept.

BARID_KILL_CYCLES sets the number (30 here, 1,000 in `make nightly`), BARID_SEED repeats the choices."""
import os
import random
import signal
import time

from support.broker_load import BrokerLoad

CYCLES = int(os.environ.get("BARID_KILL_CYCLES", "30"))
SEED = int(os.environ.get("BARID_SEED", str(time.time_ns() % 1_000_000)))
SETTLE_EVERY = 15
EXIT_KILLED = -signal.SIGKILL


def at_random(load):
    load.run(load.dice.uniform(0.02, 0.4))
    load.server.kill9()


def at_a_confirm(load):
    """The moment it is heard."""
    target = load.counts["confirms"] + load.dice.randrange(1, 2000)
    load.run(1, lambda: load.counts["confirms"] >= target)
    load.server.kill9()


def at_a_commit(load):
    target = load.counts["commits"] + load.dice.randrange(1, 30)
    load.run(1, lambda: load.counts["commits"] >= target)
    load.server.kill9()


def at_a_proof(load):
    """The moment at which it is known that acks are on the disk."""
    target = load.counts["proven"] + load.dice.randrange(1, 500)
    load.run(1, lambda: load.counts["proven"] >= target)
    load.server.kill9()


def after_a_burst(load):
    """Much was written, nothing read."""
    load.run(0.05)
    for link in load.links:
        for _ in range(20):
            link.work()
        link.flush()
    time.sleep(load.dice.uniform(0, 0.02))
    load.server.kill9()


def in_its_drain(load):
    load.run(0.1)
    load.stopping = True
    load.server.process.send_signal(signal.SIGTERM)
    time.sleep(load.dice.uniform(0, 0.02))
    load.server.kill9()


def stopped(load):
    load.run(0.1)
    load.stopping = True
    load.server.process.send_signal(signal.SIGTERM)
    while not all(link.ended for link in load.links):
        load.hear()
    load.churn_raw.close()
    assert load.server.wait_exit() == 0


def when_synced(load):
    """By itself: a batch is on the disk, and nobody knows yet."""
    load.run(5)
    assert load.server.wait_exit() == EXIT_KILLED


def start(load, how):
    """Starts it; now and then it is killed while it reads its journal, more than once."""
    while load.dice.random() < 0.2:
        load.server.start(wait=False)
        time.sleep(load.dice.uniform(0, 0.03))
        load.server.kill9()
    env = {"BARID_CRASH_AT": f"journal.synced:{load.dice.randrange(20, 200)}"} if how is when_synced else None
    load.server.start(env)


WAYS = [at_random] * 6 + [at_a_confirm] * 3 + [at_a_commit, at_a_proof, after_a_burst, in_its_drain, stopped, when_synced, when_synced]


def test_kill9_cycles_under_amqp_load():
    print(f"BARID_SEED={SEED} BARID_KILL_CYCLES={CYCLES}")
    dice = random.Random(SEED)
    with BrokerLoad(dice) as load:
        for cycle in range(1, CYCLES + 1):
            how = dice.choice(WAYS) if cycle > 1 else at_random
            if how is when_synced:
                load.server.kill9()
                start(load, how)
            else:
                load.life()
            how(load)
            load.after_death()
            start(load, None)
            load.check_topology()
            if cycle % SETTLE_EVERY == 0 or cycle == CYCLES:
                load.settle()
        ledger = load.ledger
        print(f"{ledger.confirmed} confirmed, {ledger.delivered} delivered, {ledger.redelivered} of them again, "
              f"{load.counts['proven']} acks proven, {load.counts['commits']} commits")
        assert ledger.confirmed > 50 * CYCLES, "there was load"
