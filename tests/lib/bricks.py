# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Plain glusterfsd bricks from small volfiles, without blockd: a volume for tests of the image layer and of blockd-nbd.

    with Bricks(folder, count=3) as bricks:     # 1: single, 3: replica3
        bricks.client_volfile                   # for a grant
        bricks.kill(0); bricks.start(0)

Bricks are directories below the folder, or loop-mounted XFS (xfs_size given). Needs root.
"""
import os
import pathlib
import signal
import socket
import subprocess
import time
import uuid

import traces

BUILD = pathlib.Path(os.environ.get("BLOCKD_BUILD", pathlib.Path(__file__).resolve().parents[2] / "build")).resolve()

SERVER = """
volume {name}-posix
    type storage/posix
    option directory {root}
    option volume-id {uid}
    option shared-brick-count 1
    option ctime off
end-volume
volume {name}-locks
    type features/locks
    subvolumes {name}-posix
end-volume
volume {name}-index
    type features/index
    option index-base {root}/.glusterfs/indices
    option xattrop-dirty-watchlist trusted.afr.dirty
    option xattrop-pending-watchlist trusted.afr.{name}-
    subvolumes {name}-locks
end-volume
volume {name}-io-threads
    type performance/io-threads
    subvolumes {name}-index
end-volume
volume {name}-brick-{index}
    type debug/io-stats
    option unique-id {root}
    option latency-measurement off
    option count-fop-hits off
    subvolumes {name}-io-threads
end-volume
volume {name}-server
    type protocol/server
    option transport-type tcp
    option transport.address-family inet
    option transport.socket.bind-address 127.0.0.1
    option transport.socket.listen-port {port}
    option event-threads {event_threads}
    option auth.addr.{name}-brick-{index}.allow 127.0.0.1
    subvolumes {name}-brick-{index}
end-volume
"""

CLIENT = """
volume {name}-client-{index}
    type protocol/client
    option transport-type tcp
    option transport.address-family inet
    option remote-host 127.0.0.1
    option remote-port {port}
    option remote-subvolume {name}-brick-{index}
    option ping-timeout {ping_timeout}
    option event-threads {event_threads}
end-volume
"""

WATCH = """
volume {name}-watch-{index}
    type {type}
    subvolumes {name}-client-{index}
end-volume
"""

REPLICATE = """
volume {name}-replicate-0
    type cluster/replicate
    option afr-pending-xattr {pending}
    option quorum-type auto
    option eager-lock on
    option ensure-durability on
    option granular-entry-heal on
    option locking-scheme granular
    option data-self-heal off
    option metadata-self-heal off
    option entry-self-heal off
{extra}
    subvolumes {clients}
end-volume
"""

TOP = """
volume {name}
    type debug/io-stats
    option latency-measurement off
    option count-fop-hits off
    subvolumes {below}
end-volume
"""


def free_port():
    """A port for this process alone, as long as it runs: below the range that the kernel gives to clients."""
    if not free_port.left:
        free_port.windows.append(traces.Ports())
        free_port.left += free_port.windows[-1].range
    return free_port.left.pop(0)


free_port.windows, free_port.left = [], []


def wait_until(condition, what, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError(f"timed out waiting for {what}")


class Bricks:
    def __init__(self, folder, count=1, name="testvol", xfs_size=None, heal=False, event_threads=2, ping_timeout=5,
                 extra=""):
        self.folder = os.path.abspath(folder)
        self.count, self.name, self.xfs_size, self.heal = count, name, xfs_size, heal
        self.event_threads, self.ping_timeout, self.extra = event_threads, ping_timeout, extra
        self.uid = str(uuid.uuid4())
        self.ports = [free_port() for _ in range(count)]
        self.processes = [None] * count
        self.healer = None
        self.mounts = []
        self.client_volfile = os.path.join(self.folder, "client.vol")

    def __enter__(self):
        try:
            os.makedirs(self.folder, exist_ok=True)
            for index in range(self.count):
                self._prepare(index)
                self.start(index, wait=False)
            for index in range(self.count):
                self.wait_listening(index)
            self._write_client()
            if self.heal:
                self._start_healer()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def root(self, index):
        return os.path.join(self.folder, f"disk{index}", "brick")

    def _prepare(self, index):
        disk = os.path.dirname(self.root(index))
        os.makedirs(disk, exist_ok=True)
        if self.xfs_size:
            image = f"{disk}.img"
            with open(image, "wb") as file:
                file.truncate(self.xfs_size)
            subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True)
            subprocess.run(["mount", "-o", "loop", image, disk], check=True)
            self.mounts.append(disk)
        os.makedirs(os.path.join(self.root(index), ".glusterfs", "indices"), exist_ok=True)
        os.setxattr(self.root(index), "trusted.glusterfs.volume-id", uuid.UUID(self.uid).bytes)
        with open(os.path.join(self.folder, f"brick{index}.vol"), "w", encoding="ascii") as file:
            file.write(SERVER.format(name=self.name, index=index, root=self.root(index), uid=self.uid,
                                     port=self.ports[index], event_threads=self.event_threads))

    def clients(self):
        return "".join(CLIENT.format(name=self.name, index=index, port=self.ports[index],
                                     ping_timeout=self.ping_timeout, event_threads=self.event_threads)
                       for index in range(self.count))

    def _replicate(self, below, extra):
        """`below` is what stands right below replicate: watch, or client for the self-heal daemon."""
        names = [f"{self.name}-{{}}-{index}" for index in range(self.count)]
        return REPLICATE.format(name=self.name, pending=",".join(names).replace("{}", "client"),
                                clients=" ".join(names).replace("{}", below), extra=extra)

    def _write_client(self):
        below = f"{self.name}-client-0" if self.count == 1 else f"{self.name}-replicate-0"
        text = self.clients()
        if self.count > 1:
            # A type is a path below GlusterFS's own folder of translators, and this leads out of it.
            text += "".join(WATCH.format(name=self.name, index=index, type=f"{'../' * 10}{BUILD}/xlators/watch")
                            for index in range(self.count))
            text += self._replicate("watch", "    option choose-local on\n    option read-hash-mode 1\n" + self.extra)
        text += TOP.format(name=self.name, below=below)
        with open(self.client_volfile, "w", encoding="ascii") as file:
            file.write(text)

    def _start_healer(self):
        volfile = os.path.join(self.folder, "heal.vol")
        with open(volfile, "w", encoding="ascii") as file:
            file.write(self.clients())
            file.write(self._replicate("client", "    option iam-self-heal-daemon yes\n    option self-heal-daemon on\n"
                                       "    option heal-timeout 5\n")
                       .replace("-self-heal off", "-self-heal on"))
            file.write(TOP.format(name="glustershd", below=f"{self.name}-replicate-0"))
        self.healer = subprocess.Popen(
            ["glusterfs", "-N", "-f", volfile, "-l", os.path.join(self.folder, "heal.log"), "--xlator-option",
             f"*replicate*.node-uuid={uuid.uuid4()}", "--process-name", "glustershd"])

    def start(self, index, wait=True):
        assert self.processes[index] is None
        self.processes[index] = subprocess.Popen(
            ["glusterfsd", "-N", "-f", os.path.join(self.folder, f"brick{index}.vol"), "-l",
             os.path.join(self.folder, f"brick{index}.log")])
        if wait:
            self.wait_listening(index)

    def wait_listening(self, index):
        def answers():
            assert self.processes[index].poll() is None, f"brick {index} died: see {self.folder}/brick{index}.log"
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.ports[index])) == 0
        wait_until(answers, f"brick {index}")

    def kill(self, index, number=signal.SIGKILL):
        self.processes[index].send_signal(number)
        self.processes[index].wait()
        self.processes[index] = None

    def pending_heals(self, index):
        """Entries of a brick's index that wait for the self-heal daemon."""
        try:
            names = os.listdir(os.path.join(self.root(index), ".glusterfs", "indices", "xattrop"))
        except FileNotFoundError:
            return 0
        return len([name for name in names if not name.startswith("xattrop-")])

    def blamed(self, file):
        """The bricks whose copy of a file is behind, as the others have noted it."""
        assert self.healer is None or self.healer.poll() is None, f"self-heal died: see {self.folder}/heal.log"
        found = set()
        for index in range(self.count):
            for other in range(self.count):
                try:
                    value = os.getxattr(self.root(index) + file, f"trusted.afr.{self.name}-client-{other}")
                except OSError:
                    continue
                if any(value):
                    found.add(other)
        return found

    def stop(self):
        for process in [self.healer] + self.processes:
            if process is not None:
                process.kill()
                process.wait()
        self.healer, self.processes = None, [None] * self.count
        for mount in self.mounts:
            subprocess.run(["umount", mount], check=False)
        self.mounts = []
