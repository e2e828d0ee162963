# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Healing: what was written while a brick was away is copied to it, by blockd's self-heal daemon and by one that has
GlusterFS's defaults, as glusterd writes them; the same bricks, the same files. blockd itself is away meanwhile, and so
nobody else heals. The time runs from the daemon's start to the moment when no index names a file any more; the
processor time is the daemon's and all bricks', and says more where they share the processors with others."""

import os
import pathlib
import re
import signal
import statistics
import subprocess
import time

import node as cluster
import sharebench
from table import MIB, processor_seconds

VOLUME = "heal"
CASES = {"large": (4, 32 * MIB), "small": (400, 4096)}  # number and size of the files
PEER = "static self-heal daemon, GlusterFS's defaults"
AWAY = 2  # the brick
DEFAULTS = {"iam-self-heal-daemon": "yes", "self-heal-daemon": "on", "data-self-heal": "on", "metadata-self-heal": "on",
            "entry-self-heal": "on", "background-self-heal-count": "0"}


def default_volfile(node):
    """The clients and their replication without any option of ours, and what glusterd adds for its daemon."""
    text = sharebench.plain_sets(node, VOLUME)
    text = text[:text.index("end-volume", text.index("type cluster/replicate")) + len("end-volume\n")]
    options = "".join(f"    option {key} {value}\n" for key, value in DEFAULTS.items())
    text = text.replace("    type cluster/replicate\n", f"    type cluster/replicate\n{options}")
    below = re.findall(r'^volume "?([^"\n]+)"?\n    type cluster/replicate', text, re.MULTILINE)
    path = node.folder / "default-heal.vol"
    path.write_text(f"{text}\nvolume glustershd\n    type debug/io-stats\n    subvolumes {' '.join(below)}\nend-volume\n")
    return path


class Bricks:
    """The volume's bricks without blockd: the last one goes and comes."""

    def __init__(self, node):
        self.node = node
        self.folders = [pathlib.Path(brick["path"]) for brick in node.volume_status(VOLUME)["bricks"]]
        self.ports = [brick["port"] for brick in node.volume_status(VOLUME)["bricks"]]
        self.pids = node.brick_pids(VOLUME)
        daemon = next(pid for pid, line in node.processes().items() if "glustershd" in line)
        self.brick_argv, self.daemon_argv = (
            pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1] for pid in (self.pids[AWAY], daemon))
        node.terminate()
        os.kill(daemon, signal.SIGKILL)
        os.kill(self.pids[AWAY], signal.SIGKILL)
        self.brick = None

    def start(self, argv):
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, env=self.node.environment(), start_new_session=True)

    def bring_back(self):
        self.brick = self.start(self.brick_argv)
        cluster.wait_until("the brick listens", self.listens)

    def listens(self):
        lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
        return any(int(line.split()[1].split(":")[1], 16) == self.ports[AWAY] and line.split()[3] == "0A" for line in lines)

    def take_away(self):
        if self.brick:
            self.brick.kill()
            self.brick.wait()
            self.brick = None

    def processor_seconds(self):
        return sum(processor_seconds(pid) for pid in [*self.pids[:AWAY], self.brick.pid])

    def waiting(self):
        """How many files the indices of the others name."""
        return sum(not name.startswith(("xattrop-", "dirty-", "entry-changes-"))
                   for index, folder in enumerate(self.folders) if index != AWAY
                   for kind in ("xattrop", "dirty")
                   for name in os.listdir(folder / ".glusterfs/indices" / kind))


def write(folder, count, size):
    folder.mkdir()
    data = os.urandom(size)
    for i in range(count):
        with open(folder / f"f{i:04}", "xb", buffering=0) as file:
            file.write(data)
            os.fsync(file.fileno())


def heal(bricks, name, argv, count, size):
    """Seconds, and those of processors; what is on the brick is complete then."""
    bricks.bring_back()
    used = bricks.processor_seconds()
    began = time.monotonic()
    daemon = bricks.start(argv)
    try:
        cluster.wait_until("all is healed", lambda: bricks.waiting() == 0, timeout=300, pause=0.02)
        seconds = time.monotonic() - began
        used = bricks.processor_seconds() + processor_seconds(daemon.pid) - used
    finally:
        daemon.kill()
        daemon.wait()
    sizes = [file.stat().st_size for file in (bricks.folders[AWAY] / name).iterdir()]
    if sizes != [size] * count:
        raise RuntimeError(f"{len(sizes)} of {count} files were healed, with {sum(sizes)} bytes")
    bricks.take_away()
    return seconds, used


def measure(node, table, options):
    node.replica3(VOLUME, "3GiB")
    bricks = Bricks(node)
    volfile = default_volfile(node)
    default_argv = [volfile if word.endswith("/heal.vol") else word for word in bricks.daemon_argv if word != "-S"]
    default_argv = [word for word in default_argv if not str(word).endswith("/heal.sock")]
    default_argv[default_argv.index("-l") + 1] = node.folder / "default-heal.log"
    daemons = {"ours": bricks.daemon_argv, "peer": default_argv}
    results = {}
    try:
        with sharebench.plain_mount(node, VOLUME) as point:
            for turn in range(options.rounds):
                for who in sorted(daemons, reverse=bool(turn % 2)):
                    for case, (count, size) in CASES.items():
                        name = f"{case}-{who}-{turn}"
                        write(point / name, count, size)
                        results.setdefault((case, who), []).append(heal(bricks, name, daemons[who], count, size))
    finally:
        bricks.take_away()
        node.start()
    took, used = ({key: statistics.median(run[part] for run in runs) for key, runs in results.items()} for part in range(2))
    for case, (count, size) in CASES.items():
        amount, unit = (count * size / MIB, "MiB/s") if size > MIB else (count, "files/s")
        name = f"heal, {count} files of {size // 1024} KiB"
        table.add(name, *(amount / took[case, who] for who in daemons), PEER, unit)
        table.add(f"{name}, CPU", *(used[case, who] / count * 1000 for who in daemons), PEER, "ms/file", True)
