# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""A mounted share beside a plain mount of the same bricks: a volfile in a file, with the translators that glusterd puts
into a client by default, and glusterfs started by hand. The volume has the profile for shares, whose part in the mount
the plain one does without."""

import contextlib
import os
import pathlib
import re
import statistics
import subprocess
import time

import node as cluster
import shares

MIB = 1 << 20
FILES = 500
STREAM = 256 * MIB
FORGOTTEN = 1.5  # seconds: both mounts let the kernel remember names and attributes for one
PEER = "plain static GlusterFS mount"
DEFAULTS = ("performance/write-behind", "performance/open-behind", "performance/quick-read", "performance/md-cache")

# Without these it reaches no brick; the last one glusterd gives to every new volume.
NEEDED = ("transport-type", "transport.address-family", "remote-", "client-bind-insecure", "afr-pending-xattr",
          "granular-entry-heal")


def plain_sets(node, volume):
    """The volume's bricks and their replication, up to where its sets are one; no option of ours."""
    served = (node.state / "volserver" / f"{volume}.mount.vol").read_text()
    parts = re.findall(r"^volume .*?^end-volume\n", served, re.MULTILINE | re.DOTALL)
    count = next(i for i, part in enumerate(parts, 1) if "type cluster/distribute" in part)
    return "\n".join(line for line in "\n".join(parts[:count]).splitlines()
                     if (words := line.split())[:1] != ["option"] or words[1].startswith(NEEDED)) + "\n"


def static_volfile(node, volume):
    """That, and glusterd's defaults upon it."""
    text = plain_sets(node, volume)
    below = re.findall(r'^volume "?([^"\n]+)', text, re.MULTILINE)[-1]
    for kind in DEFAULTS:
        name = f"{volume}-{kind.split('/')[1]}"
        text += f'\nvolume "{name}"\n    type {kind}\n    subvolumes "{below}"\nend-volume\n'
        below = name
    path = node.folder / "static.vol"
    path.write_text(text)
    return path


@contextlib.contextmanager
def plain_mount(node, volume):
    point = node.folder / "plain"
    point.mkdir(exist_ok=True)
    # In a session of its own, as daemons are: the kernel may share processors out by session.
    process = subprocess.Popen(["glusterfs", "-f", static_volfile(node, volume), "-l", node.folder / "plain.log",
                                "--no-daemon", point], stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        cluster.wait_until("the plain mount answers", lambda: os.path.ismount(point))
        yield point
    finally:
        subprocess.run(["umount", point], check=False)
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def rate(call, items):
    began = time.monotonic()
    for item in items:
        call(item)
    return len(items) / (time.monotonic() - began)


def create(path):
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))


def stream_in(path):
    block = os.urandom(MIB)
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    try:
        written = rate(lambda _: os.write(fd, block), range(STREAM // MIB - 1))
        began = time.monotonic()
        os.write(fd, block)
        os.fsync(fd)
        seconds = (STREAM // MIB - 1) / written + time.monotonic() - began
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
    return STREAM / MIB / seconds


def stream_out(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        return rate(lambda _: os.read(fd, MIB), range(STREAM // MIB))
    finally:
        os.close(fd)


def one_round(folder):
    """{(case, unit): rate} of one mount; it leaves nothing."""
    folder.mkdir()
    names = [folder / f"f{i:04}" for i in range(FILES)]
    rates = {("create", "per s"): rate(create, names)}
    time.sleep(FORGOTTEN)
    rates["stat", "per s"] = rate(os.stat, names)
    rates["unlink", "per s"] = rate(os.unlink, names)
    rates["1m-write, fsync at the end", "MiB/s"] = stream_in(folder / "stream")
    time.sleep(FORGOTTEN)
    rates["1m-read", "MiB/s"] = stream_out(folder / "stream")
    os.unlink(folder / "stream")
    folder.rmdir()
    return rates


def share(node, table, rounds):
    node.replica3("files", "2GiB", profile="share")
    path = shares.create(node, "files/bench", "1GiB")["status"]["path"]
    results = {}
    with shares.mounted(node, "files/bench") as ours, plain_mount(node, "files") as plain:
        contenders = {"ours": ours, "peer": pathlib.Path(f"{plain}{path}")}
        for turn in range(rounds):
            # Who comes second meets what the first one left to be written: they take turns.
            for who, point in sorted(contenders.items(), reverse=bool(turn % 2)):
                for case, value in one_round(point / who).items():
                    results.setdefault(case, {}).setdefault(who, []).append(value)
    for (case, unit), values in results.items():
        table.add(f"share {case}", *(statistics.median(values[who]) for who in contenders), PEER, unit)
