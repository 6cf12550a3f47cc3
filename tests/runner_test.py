"""The test runner counts what happened, above all when a test program does not come to its end."""
import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tools"))

import run_tests  # noqa: E402


def counts(result):
    return result.passed, len(result.failed), len(result.skipped)


@pytest.mark.parametrize("status,out,expected", [
    (0, "1..2\nok 1 - a\nok 2 - b\n# ok - tests\n", (2, 0, 0)),
    (1, "1..3\nok 1 - a\nnot ok 2 - b\n# 0x1 != 0x2\nok 3 - c\n# not ok - tests\n", (2, 1, 0)),
    (0, "1..2\nok 1 - a\nnot ok 2 # SKIP b\n", (1, 0, 1)),
    (0, "1..2\nok 1 - a\n", (1, 1, 0)),                          # left early, though content
    (-6, "1..2\nok 1 - a\n", (1, 1, 0)),                         # killed
    (None, "1..2\nok 1 - a\n", (1, 1, 0)),                       # no end in time
    (1, "1..1\nok 1 - a\nleak of 8 bytes\n", (1, 1, 0)),         # a sanitizer at exit
    (1, "1..1\nnot ok 0 - t [  FAILED  ] GROUP SETUP\n", (0, 1, 0)),
    (0, "1..1\nok 1 - a\n1..1\nok 1 - b\n", (2, 0, 0)),          # two groups in one program
    (0, "1..1\nok 1 - a\n1..1\n", (1, 1, 0)),
    (0, "says nothing of TAP\n", (1, 0, 0)),
    (3, "says nothing of TAP\n", (0, 1, 0)),
    (127, "", (0, 1, 0)),
    (77, "needs a kernel that can\n", (0, 0, 1)),
])
def test_unit_tests_are_counted_one_by_one(status, out, expected):
    assert counts(run_tests.count_tap("t", status, out)) == expected


@pytest.mark.parametrize("status,out,expected", [
    (0, "20 passed, 0 failed, 0 skipped\n", (20, 0, 0)),
    (1, "ts=1 level=info\nseed 7 failed: lost a message; replay with: sim --seed 7\n18 passed, 2 failed, 0 skipped\n", (18, 2, 0)),
    (-11, "", (0, 1, 0)),
    (1, "20 passed, 0 failed, 0 skipped\nleak of 8 bytes\n", (0, 1, 0)),
    (0, "18 passed, 2 failed, 0 skipped\n", (0, 1, 0)),
])
def test_simulator_seeds_are_counted(status, out, expected):
    result = run_tests.count_sim(status, out)
    assert counts(result) == expected
    if len(result.failed) == 2:
        assert result.failed[0] == ("seed 7", "lost a message; replay with: sim --seed 7")


def test_a_program_that_hangs_is_ended_with_all_it_started():
    status, out = run_tests.run(["sh", "-c", "echo begun; sleep 1000 & sleep 1000"], 0.5)
    assert status is None
    assert "begun" in out and "no end" in out


def test_pytest_reports_are_counted(tmp_path):
    (tmp_path / "test_some.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert False\n"
        "def test_skipped(): pytest.skip('no browser')\n"
        "@pytest.fixture\n"
        "def broken(): raise RuntimeError\n"
        "def test_error(broken): pass\n")
    report = tmp_path / "report.xml"
    subprocess.run([run_tests.PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}",
                    str(tmp_path)], capture_output=True)
    result = run_tests.read_junit(report)
    assert counts(result) == (1, 2, 1)
    assert "no browser" in result.skipped[0]


def test_a_suite_names_the_servers_it_uses_by_its_fixtures(tmp_path):
    (tmp_path / "test_none.py").write_text("def test_a(tmp_path):\n    kafka = postgres = None\n")
    assert run_tests.services_of([str(tmp_path)]) == []
    (tmp_path / "test_one.py").write_text("def test_a(tmp_path,\n           database):\n    pass\n")
    assert run_tests.services_of([str(tmp_path)]) == ["postgres"]
    (tmp_path / "test_both.py").write_text("class TestIt:\n    def test_a(self, kafka): pass\n")
    assert run_tests.services_of([str(tmp_path)]) == ["postgres", "kafka"]


def test_what_is_missing_is_a_skip_by_name_and_the_suite_runs(monkeypatch):
    def missing():
        raise run_tests.ServiceMissing("no such thing here")

    monkeypatch.setattr(run_tests.services, "postgres", missing)
    result = run_tests.with_services(["postgres"], lambda: run_tests.count_tap("t", 0, "1..1\nok 1 - a\n"))
    assert counts(result) == (1, 0, 1)
    assert result.skipped == ["postgres: no such thing here"]


def test_the_last_line_and_the_exit_status_are_the_verdict():
    done = subprocess.run([run_tests.PYTHON, os.path.join(ROOT, "tools", "run_tests.py"), "no-such-suite"],
                          capture_output=True, text=True)
    assert done.returncode == 2
    assert "no-such-suite" in done.stderr


@pytest.mark.parametrize("failures,status", [(0, 0), (2, 1)])
def test_the_verdict_sums_all_suites(monkeypatch, capsys, failures, status):
    def suite():
        result = run_tests.Result()
        result.passed = 3
        result.failed = [(f"test {i}", "what it printed") for i in range(failures)]
        result.skipped = ["t: why"]
        return result
    monkeypatch.setattr(run_tests, "all_suites", lambda seeds, alone=False: {"one": suite, "two": suite})
    monkeypatch.setattr(sys, "argv", ["run_tests.py"])
    assert run_tests.main() == status
    lines = capsys.readouterr().out.rstrip("\n").split("\n")
    assert lines[-1] == f"6 passed, {2 * failures} failed, 2 skipped"
    assert ("    what it printed" in lines) == (failures > 0)
