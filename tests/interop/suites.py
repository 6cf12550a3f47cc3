"""Test suites that others wrote for their AMQP clients, as their packages ship them, run unpatched against barid.

A suite is fetched (registry.py), run in a network namespace of its own (namespace.py) in which barid listens on the
usual ports, and read: name of the test -> (verdict, text). names/NAME.txt lists the tests by name, one a line; what
does not apply says why after a bar:

    connect at all
    TestTheOtherBroker | needs the program that only that broker has
"""
import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree

import certificates
import registry
from namespace import Namespace, enter
from support.server import Server

NAMES = os.path.join(registry.HERE, "names")
PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
RUN_SECONDS = 420


@contextlib.contextmanager
def broker(tls=False):
    """What a command must begin with to find barid on ports 5672 and 15672 of localhost; with `tls` on 5671 too, and
    then 15672 speaks HTTPS. With INTEROP_NAMESPACE=PID it finds what listens in that process's namespace, to see what
    another broker does."""
    if os.environ.get("INTEROP_NAMESPACE"):
        yield enter(os.environ["INTEROP_NAMESPACE"])
        return
    args = ["--insecure-bind"]
    if tls:
        pem = certificates.directory()
        args += ["--amqps", "[::]:5671", "--tls-cert", pem + "/server_certificate.pem", "--tls-key",
                 pem + "/server_key.pem", "--tls-ca", pem + "/ca_certificate.pem"]
    namespace = Namespace()
    try:
        with Server(amqp="[::]:5672", management="127.0.0.1:15672", wrapper=namespace.command(), args=args):
            yield namespace.command()
    finally:
        namespace.close()


def run(command, cwd, env=None, seconds=RUN_SECONDS):
    """Its output; what it exits with is told by the tests it reports."""
    process = subprocess.Popen(command, cwd=cwd, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        return process.communicate(timeout=seconds)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        return process.communicate()[0].decode(errors="replace") + f"\n(no end after {seconds} s)\n"


def numbered(results):
    """A dict of (name, result) pairs, in which a name that comes again gets a number."""
    seen = {}
    for name, result in results:
        n, unique = 1, name
        while unique in seen:
            n += 1
            unique = f"{name} ({n})"
        seen[unique] = result
    return seen


# --- one function a suite: fetch it, run it, read what it says ---

def amqplib():
    where = registry.npm("amqplib-0.10.9", "amqplib@0.10.9", "mocha@9.2.2", "claire@0.4.1")
    with broker() as inside, tempfile.TemporaryDirectory() as out:
        text = run([*inside, "node", os.path.join(where, "node_modules", "mocha", "bin", "mocha"), "--check-leaks", "-u",
                    "tdd", "--exit", "--reporter", "json", "--reporter-option", f"output={out}/report", "test/"],
                   os.path.join(where, "node_modules", "amqplib"))
        return read_mocha(os.path.join(out, "report"), text)


def read_mocha(path, text):
    # Version 9 writes its report to the standard output whatever it is told.
    if os.path.exists(path):
        with open(path, encoding="utf-8") as f:
            text = f.read()
    begin, end = text.find('{\n  "stats"'), text.rfind("}")
    report = json.loads(text[begin:end + 1]) if begin >= 0 else {"tests": []}

    def verdict(test):
        return FAILED if test["err"] else PASSED if "duration" in test else SKIPPED

    return numbered((t["fullTitle"], (verdict(t), t["err"].get("stack", ""))) for t in report["tests"]), text


def amqp091_go():
    tests, directory = registry.go_tests("amqp091-go-1.16.0", "github.com/rabbitmq/amqp091-go", "v1.16.0", "integration")
    with broker() as inside:
        return read_go(run([*inside, tests, "-test.v", f"-test.timeout={RUN_SECONDS - 10}s"], directory,
                           {"AMQP_URL": "amqp://guest:guest@127.0.0.1:5672/"}))


def read_go(text):
    verdicts = {"PASS": PASSED, "FAIL": FAILED, "SKIP": SKIPPED}
    results, lines = [], []
    for line in text.splitlines():
        said = re.match(r"--- (PASS|FAIL|SKIP): (\S+) ", line)
        if said:
            results.append((said.group(2), (verdicts[said.group(1)], "\n".join(lines))))
            lines = []
        elif line.startswith("=== RUN") and "/" not in line:
            lines = []
        else:
            lines.append(line)
    return numbered(results), text


def run_pytest(directory, paths, env, tls=False):
    python = registry.python()
    with broker(tls) as inside, tempfile.TemporaryDirectory() as out:
        text = run([*inside, python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "60",
                    f"--junitxml={out}/report.xml", *paths], directory,
                   {"PYTHONDONTWRITEBYTECODE": "1", **env})
        return read_junit(os.path.join(out, "report.xml")), text


def read_junit(path):
    results = []
    if not os.path.exists(path):
        return {}
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        failed = [e.text or e.get("message") or "" for e in case if e.tag in ("failure", "error")]
        skipped = [e for e in case if e.tag == "skipped"]
        name = f"{case.get('classname').split('.', 1)[-1]}::{case.get('name')}"
        results.append((name, (FAILED if failed else SKIPPED if skipped else PASSED, "\n".join(failed))))
    return numbered(results)


def py_amqp():
    package = registry.source("amqp", "5.4.2")
    # The package leaves out the certificates that its tests look for.
    there, tls = os.path.join(package, "t", "certs"), certificates.directory()
    if not os.path.exists(there):
        shutil.copytree(tls, there)
        for what in ("key", "certificate"):  # a client's that the authority did not sign
            with open(os.path.join(there, f"client_{what}_broken.pem"), "w", encoding="ascii") as f:
                f.write("broken\n")
    return run_pytest(package, ["t/integration"], {}, tls=True)


def kombu():
    return run_pytest(registry.source("kombu", "5.7.0"), ["t/integration/test_py_amqp.py"], {})


def amqpstorm():
    tls = certificates.directory()
    env = {"AMQP_HOST": "localhost", "AMQP_USERNAME": "guest", "AMQP_PASSWORD": "guest",
           "AMQP_URI": "amqp://guest:guest@localhost:5672/%2F", "AMQP_HTTP_URL": "https://localhost:15672", "REQUESTS_CA_BUNDLE": tls + "/ca_certificate.pem",
           "AMQP_SSL_URI": "amqps://guest:guest@localhost:5671/%2F", "AMQP_SSL_HOST": "localhost",
           "AMQP_CAFILE": tls + "/ca_certificate.pem", "AMQP_CERTFILE": tls + "/client_certificate.pem",
           "AMQP_KEYFILE": tls + "/client_key.pem"}
    return run_pytest(registry.source("amqpstorm", "3.1.4"), ["amqpstorm/tests/functional"], env, tls=True)


SUITES = {"amqplib": amqplib, "amqp091-go": amqp091_go, "py-amqp": py_amqp, "kombu": kombu, "amqpstorm": amqpstorm}
# Run side by side: the first sleeps most of its time.
LANES = [["amqp091-go"], ["amqplib", "py-amqp", "kombu", "amqpstorm"]]


def names(suite):
    """[(name of a test, why it does not apply or "")], as recorded."""
    with open(os.path.join(NAMES, suite + ".txt"), encoding="utf-8") as f:
        for line in f.read().splitlines():
            name, _, reason = line.partition(" | ")
            yield name, reason
