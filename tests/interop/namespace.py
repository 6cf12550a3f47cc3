"""A network of one's own, in which ports 5672, 5671 and 15672 are free: many suites know no other.

Made by unshare(1), entered by nsenter(1); needs root or user namespaces. It lives as long as the process that holds it.
"""
import os
import subprocess

OWN_USER = os.geteuid() != 0
HOLD = 'PATH=$PATH:/usr/sbin:/sbin; ip link set lo up && echo up && exec cat'


class Impossible(Exception):
    """No namespace can be had here; the text says why."""


class Namespace:
    def __init__(self):
        command = ["unshare", *(["-r"] if OWN_USER else []), "-n", "sh", "-c", HOLD]
        try:
            self.holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                           stderr=subprocess.PIPE, text=True)
        except OSError as e:
            raise Impossible(f"network namespace: {e}") from e
        if self.holder.stdout.readline() != "up\n":
            raise Impossible("network namespace: " + self.holder.communicate()[1].strip())
        self.pid = self.holder.pid

    def command(self):
        """What a command must begin with to run inside."""
        return enter(self.pid)

    def close(self):
        self.holder.communicate()  # closes its input, and it ends


def enter(pid):
    return ["nsenter", "-t", str(pid), *(["-U", "--preserve-credentials"] if OWN_USER else []), "-n"]
