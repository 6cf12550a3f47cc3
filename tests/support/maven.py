"""What is fetched once from Maven Central and kept in ${XDG_CACHE_HOME:-~/.cache}/barid, one folder a thing.

    folder = kept("kafka-4.1.2", fetch)      # fetch(part) fills the folder `part`; raises Missing when it cannot be had
    maven("dependency:copy", …)              # Maven, quietly
    folder = jars("kafka", POM, "kafka-tools")   # the jars a pom asks for, under the version of the artifact
"""
import fcntl
import os
import re
import shutil
import subprocess

FETCH_SECONDS = 900


class Missing(Exception):
    """What cannot be had here, and why."""


def kept(name, fetch):
    """The folder of that name; made by `fetch` when it is not there yet. One process fetches, others wait for it."""
    home = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "barid")
    folder = os.path.join(home, name)
    os.makedirs(home, exist_ok=True)
    with open(os.path.join(home, f"{name.split('-')[0]}.lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.isdir(folder):
            part = f"{folder}.part"
            shutil.rmtree(part, ignore_errors=True)
            os.makedirs(part)
            fetch(part)
            os.rename(part, folder)
    return folder


def maven(what, *args):
    if not shutil.which("mvn"):
        raise Missing(f"no mvn (maven) to fetch {what} with")
    got = subprocess.run(["mvn", "-q", "-B", *args], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                         timeout=FETCH_SECONDS, check=False)
    if got.returncode != 0:
        raise Missing(f"{what} cannot be fetched: {(got.stdout + got.stderr).strip()[:500]}")


def jars(name, pom, artifact):
    """The folder with the jars of a pom's dependencies; $NAME_JARS names another."""
    def fetch(folder):
        maven(name, "-f", pom, "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}")

    with open(pom, encoding="utf-8") as f:
        version = re.search(rf"{artifact}</artifactId>\s*<version>([^<]+)", f.read()).group(1)
    return os.environ.get(f"{name.upper()}_JARS") or kept(f"{name}-{version}", fetch)
