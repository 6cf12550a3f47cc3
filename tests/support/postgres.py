"""A PostgreSQL of a test's own, made from Debian's binaries, and a PgBouncer before it.

    with Postgres() as postgres:                     # about a second
        url = postgres.create_database()             # postgresql://barid@127.0.0.1:PORT/t1_…, empty
        postgres.execute("create table a (n int)", url=url)
        postgres.kill()                              # -9, the postmaster and all its processes
        postgres.start()
        with PgBouncer(postgres) as bouncer:
            bouncer.url(postgres.create_database())  # the same database through a pooler in transaction mode

Tests that do not stop it take the fixture `postgres` of conftest.py: one server for all of them, each with databases of
its own; BARID_TEST_POSTGRES=postgresql://… names one that runs already (its user must be a superuser).

A server is gone, and its directory with it, when the program that started it ends, however that ends: a keeper waits
for the end of a pipe. It listens on a free port of 127.0.0.1 and on a socket in its directory; nobody needs a password.
"""
import contextlib
import glob
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.parse
import uuid

from support.ports import free_port
from support.process import eventually

USER = "barid"  # a superuser of the servers made here
ACCOUNT = "postgres"  # whom the processes run as when we are root: neither program wants to be root
START_SECONDS = 30
STOP_SECONDS = 20
PORT_ATTEMPTS = 5  # somebody else may take the port between our look and the server's
SETTINGS = {
    "max_connections": 200,
    "shared_buffers": "64MB",
    "dynamic_shared_memory_type": "mmap",  # in the directory, so that nothing of it stays behind after kill -9
    "timezone": "UTC",
    "log_line_prefix": "%m [%p] %a %d ",
    "log_min_duration_statement": "1s",
    "wal_level": "logical",
    "checkpoint_timeout": "30min",
}

# Ends with the pipe that is its standard input: then it ends the server, and removes its directory.
KEEPER = """
trap '' INT TERM HUP
read line
pid=$(head -1 "$1/data/postmaster.pid" 2>/dev/null) && kill -CONT "$pid" && kill -QUIT "$pid"
for i in $(seq 200); do kill -0 "$pid" 2>/dev/null || break; sleep 0.05; done
shm=$(sed -n '7s/.* //p' "$1/data/postmaster.pid" 2>/dev/null) && [ -n "$shm" ] && ipcrm -m "$shm" 2>/dev/null
rm -rf "$1"
"""


def binaries():
    """The directory of the newest PostgreSQL that Debian has installed, or None."""
    found = [path for path in glob.glob("/usr/lib/postgresql/*/bin") if os.path.exists(path + "/initdb")]
    return max(found, key=lambda path: float(path.split("/")[4]), default=None)


def missing():
    """What a Postgres needs and this machine has not, as a text; or None."""
    if binaries() is None:
        return "no PostgreSQL in /usr/lib/postgresql (Debian: postgresql)"
    try:
        import psycopg2  # noqa: F401
    except ImportError:
        return "no psycopg2 (Debian: python3-psycopg2)"
    if os.geteuid() == 0:
        try:
            pwd.getpwnam(ACCOUNT)
        except KeyError:
            return f"no user {ACCOUNT}, and PostgreSQL does not run as root"
    return None


def missing_bouncer():
    return None if find_bouncer() else "no pgbouncer (Debian: pgbouncer)"


def find_bouncer():
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")


def as_account():
    """Arguments of Popen: as whom the processes run."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam(ACCOUNT)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def own(path):
    if os.geteuid() == 0:
        account = pwd.getpwnam(ACCOUNT)
        os.chown(path, account.pw_uid, account.pw_gid)


def children_of(pid):
    """The processes that have this parent."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, ValueError):
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as f:
                if int(f.read().rsplit(")", 1)[1].split()[1]) == pid:
                    found.append(int(entry))
    return found


def is_running(pid):
    """A zombie does not count: nobody may be there to bury it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class PostgresServer:
    """A server somebody else starts and stops, by its URL."""

    def __init__(self, url):
        self.base = url

    def url(self, database=None):
        """The URL of a database of this server; without a name, of the one that is always there."""
        parts = urllib.parse.urlsplit(self.base)
        path = "/" + urllib.parse.quote(database, safe="") if database else parts.path
        return urllib.parse.urlunsplit(parts._replace(path=path))

    def connect(self, url=None, autocommit=True, **more):
        """A psycopg2 connection."""
        import psycopg2
        connection = psycopg2.connect(url or self.url(), connect_timeout=10, **more)
        connection.autocommit = autocommit
        return connection

    def execute(self, sql, *parameters, url=None):
        """Runs a statement in a connection of its own, committed; gives its rows as tuples, or None."""
        with contextlib.closing(self.connect(url)) as connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return cursor.fetchall() if cursor.description else None

    def value(self, sql, *parameters, url=None):
        """The first column of the first row."""
        return self.execute(sql, *parameters, url=url)[0][0]

    def create_database(self, name="t"):
        """Makes an empty database with a name of its own that begins so; gives its URL."""
        name = f"{name}_{uuid.uuid4().hex[:16]}"
        self.execute(f'create database "{name}"')
        return self.url(name)

    def drop_database(self, url):
        """Also when somebody is still connected."""
        name = urllib.parse.unquote(urllib.parse.urlsplit(url).path.lstrip("/"))
        self.execute(f'drop database if exists "{name}" with (force)')

    @contextlib.contextmanager
    def database(self, name="t"):
        """create_database, dropped at the end."""
        url = self.create_database(name)
        try:
            yield url
        finally:
            self.drop_database(url)

    def terminate_connections(self, like="%", url=None):
        """Ends the connections whose application_name is like this, of one database or of all; gives how many."""
        name = urllib.parse.unquote(urllib.parse.urlsplit(url).path.lstrip("/")) if url else None
        return self.value("select count(pg_terminate_backend(pid)) from pg_stat_activity "
                          "where backend_type = 'client backend' and pid <> pg_backend_pid() "
                          "and application_name like %s and (%s is null or datname = %s)", like, name, name)


class Postgres(PostgresServer):
    """A server of our own. `settings` are added to postgresql.conf. `release`: a folder with the binaries of another
    version (postgres_releases.py)."""

    def __init__(self, fsync=True, settings=None, release=None):
        lacking = missing()
        assert lacking is None, lacking
        super().__init__(None)
        self.directory = tempfile.mkdtemp(prefix="barid-postgres-")
        own(self.directory)
        self.binaries = binaries()
        if release:  # a copy that the account can read
            self.binaries = os.path.join(self.directory, "release", "bin")
            subprocess.run(["cp", "-r", release, os.path.join(self.directory, "release")], check=True)
        self.data = os.path.join(self.directory, "data")
        self.log_path = os.path.join(self.directory, "log")
        self.port = None
        self.process = None
        self.keeper = subprocess.Popen(["sh", "-c", KEEPER, "keeper", self.directory], stdin=subprocess.PIPE,
                                       start_new_session=True)
        try:
            self._init({**SETTINGS, "fsync": "on" if fsync else "off", **(settings or {})})
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _init(self, settings):
        done = subprocess.run([self.binaries + "/initdb", "-D", self.data, "-U", USER, "-A", "trust", "-E", "UTF8",
                               "--locale=C", "--no-sync"], cwd=self.directory,
                              capture_output=True, text=True, check=False, **as_account())
        assert done.returncode == 0, f"initdb: {done.stderr}"
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as f:
            f.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
            f.write(f"listen_addresses = '127.0.0.1'\nunix_socket_directories = '{self.directory}'\n")

    def start(self):
        """Starts it, on the port it had before, and waits until it takes connections."""
        assert not self.is_running(), "it is running"
        attempts = 1 if self.port else PORT_ATTEMPTS
        for attempt in range(attempts):
            port = self.port or free_port()
            with open(self.log_path, "ab") as log:
                self.process = subprocess.Popen([self.binaries + "/postgres", "-D", self.data, "-p", str(port)],
                                                cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                start_new_session=True, **as_account())
            if eventually(lambda: self._is_ready() or self.process.poll() is not None, START_SECONDS, "PostgreSQL starts") \
                    and self.process.poll() is None:
                self.port = port
                self.base = f"postgresql://{USER}@127.0.0.1:{port}/postgres"
                return self
            assert attempt + 1 < attempts, f"PostgreSQL does not start:\n{self.log()[-3000:]}"

    def _is_ready(self):
        with contextlib.suppress(OSError, IndexError, ValueError):
            with open(os.path.join(self.data, "postmaster.pid"), encoding="utf-8") as f:
                lines = f.read().split("\n")
            return int(lines[0]) == self.process.pid and lines[7].strip() == "ready"
        return False

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def url_of_socket(self, database="postgres"):
        """The same over the Unix socket."""
        return f"postgresql://{USER}@/{database}?host={urllib.parse.quote(self.directory, safe='')}&port={self.port}"

    def stop(self, how=signal.SIGINT):
        """Ends it in order; connections are cut (SIGTERM instead waits for them)."""
        if self.is_running():
            self.process.send_signal(how)
            self.process.wait(STOP_SECONDS)

    def processes(self):
        """The postmaster, and then what it started."""
        return [self.process.pid] + children_of(self.process.pid)

    def kill(self):
        """kill -9 of the postmaster and everything it started: as when the power fails, but for what is not yet synced."""
        os.kill(self.process.pid, signal.SIGSTOP)  # it starts nothing more
        pids = self.processes()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(STOP_SECONDS)
        eventually(lambda: not any(map(is_running, pids)), STOP_SECONDS, "the killed processes are gone")

    def restart(self):
        self.stop()
        return self.start()

    def freeze(self):
        """Stops all its processes where they are: connections stay open, nobody answers."""
        os.kill(self.process.pid, signal.SIGSTOP)
        for pid in self.processes()[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def thaw(self):
        for pid in reversed(self.processes()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def close(self):
        """Everything of it is gone afterwards."""
        if self.is_running():
            self.thaw()
            self.stop(signal.SIGQUIT)
        self.keeper.stdin.close()
        self.keeper.wait(STOP_SECONDS)


class PgBouncer:
    """A pooler in transaction mode before a server: LISTEN does not arrive, and the next transaction may have another
    connection. `settings` are added to its [pgbouncer] section."""

    def __init__(self, server, settings=None):
        lacking = missing_bouncer()
        assert lacking is None, lacking
        self.directory = tempfile.mkdtemp(prefix="barid-pgbouncer-")
        own(self.directory)
        self.log_path = os.path.join(self.directory, "log")
        self.settings = {"pool_mode": "transaction", "auth_type": "any", "default_pool_size": 20, "max_client_conn": 500,
                         "unix_socket_dir": "", "listen_addr": "127.0.0.1", **(settings or {})}
        self.server = urllib.parse.urlsplit(server.url())
        self.port = None
        self.process = None
        self.keeper = subprocess.Popen(["sh", "-c", 'trap "" INT TERM HUP; read line; p=$(cat "$1/pid" 2>/dev/null) && '
                                        'kill -9 "$p" 2>/dev/null; rm -rf "$1"', "keeper", self.directory],
                                       stdin=subprocess.PIPE, start_new_session=True)
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def start(self):
        assert not self.is_running(), "it is running"
        attempts = 1 if self.port else PORT_ATTEMPTS
        for attempt in range(attempts):
            port = self.port or free_port()
            with open(self.log_path, "ab") as log:
                self.process = subprocess.Popen([find_bouncer(), self._write_config(port)], cwd=self.directory,
                                                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                start_new_session=True, **as_account())
            if eventually(lambda: self._answers(port) or self.process.poll() is not None, START_SECONDS,
                          "PgBouncer starts") and self.process.poll() is None:
                self.port = port
                return self
            with open(self.log_path, encoding="utf-8", errors="replace") as f:
                assert attempt + 1 < attempts, f"PgBouncer does not start:\n{f.read()[-3000:]}"

    def _write_config(self, port):
        path = os.path.join(self.directory, "pgbouncer.ini")
        server = f"host={self.server.hostname or '127.0.0.1'} port={self.server.port or 5432} user={self.server.username or USER}"
        if self.server.password:
            server += f" password={self.server.password}"
        lines = [f"{name} = {value}" for name, value in {**self.settings, "listen_port": port}.items()]
        with open(path, "w", encoding="utf-8") as f:
            f.write("\n".join(["[databases]", f"* = {server}", "[pgbouncer]", f"pidfile = {self.directory}/pid"] + lines) + "\n")
        return path

    def _answers(self, port):
        with contextlib.suppress(OSError):
            with socket.create_connection(("127.0.0.1", port), 1):
                return self.process.poll() is None
        return False

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def url(self, database="postgres"):
        """The URL through the pooler of a database, given by name or by its URL."""
        name = urllib.parse.urlsplit(database).path.lstrip("/") if re.match(r"\w+://", database) else database
        return f"postgresql://{self.server.username or USER}@127.0.0.1:{self.port}/{name}"

    def stop(self):
        if self.is_running():
            self.process.send_signal(signal.SIGTERM)  # at once: clients are cut
            self.process.wait(STOP_SECONDS)

    def restart(self):
        self.stop()
        return self.start()

    def close(self):
        self.stop()
        self.keeper.stdin.close()
        self.keeper.wait(STOP_SECONDS)
