"""A disk small enough to be filled."""
import contextlib
import os
import shutil
import subprocess
import tempfile

SIZE = 192 * 1024 * 1024


@contextlib.contextmanager
def small_disk():
    """A file system of its own, of SIZE bytes; without the right to mount, none."""
    directory = tempfile.mkdtemp(prefix="barid-small-")
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", directory], capture_output=True).returncode == 0
    try:
        yield directory if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", directory], check=False)
        shutil.rmtree(directory, ignore_errors=True)


def fill(directory, leave):
    """A file as large as it takes to leave so many bytes."""
    path = os.path.join(directory, "filler")
    left = os.statvfs(directory)
    with open(path, "ab") as f:
        os.posix_fallocate(f.fileno(), 0, max(1, f.tell() + left.f_bavail * left.f_frsize - leave))
    return path
