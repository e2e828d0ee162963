# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Two thousand shares in one volume: how fast they are made, and what they cost while nobody uses them."""

import control
import shares
import sharebench
from table import resident, timed

COUNT = 2000
VOLUME = "many"


def measure(node, table):
    node.replica3(VOLUME, "1GiB", overcommit=100.0)
    shares.create(node, f"{VOLUME}/first", "1MiB")
    processes = set(node.processes())
    bricks = node.brick_pids(VOLUME)

    def memory():
        return resident(node.process.pid), sum(resident(pid) for pid in bricks)

    before = memory()
    names = [f"s{i:04}" for i in range(COUNT)]
    ours, _ = timed(lambda: control.each(lambda name: shares.create(node, f"{VOLUME}/{name}", "1MiB"), names))
    after = memory()
    with sharebench.plain_mount(node, VOLUME) as point:
        folder = point / "folders"
        folder.mkdir()
        theirs, _ = timed(lambda: control.each(lambda name: (folder / name).mkdir(), names))
        table.add(f"{COUNT} shares made, {control.CLIENTS} clients", COUNT / ours, COUNT / theirs,
                  "as many folders on a FUSE mount", "per s")
    table.note(f"{COUNT} shares, memory that blockd gained", after[0] - before[0], "MiB")
    table.note(f"{COUNT} shares, memory that three bricks gained", after[1] - before[1], "MiB")
    table.note(f"{COUNT} shares, processes more than without", len(set(node.processes()) - processes), "")
