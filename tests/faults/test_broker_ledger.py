"""The broker's ledger must be worth something: each way to break a promise is noticed."""
import pytest

from support.broker_ledger import ACKED, GIVEN_BACK, REJECTED, Ledger, Queue

M1, M2 = (1, 1), (1, 2)


@pytest.fixture
def ledger():
    made = Ledger([Queue("q", dead_letters="d"), Queue("d", ordered=False)])
    for name in (M1, M2):
        made.sent(name, [("q", 0)])
        made.was_confirmed(name, [("q", 0)])
    return made


def deliver(ledger, name, queue="q", again=False, how=ACKED):
    ledger.was_delivered(queue, name, again)
    if how:
        ledger.settled(queue, name, how)


def test_what_is_right_is_accepted(ledger):
    deliver(ledger, M1, how=GIVEN_BACK)
    deliver(ledger, M2, how=REJECTED)
    deliver(ledger, M1, again=True, how=None)
    ledger.died()
    deliver(ledger, M1, again=True)
    ledger.was_proven("q", M1)
    deliver(ledger, M2, again=True, how=REJECTED)
    deliver(ledger, M2, "d")
    ledger.check_settled({1: 2})


def lost(ledger):
    deliver(ledger, M2)
    ledger.check_settled({1: 2})


def gone_without_an_ack(ledger):
    deliver(ledger, M1, how=REJECTED)
    deliver(ledger, M2)
    ledger.check_settled({1: 2})


def given_back_and_gone(ledger):
    deliver(ledger, M1)
    deliver(ledger, M2)
    ledger.died()
    deliver(ledger, M2, again=True, how=GIVEN_BACK)
    ledger.check_settled({1: 2})


def twice(ledger):
    deliver(ledger, M1, how=None)
    deliver(ledger, M1, again=True)


def after_its_ack(ledger):
    deliver(ledger, M1)
    deliver(ledger, M1, again=True)


def after_its_proven_ack(ledger):
    deliver(ledger, M1)
    ledger.was_proven("q", M1)
    ledger.died()
    deliver(ledger, M1, again=True)


def unmarked(ledger):
    deliver(ledger, M1)
    ledger.died()
    deliver(ledger, M1)


def out_of_order(ledger):
    deliver(ledger, M2)
    deliver(ledger, M1)


def never_sent(ledger):
    deliver(ledger, (1, 7))


def back_from_the_dead(ledger):
    deliver(ledger, M1, how=REJECTED)
    deliver(ledger, M1, "d")
    ledger.died()
    deliver(ledger, M1, again=True)


def in_two_places(ledger):
    deliver(ledger, M1, how=None)
    deliver(ledger, M1, "d")


def long_ago(ledger):
    deliver(ledger, M1)
    deliver(ledger, M2)
    ledger.check_settled({1: 2})
    ledger.died()
    deliver(ledger, M1, again=True)


@pytest.mark.parametrize("broken", [lost, gone_without_an_ack, given_back_and_gone, twice, after_its_ack, after_its_proven_ack, unmarked,
                                    out_of_order, never_sent, back_from_the_dead, in_two_places, long_ago])
def test_a_broken_promise_is_noticed(ledger, broken):
    with pytest.raises(AssertionError, match="message"):
        broken(ledger)
