"""The brokers that side_by_side.py compares: each a private node with ports and a data directory of its own.

    with Barid(directory) as broker:     # or RabbitMQ(directory)
        broker.url                        # amqp://guest:guest@127.0.0.1:PORT
        broker.memory(), broker.written() # bytes resident, bytes given to the disk so far
        broker.kill9(); broker.start()    # the same one, on the same data

RabbitMQ is Debian's package. When it is not installed it is fetched with apt-get download and unpacked below build/;
it needs the Erlang packages that it depends on (tools/deps.sh bench), and its service is not started.
"""
import glob
import os
import shutil
import signal
import socket
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("BUILD", os.path.join(ROOT, "build"))
START_SECONDS = 600  # a large backlog takes its time
STOP_SECONDS = 120


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def receive(s, n):
    data = b""
    while len(data) < n:
        part = s.recv(n - len(data))
        if not part:
            raise ConnectionError("closed")
        data += part
    return data


def speaks_amqp(port):
    """Does connection.start come?"""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
            s.sendall(b"AMQP\x00\x00\x09\x01")
            return receive(s, 11)[7:] == b"\x00\x0a\x00\x0a"
    except OSError:
        return False


class Broker:
    """One process on one data directory."""
    name = None

    def __init__(self, directory):
        self.directory = os.path.join(directory, self.name)
        shutil.rmtree(self.directory, ignore_errors=True)
        os.makedirs(self.directory)
        self.port = free_port()
        self.process = None
        self.pid = None  # of the process that does the work

    @property
    def url(self):
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self):
        """Starts it, waits until it speaks AMQP, and gives the seconds that took."""
        begun = time.monotonic()
        with open(os.path.join(self.directory, "log"), "ab") as log:
            self.process = subprocess.Popen(self.command(), env={**os.environ, **self.environment()}, stdout=log,
                                            stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        while not speaks_amqp(self.port):
            if self.process.poll() is not None or time.monotonic() - begun > START_SECONDS:
                raise RuntimeError(f"{self.name} does not start; see {self.directory}/log")
            time.sleep(0.01)
        self.pid = self.find_pid()
        return time.monotonic() - begun

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            os.kill(self.pid or self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill9()

    def kill9(self):
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait()

    def environment(self):
        return {}

    def find_pid(self):
        return self.process.pid

    def memory(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS:"))

    def written(self):
        """What the process gave to the disk; what was dirtied and thrown away before it got there is not in it."""
        with open(f"/proc/{self.pid}/io", encoding="ascii") as f:
            io = dict(line.split(": ") for line in f.read().splitlines())
        return int(io["write_bytes"]) - int(io["cancelled_write_bytes"])


class Barid(Broker):
    """The binary of this repository's build."""
    name = "barid"

    def command(self):
        return [os.path.join(BUILD, "barid"), "serve", "--data", os.path.join(self.directory, "data"), "--http",
                "127.0.0.1:0", "--amqp", f"127.0.0.1:{self.port}", "--management", "off", "--log-level", "warn"]


class RabbitMQ(Broker):
    """Debian's package, as it comes: no plugins, no settings but addresses and directories."""
    name = "rabbitmq"

    def __init__(self, directory):
        super().__init__(directory)
        self.home = rabbitmq_home()
        self.epmd_port = free_port()
        self.dist_port = free_port()
        for name in ("rabbitmq.conf", "enabled_plugins"):
            with open(os.path.join(self.directory, name), "w", encoding="ascii") as f:
                f.write("[].\n" if name == "enabled_plugins" else "")

    def command(self):
        return [os.path.join(self.home, "sbin", "rabbitmq-server")]

    def environment(self):
        at = self.directory
        return {"HOME": at, "RABBITMQ_NODENAME": f"bench{self.port}@localhost", "RABBITMQ_NODE_PORT": str(self.port),
                "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_DIST_PORT": str(self.dist_port),
                "RABBITMQ_MNESIA_BASE": at + "/data", "RABBITMQ_LOG_BASE": at + "/log.d",
                "RABBITMQ_CONFIG_FILE": at + "/rabbitmq.conf", "RABBITMQ_ENABLED_PLUGINS_FILE": at + "/enabled_plugins",
                "RABBITMQ_PID_FILE": at + "/pid", "ERL_EPMD_ADDRESS": "127.0.0.1", "ERL_EPMD_PORT": str(self.epmd_port),
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}"}

    def find_pid(self):
        with open(os.path.join(self.directory, "pid"), encoding="ascii") as f:
            return int(f.read())

    def stop(self):
        super().stop()
        subprocess.run(["epmd", "-port", str(self.epmd_port), "-kill"], stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, check=False)


def rabbitmq_home():
    """Where rabbitmq-server's sbin/ is."""
    places = ["/usr/lib/rabbitmq/lib/rabbitmq_server-*",
              os.path.join(BUILD, "rabbitmq", "usr/lib/rabbitmq/lib/rabbitmq_server-*")]
    if not any(glob.glob(place) for place in places):
        unpack_rabbitmq()
    return next(home for place in places for home in glob.glob(place))


def unpack_rabbitmq():
    into = os.path.join(BUILD, "rabbitmq")
    os.makedirs(into, exist_ok=True)
    subprocess.run(["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", "rabbitmq-server"], cwd=into,
                   check=True, stdout=subprocess.DEVNULL)
    package = glob.glob(os.path.join(into, "rabbitmq-server_*.deb"))[0]
    subprocess.run(["dpkg-deb", "-x", package, into], check=True)


def rabbitmq_version():
    return os.path.basename(rabbitmq_home()).split("-")[-1]
