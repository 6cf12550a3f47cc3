"""Each test of others' suites is a test here, by its name. A suite runs once, with the first that asks for it."""
import threading

import pytest
from namespace import Impossible
from registry import Missing
import suites

RECORDED = {suite: list(suites.names(suite)) for suite in suites.SUITES}


class Runs:
    """The suites that are asked for, run in lanes side by side."""

    def __init__(self, wanted):
        self.done = {suite: threading.Event() for suite in wanted}
        self.results = {}  # suite -> (results, output), or what went wrong
        for lane in suites.LANES:
            threading.Thread(target=self._run, args=([s for s in lane if s in wanted],), daemon=True).start()

    def _run(self, lane):
        for suite in lane:
            try:
                self.results[suite] = suites.SUITES[suite]()
            except BaseException as e:
                self.results[suite] = e
            self.done[suite].set()

    def of(self, suite):
        self.done[suite].wait()
        result = self.results[suite]
        if isinstance(result, (Missing, Impossible)):
            pytest.skip(f"{suite}: {result}")
        if isinstance(result, BaseException):
            raise result
        return result


@pytest.fixture(scope="session")
def runs(request):
    return Runs({item.callspec.params["suite"] for item in request.session.items
                 if "suite" in getattr(item, "fixturenames", ()) and hasattr(item, "callspec")})


@pytest.mark.parametrize("suite", suites.SUITES)
def test_every_test_is_recorded(runs, suite):
    results, text = runs.of(suite)
    assert results, text[-3000:]
    assert sorted(set(results) - {name for name, _ in RECORDED[suite]}) == []


@pytest.mark.parametrize("suite, name", [pytest.param(suite, name, id=f"{suite}: {name}") for suite in RECORDED
                                         for name, reason in RECORDED[suite] if not reason])
def test_of(runs, suite, name):
    results, text = runs.of(suite)
    assert name in results, f"did not run; the suite said:\n{text[-3000:]}"
    verdict, why = results[name]
    assert verdict == suites.PASSED, f"{verdict}\n{why[-4000:]}"
