"""Gets clients, their test suites and programs from the registries that pip, npm, go and mvn are set up for.

Everything goes to build/interop/, under a name that says its version, and is made only once: into a directory beside
it which gets that name when it is complete, so that an interrupted or a parallel run leaves nothing half done. What is
not there (a tool, a registry that does not answer) is Missing, with a text that names it.
"""
import fcntl
import hashlib
import os
import shutil
import subprocess
import tarfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CACHE = os.path.join(ROOT, "build", "interop")
REQUIREMENTS = os.path.join(HERE, "requirements.txt")
FETCH_SECONDS = 300


class Missing(Exception):
    """Something that is fetched or installed is not to be had; the text names it."""


def need(*tools):
    for tool in tools:
        if not shutil.which(tool):
            raise Missing(f"{tool} is not installed")


def fetch(what, command, cwd, env=None):
    """Runs a command that speaks to a registry."""
    try:
        done = subprocess.run(command, cwd=cwd, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=FETCH_SECONDS)
    except subprocess.TimeoutExpired as e:
        raise Missing(f"{what}: no end of {command[0]} in {FETCH_SECONDS} s") from e
    if done.returncode != 0:
        raise Missing(f"{what}: " + (done.stderr or done.stdout).strip()[-300:])


def once(name, make):
    """The directory CACHE/name; make(directory) fills it the first time."""
    os.makedirs(CACHE, exist_ok=True)
    path = os.path.join(CACHE, name)
    with open(path + ".lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.exists(path):
            fresh = path + ".new"
            shutil.rmtree(fresh, ignore_errors=True)
            os.makedirs(fresh)
            make(fresh)
            os.rename(fresh, path)
    return path


def python():
    """The interpreter of an environment with requirements.txt in it."""
    with open(REQUIREMENTS, "rb") as f:
        version = hashlib.sha256(f.read()).hexdigest()[:12]

    def make(directory):
        final = os.path.join(CACHE, f"python-{version}")
        fetch("a Python environment", ["/usr/bin/python3", "-m", "venv", "--without-pip", directory], ROOT)
        # Packages go where the environment will be found under its final name.
        packages = os.path.join(directory, "lib", os.listdir(os.path.join(directory, "lib"))[0], "site-packages")
        fetch("the clients from PyPI", ["/usr/bin/python3", "-m", "pip", "install", "-q", "--disable-pip-version-check",
                                       "--target", packages, "-r", REQUIREMENTS], ROOT)
        assert not os.path.exists(final)

    return os.path.join(once(f"python-{version}", make), "bin", "python3")


def source(package, version):
    """The unpacked source distribution of a Python package."""
    def make(directory):
        fetch(f"the source of {package} from PyPI",
              ["/usr/bin/python3", "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
               "--no-binary", ":all:", f"{package}=={version}"], directory)
        archive = next(name for name in os.listdir(directory) if name.endswith(".tar.gz"))
        with tarfile.open(os.path.join(directory, archive)) as tar:
            tar.extractall(directory)
        os.remove(os.path.join(directory, archive))

    path = once(f"{package}-{version}", make)
    return os.path.join(path, os.listdir(path)[0])


def npm(name, *packages):
    """A directory with these packages in its node_modules."""
    def make(directory):
        need("npm", "node")
        fetch(f"{name} from npm", ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error",
                                   "--prefix", directory, *packages], directory)

    return once(name, make)


def go_tests(name, module, version, tags):
    """(the compiled tests of a module, the module's directory)."""
    def make(directory):
        need("go")
        fetch("a Go module", ["go", "mod", "init", "interop"], directory)
        fetch(f"{module} from the Go module proxy", ["go", "get", "-t", f"{module}@{version}"], directory)
        with open(os.path.join(directory, "interop.go"), "w", encoding="ascii") as f:
            f.write(f'package interop\n\nimport _ "{module}"\n')
        fetch(f"the tests of {module}", ["go", "test", "-c", "-tags", tags, "-o", "tests", module], directory)
        fetch("the module's place", ["sh", "-c", f"go list -m -f '{{{{.Dir}}}}' {module} > where"], directory)

    path = once(name, make)
    with open(os.path.join(path, "where"), encoding="utf-8") as f:
        return os.path.join(path, "tests"), f.read().strip()


def maven(name, group, artifact, version):
    """A directory of jars: the artifact and what it depends on."""
    def make(directory):
        need("mvn", "java")
        with open(os.path.join(directory, "pom.xml"), "w", encoding="ascii") as f:
            f.write(f"<project><modelVersion>4.0.0</modelVersion><groupId>interop</groupId><artifactId>{name}</artifactId>"
                    f"<version>1</version><packaging>pom</packaging><dependencies><dependency><groupId>{group}</groupId>"
                    f"<artifactId>{artifact}</artifactId><version>{version}</version></dependency></dependencies></project>")
        fetch(f"{artifact} from Maven Central", ["mvn", "-q", "-B", "dependency:copy-dependencies",
                                                 "-DoutputDirectory=" + directory], directory)

    return once(name, make)
