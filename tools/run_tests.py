#!/usr/bin/python3
"""Runs the tests, counts them one by one, and ends with the line `N passed, N failed, N skipped`.

    tools/run_tests.py                  everything, as `make test` does
    tools/run_tests.py unit journey     the named suites (what they need is built first)
    tools/run_tests.py check            build, unit, structure and 20 simulator seeds
    tools/run_tests.py --list           the names of the suites
    tools/run_tests.py --seeds 5000 sim the simulator with more seeds

Five build directories: build/ (gcc, the binary under test), build-clang/, build-asan/ (address and undefined
behaviour), build-tsan/ (threads), build-fuzz/. A folder of tests/ with test_*.py in it is a suite of its own name, and
so is a file tests/NAME_test.py.

One PostgreSQL and one Kafka serve a whole run, started when the first suite comes that uses them: the unit tests (not
those of `check`), and whatever takes the fixtures of tests/conftest.py. BARID_TEST_POSTGRES=URL and
BARID_TEST_KAFKA=HOST:PORT name servers that run already. Where there is none, what needs it is skipped by name.
"""
import argparse
import concurrent.futures
import functools
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests"))

from support.services import ServiceMissing, Services  # noqa: E402

PYTHON = "/usr/bin/python3"
MESON = "/usr/bin/meson" if os.path.exists("/usr/bin/meson") else "meson"
JOBS = int(os.environ.get("JOBS", os.cpu_count() or 2))
OUTPUT_LINES = 60  # of a failing test

# Warnings are errors in the first two; instrumented code makes gcc see overflows that are not there.
SANITIZED = ["-Dtests=true", "-Dwerror=false", "-Dbuildtype=debug", "-Doptimization=1", "-Db_lundef=false"]
BUILDS = {
    "build": ("gcc", ["-Dtests=true", "-Dwerror=true"]),
    "build-clang": ("clang", ["-Dtests=true", "-Dwerror=true"]),
    "build-asan": ("gcc", ["-Db_sanitize=address,undefined"] + SANITIZED),
    "build-tsan": ("clang", ["-Db_sanitize=thread"] + SANITIZED),
    "build-fuzz": ("clang", ["-Dfuzz=true", "-Db_sanitize=address,undefined"] + SANITIZED),
}
SANITIZER_ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:strict_string_checks=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1",
}
SLOWER = {"build": 1, "build-clang": 1, "build-asan": 4, "build-tsan": 8}  # time limits are multiplied by this
SUITE_SECONDS = 1800
FUZZ_RUNS = 20000  # a target; the same inputs every time, so that a change fails and not a day
FUZZ_SECONDS = int(os.environ.get("FUZZ_SECONDS", 0))  # instead: so long, with new inputs each time
SEEDS_ALL, SEEDS_CHECK, SEEDS_SANITIZED = 500, 20, 30


class Result:
    def __init__(self):
        self.passed = 0
        self.failed = []   # (name, output)
        self.skipped = []  # "name: what is missing"

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped


def run(command, seconds, env=None, cwd=ROOT):
    """(exit status, output); the whole process group is ended when the time is up, and the status is then None."""
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=cwd,
                                   env={**os.environ, **services.environment(), **(env or {})},
                                   start_new_session=True)
    except OSError as e:
        return 127, str(e)
    try:
        out = process.communicate(timeout=seconds)[0]
        status = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out = process.communicate()[0] + f"\n(no end after {seconds} s)\n".encode()
        status = None
    return status, out.decode(errors="replace")


def tail(text):
    lines = text.rstrip().splitlines()
    return "\n".join((["…"] if len(lines) > OUTPUT_LINES else []) + lines[-OUTPUT_LINES:])


# --- PostgreSQL and Kafka, one of each a run ---

services = Services()


def with_services(names, suite):
    """Starts what the suite uses and what is not yet running, and says what cannot be had."""
    missing = Result()
    for name in names:
        try:
            getattr(services, name)()
        except ServiceMissing as e:
            missing.skipped.append(f"{name}: {e}")
    result = suite()
    result.add(missing)
    return result


def services_of(paths):
    """The fixtures of conftest.py that these tests take: those that are servers."""
    text = ""
    for path in paths:
        files = glob.glob(os.path.join(path, "**", "*.py"), recursive=True) if os.path.isdir(path) else [path]
        for file in files:
            with open(file, encoding="utf-8") as f:
                text += "".join(re.findall(r"^ *def \w+\(.*?\):", f.read(), re.M | re.S))
    words = set(re.findall(r"\w+", text))
    return [name for name, fixtures in (("postgres", {"postgres", "database", "bouncer"}), ("kafka", {"kafka"}))
            if words & fixtures]


# --- building ---

built = {}


def set_up(directory):
    compiler, options = BUILDS[directory]
    there = os.path.exists(os.path.join(ROOT, directory, "build.ninja"))
    return run([MESON, "configure" if there else "setup", directory] + options, 300, {"CC": compiler})


def build(directory):
    """Builds once; gives the Result of the first time, and whether there is something to run."""
    if directory in built:
        return Result(), built[directory]
    result = Result()
    status, out = set_up(directory)
    if status == 0:
        status, out = run(["ninja", "-C", directory, "-j", str(JOBS)], SUITE_SECONDS)
    built[directory] = status == 0
    if status == 0:
        result.passed = 1
    else:
        result.failed.append((f"{directory} compiles", out))
    return result, built[directory]


def with_build(directory, name, suite):
    result, ready = build(directory)
    if ready:
        result.add(suite(directory))
    else:
        result.skipped.append(f"{name}: {directory} does not compile")
    return result


# --- unit tests: cmocka, counted by the TAP they print ---

TAP = re.compile(r"^(not ok|ok) \d+ (?:- (.*)|# SKIP ?(.*))$", re.M)
PLAN = re.compile(r"^1\.\.(\d+)$", re.M)


def count_tap(name, status, out):
    result = Result()
    seen = TAP.findall(out)
    planned = sum(int(n) for n in PLAN.findall(out))
    for verdict, test, skipped in seen:
        if not test:  # cmocka says "not ok 3 # SKIP name"
            result.skipped.append(f"{name}: {skipped}")
        elif verdict == "ok":
            result.passed += 1
        else:
            result.failed.append((f"{name}: {test}", out))
    if planned == 0 and status == 77:
        result.skipped.append(f"{name}: {out.strip().splitlines()[-1] if out.strip() else 'not possible here'}")
    elif planned == 0 and status == 0:
        result.passed += 1
    elif len(seen) < planned or status != 0 and not result.failed:
        told = "no end in time" if status is None else f"exit status {status}"
        result.failed.append((f"{name}: {told} after {len(seen)} of {planned} tests", out))
    return result


# What waits for servers most of its time is run as gcc and the sanitizers build it; that clang builds it, too, is enough.
SLOW_WITH_SERVERS = re.compile(r"^kafka_|_postgres$")


def unit_tests(directory):
    status, out = run([MESON, "introspect", "--tests", directory], 60)
    tests = json.loads(out) if status == 0 else []
    tests = [t for t in tests if any(suite.split(":")[-1] == "unit" for suite in t["suite"])]
    return [t for t in tests if directory != "build-clang" or not SLOW_WITH_SERVERS.search(t["name"])]


def fixed_addresses():
    """Thread sanitizer does not bear the address randomisation of recent kernels."""
    wrapper = ["setarch", os.uname().machine, "-R"]
    try:
        return wrapper if subprocess.run(wrapper + ["true"], capture_output=True).returncode == 0 else []
    except OSError:
        return []


def run_unit_tests(directory):
    wrapper = fixed_addresses() if directory == "build-tsan" else []

    def one(test):
        env = {**test["env"], **SANITIZER_ENVIRONMENT, "CMOCKA_MESSAGE_OUTPUT": "tap"}
        seconds = max(test["timeout"], 30) * SLOWER[directory]
        return count_tap(test["name"], *run(wrapper + test["cmd"], seconds, env, test["workdir"] or ROOT))

    result = Result()
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        for part in pool.map(one, unit_tests(directory)):
            result.add(part)
    if result.passed + len(result.failed) == 0:
        result.skipped.append(f"unit tests: none in {directory}")
    return result


# --- the simulator: one seed is one test ---

SIM_VERDICT = re.compile(r"^(\d+) passed, (\d+) failed, \d+ skipped$", re.M)


def count_sim(status, out):
    result = Result()
    verdict = SIM_VERDICT.search(out)
    if not verdict or (status == 0) != (verdict.group(2) == "0"):
        result.failed.append((f"the simulator ended with exit status {status}", out))
        return result
    result.passed = int(verdict.group(1))
    told = dict(re.findall(r"^(seed \d+) failed: (.*)$", out, re.M))
    for i in range(int(verdict.group(2))):
        name = list(told)[i] if i < len(told) else f"a seed that was not named ({i})"
        result.failed.append((name, told.get(name, "")))
    return result


def simulate(directory, seeds):
    result = Result()
    simulator = os.path.join(ROOT, directory, "tests", "sim", "sim")
    if not os.path.exists(simulator):
        result.skipped.append(f"simulator: {directory}/tests/sim/sim is not built")
        return result
    return count_sim(*run([simulator, "--seeds", str(seeds)], SUITE_SECONDS, SANITIZER_ENVIRONMENT))


# --- fuzzing: one target is one test; what makes it fail is kept in build-fuzz/found ---

def fuzz(directory):
    result = Result()
    found = os.path.join(ROOT, directory, "found")
    os.makedirs(found, exist_ok=True)
    for source in sorted(glob.glob(os.path.join(ROOT, "tests", "fuzz", "fuzz_*.c"))):
        name = os.path.splitext(os.path.basename(source))[0]
        corpus = os.path.join(ROOT, "tests", "fuzz", name[len("fuzz_"):])
        with tempfile.TemporaryDirectory(prefix="barid-fuzz-") as fresh:
            effort = [f"-max_total_time={FUZZ_SECONDS}"] if FUZZ_SECONDS else ["-seed=1", f"-runs={FUZZ_RUNS}"]
            command = [os.path.join(ROOT, directory, "tests", "fuzz", name), *effort,
                       "-timeout=10", "-max_len=4096", f"-artifact_prefix={found}/{name}-", fresh, corpus]
            status, out = run(command, FUZZ_SECONDS + 300, SANITIZER_ENVIRONMENT)
        if status == 0:
            result.passed += 1
        else:
            result.failed.append((name, out))
    return result


def fuzz_if_possible():
    if shutil.which("clang"):
        return with_build("build-fuzz", "fuzz", fuzz)
    result = Result()
    result.skipped.append("fuzz: there is no clang")
    return result


# --- pytest ---

def read_junit(path):
    result = Result()
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        name = f"{case.get('classname', '')}::{case.get('name')}".lstrip(":")
        problems = [e for e in case if e.tag in ("failure", "error")]
        skips = [e for e in case if e.tag == "skipped"]
        if problems:
            result.failed.append((name, "\n".join((e.text or e.get("message") or "") for e in problems)))
        elif skips:
            result.skipped.append(f"{name}: {skips[0].get('message')}")
        else:
            result.passed += 1
    return result


def run_pytest(name, paths, directory):
    reports = os.path.join(ROOT, "build", "test-results")
    os.makedirs(reports, exist_ok=True)
    report = os.path.join(reports, f"{name}.xml")
    if os.path.exists(report):
        os.remove(report)
    env = {**SANITIZER_ENVIRONMENT, "BARID": os.path.join(ROOT, directory, "barid"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"] + paths
    status, out = run(command, SUITE_SECONDS, env)
    if not os.path.exists(report):
        result = Result()
        result.failed.append((f"{name}: pytest gave no report (exit status {status})", out))
        return result
    result = read_junit(report)
    if status not in (0, 1, 5) or status == 1 and not result.failed:
        result.failed.append((f"{name}: pytest ended with {status}", out))
    if name == "structure":
        print("".join(f"  {line.strip()}\n" for line in out.splitlines() if "median" in line), end="")
    return result


def pytest_suites():
    found = {}
    for path in sorted(glob.glob(os.path.join(ROOT, "tests", "*"))):
        name = os.path.basename(path)
        if name.endswith("_test.py"):
            found[name[:-len("_test.py")]] = [path]
        elif glob.glob(os.path.join(path, "**", "test_*.py"), recursive=True):
            found[name] = [path]
        elif name.startswith("test_") and name.endswith(".py"):
            found[name[len("test_"):-len(".py")]] = [path]
    return found


# --- the suites ---

NEEDS_NO_BINARY = {"structure", "runner"}


def all_suites(seeds, alone=False):
    """Name -> function that runs the suite and gives its Result, in the order in which they run. Alone: the unit tests
    do without servers, and skip what needs them."""
    suites = {}

    def add(name, directory, work, needs=()):
        suites[name] = lambda: with_build(directory, name, lambda built: with_services(needs, lambda: work(built)))

    both = () if alone else ("postgres", "kafka")
    add("unit", "build", run_unit_tests, both)
    add("sim", "build", lambda directory: simulate(directory, seeds or SEEDS_ALL))
    add("clang", "build-clang", run_unit_tests, both)
    add("asan", "build-asan", run_unit_tests, both)
    add("asan-sim", "build-asan", lambda directory: simulate(directory, SEEDS_SANITIZED))
    add("tsan", "build-tsan", run_unit_tests, both)
    suites["fuzz"] = fuzz_if_possible
    for name, paths in pytest_suites().items():
        if name in NEEDS_NO_BINARY:
            suites[name] = functools.partial(run_pytest, name, paths, "build")
        else:
            add(name, "build", functools.partial(run_pytest, name, paths), services_of(paths))
        if name == "journey":
            add("asan-journey", "build-asan", functools.partial(run_pytest, "asan-journey", paths), services_of(paths))
    return suites


def report(name, result, seconds):
    print(f"  {result.passed} passed, {len(result.failed)} failed, {len(result.skipped)} skipped  ({seconds:.1f} s)")
    for test, out in result.failed:
        print(f"\n  FAILED {name}: {test}")
        print("    " + tail(out).replace("\n", "\n    "))
    for what in result.skipped:
        print(f"  skipped {what}")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", help="suites by name; none means all")
    parser.add_argument("--seeds", type=int, help="seeds of the simulator")
    parser.add_argument("--list", action="store_true", help="list the suites")
    arguments = parser.parse_args()
    check = arguments.suites == ["check"]
    if check:
        arguments.suites, arguments.seeds = ["unit", "structure", "sim"], arguments.seeds or SEEDS_CHECK
    suites = all_suites(arguments.seeds, alone=check)
    if arguments.list:
        print("\n".join(suites))
        return 0
    unknown = [name for name in arguments.suites if name not in suites]
    if unknown:
        print(f"no such suite: {', '.join(unknown)}; there are {', '.join(suites)}", file=sys.stderr)
        return 2

    total = Result()
    with services:
        for name in arguments.suites or suites:
            print(f"== {name}", flush=True)
            began = time.monotonic()
            result = suites[name]()
            report(name, result, time.monotonic() - began)
            total.add(result)
    print(f"\n{total.passed} passed, {len(total.failed)} failed, {len(total.skipped)} skipped")
    return 1 if total.failed else 0


if __name__ == "__main__":
    os.chdir(ROOT)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what we started ends, too
    sys.exit(main())
