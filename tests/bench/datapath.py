# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Blocks: blockd-nbd beside other servers of files on the same volume. fio's NBD engine drives those that speak NBD. It has none
for iSCSI: tgt, and blockd-nbd beside it, are driven by a client of our own, one program with two protocols (load/).

Each has a block of its own, full of data: replicate is slow while two have one file open. The processor time is the
server's, by request: it tells more than the rate where client, server and bricks share the processors."""

import contextlib
import json
import os
import pathlib
import re
import statistics
import subprocess
import time

import node as cluster
import servers
from table import MIB, processor_seconds

TOOLS = cluster.BUILD / "bench"
SIZE = 128 * MIB
SETTLE = 0.2  # seconds between two runs
PLACES = ("single", "replica3")
OURS, OURS_BY_LOAD, TGT = "blockd-nbd", "blockd-nbd by the client for tgt", "tgt, glfs backing store"

#          name               how          block size  depth  unit
PATTERNS = [
    ("4k-randread-qd1",     "randread",     4096,       1,     "IOPS"),
    ("4k-randwrite-qd1",    "randwrite",    4096,       1,     "IOPS"),
    ("4k-randread-qd32",    "randread",     4096,       32,    "IOPS"),
    ("4k-randwrite-qd32",   "randwrite",    4096,       32,    "IOPS"),
    ("128k-read",           "read",         131072,     8,     "MiB/s"),
    ("128k-write",          "write",        131072,     8,     "MiB/s"),
]


def output_of(argv, timeout=120):
    done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, argv))}: exit {done.returncode}: {done.stderr.strip()[-600:]}")
    return done.stdout


def scaled(operations, pattern):
    return operations if pattern[4] == "IOPS" else operations * pattern[2] / MIB


def fio_rate(target, pattern, seconds):
    """Operations a second."""
    text = output_of(["fio", "--name=bench", *target, f"--rw={pattern[1]}", f"--bs={pattern[2]}", f"--iodepth={pattern[3]}",
                      f"--runtime={seconds}", "--time_based", "--output-format=json", "--randrepeat=0"])
    # Notes to standard output may stand before the document.
    job = json.loads(text[text.index("{"):])["jobs"][0]
    if job["error"]:
        raise RuntimeError(f"fio on {target}: error {job['error']}")
    return job["write" if "write" in pattern[1] else "read"]["iops"]


def by_fio(uri, pattern, seconds):
    return fio_rate(["--ioengine=nbd", f"--uri={uri}", f"--size={SIZE}"], pattern, seconds)


def by_load(uri, pattern, seconds):
    return float(output_of([TOOLS / "load", uri, *pattern[1:4], seconds]).split()[0])


def through_server(uri, pid, client=by_fio):
    """A contender: a function of pattern and seconds that gives its rate, and the server's microseconds by request."""
    def measure(pattern, seconds):
        used = processor_seconds(pid)
        rate = client(uri, pattern, seconds)
        return scaled(rate, pattern), (processor_seconds(pid) - used) / (rate * seconds) * 1e6
    return measure


def loop(volfile, file):
    def measure(pattern, seconds):
        rate = float(output_of([TOOLS / "gfapi_loop", volfile, file, *pattern[1:4], seconds, SIZE]))
        return scaled(rate, pattern), None
    return measure


def filled(node, path):
    """A block every byte of which was written once, so that no contender meets a hole; its file on the volume."""
    source = node.folder / "fill"
    if not source.exists():
        source.write_bytes(os.urandom(SIZE))
    node.create_block(path, SIZE)
    output_of(["nbdcopy", "--flush", source, node.uri(path)], 300)
    return node.get(f"/v1/blocks/{path}")["spec"]["storage"]


def local_file(node):
    """A full file on the XFS of a device that carries no brick."""
    device = next(d for d in node.items("/v1/devices") if d["name"].endswith("/local"))
    folder = pathlib.Path(device["status"]["mount"])
    file = folder / f"local-{len(list(folder.glob('local-*')))}.img"
    file.write_bytes((node.folder / "fill").read_bytes())
    return file


def contenders_of(node, stack):
    """{(place, name): contender}"""
    folder, found = node.folder, {}
    tgt = stack.enter_context(servers.Tgt(folder).serving())
    for place in PLACES:
        volfile = node.state / "volfiles" / place / "client.vol"
        filled(node, f"{place}/ours")
        found[place, OURS] = through_server(node.uri(f"{place}/ours"), node.nbd_pid())
        found[place, OURS_BY_LOAD] = through_server(node.uri(f"{place}/ours"), node.nbd_pid(), by_load)
        uri = stack.enter_context(servers.qemu_nbd(
            folder / f"{place}-gluster.sock",
            f"gluster://127.0.0.1:{servers.GLFS_PORT}/{place}{filled(node, f'{place}/qemu')}"))
        found[place, "qemu-nbd on gluster://"] = through_server(*uri)
        found[place, TGT] = through_server(*tgt.unit(place, filled(node, f"{place}/tgt")), by_load)
        uri = stack.enter_context(servers.nbdkit(folder / f"{place}.sock", TOOLS / "nbdkit_gfapi.so", f"volfile={volfile}",
                                                 f"file={filled(node, f'{place}/nbdkit')}"))
        found[place, "nbdkit, synchronous gfapi"] = through_server(*uri)
        found[place, "bare gfapi loop"] = loop(volfile, filled(node, f"{place}/loop"))
    for name, start in (("qemu-nbd, local XFS file", servers.qemu_nbd),
                        ("nbdkit file plugin, local XFS file", lambda s, f: servers.nbdkit(s, "file", f))):
        uri = stack.enter_context(start(folder / f"local-{len(found)}.sock", local_file(node)))
        found["local", name] = through_server(*uri)
    return found


def measure(node, table, options):
    with contextlib.ExitStack() as stack:
        contenders = contenders_of(node, stack)
        for pattern in PATTERNS:
            if not re.search(options.match, pattern[0]):
                continue
            results = {}
            for _ in range(options.rounds):
                for key, contender in contenders.items():
                    results.setdefault(key, []).append(contender(pattern, options.seconds))
                    time.sleep(SETTLE)
            report(table, pattern, results)


def median(runs, part):
    values = [run[part] for run in runs]
    return None if None in values else statistics.median(values)


def report(table, pattern, results):
    for place in PLACES:
        peers = [(results[place, OURS_BY_LOAD if name == TGT else OURS], name, runs)
                 for (where, name), runs in results.items()
                 if where in (place, "local") and name not in (OURS, OURS_BY_LOAD)]
        for ours, name, runs in peers:
            table.add(f"{pattern[0]} {place}", median(ours, 0), median(runs, 0), name, pattern[4])
        for ours, name, runs in peers:
            if median(runs, 1) is not None and "local" not in name:
                table.add(f"{pattern[0]} {place}, server's CPU", median(ours, 1), median(runs, 1), name, "us/req.", True)
