#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 240
"""kill -9 of the self-heal daemon and of blockd in the middle of a heal, and of blockd in the middle of a split-brain's end."""

import os
import pathlib
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import heals
import node as cluster
from load import Load

FILES, SIZE = 120, 1 << 18


def text(index):
    return (b"%06d\n" % index) * (SIZE // 7)


def make_work(node):
    with heals.no_healing(node):
        with heals.Mount(node, "v", (0, 1)) as mount:
            mount.file("work").mkdir(exist_ok=True)
            for index in range(FILES):
                mount.file(f"work/{index}").write_bytes(text(index))


def waiting(node):
    return node.volume_status("v")["heal_pending"]


def killed_in_the_middle(node):
    """Whoever dies, the job ends when all is healed."""
    make_work(node)
    job = node.call("POST", "/v1/volumes/v/heal", {"full": True})
    cluster.wait_until("some files are healed", lambda: waiting(node) < FILES)
    left = waiting(node)
    pid = heals.healer_pid(node)
    faults.signal_all([pid])
    faults.wait_gone([pid])
    print(f"the self-heal daemon was killed with {left} files to go", flush=True)
    node.kill()
    node.start()
    cluster.wait_until("another self-heal daemon runs", lambda: heals.healer_pid(node) not in (0, pid))
    cluster.wait_until("the job has succeeded",
                       lambda: node.get(f"/v1/jobs/{job['name']}")["status"]["phase"] == "succeeded")
    node.wait_healed("v")
    for index in range(FILES):
        for copy in heals.copies(node, "v", f"work/{index}"):
            faults.require(copy.read_bytes() == text(index), f"{copy} has other data")


def killed_while_it_is_resolved(node):
    """GlusterFS's program goes on without blockd: the choice that was made holds, and can be made again."""
    with heals.no_healing(node):
        with heals.Mount(node, "v") as mount:
            mount.file("torn").write_bytes(b"whole\n")
        heals.each_alone(node, "v", lambda mount, index: mount.file("torn").write_bytes(b"copy %d\n" % index))
    node.restart(BLOCKD_FAULT="heal.resolve.after-start")
    cluster.wait_until("blockd knows its bricks again", lambda: all(node.brick_pids("v")))
    try:
        node.call("POST", "/v1/volumes/v/heal/resolve?wait=30", {"file": "/torn", "keep": "d2"})
    except OSError:
        pass
    faults.require(node.wait_died() == -9, "blockd did not reach the point")
    node.start()

    def whole():
        try:
            node.call("POST", "/v1/volumes/v/heal/resolve?wait=30", {"file": "/torn", "keep": "d2"})
        except cluster.ApiError as error:
            return error.status == 409  # it is in split-brain no more
        return True
    cluster.wait_until("the split-brain has ended", whole)
    node.wait_healed("v")
    found = {copy.read_bytes() for copy in heals.copies(node, "v", "torn")}
    faults.require(found == {b"copy 1\n"}, f"the copies are {found}")


class Pressure:
    """The index is gone through all the time: each brick that comes back is healed before clients have met it."""

    def __init__(self, node):
        self.node, self.stop, self.answered = node, threading.Event(), 0
        self.thread = threading.Thread(target=self.press)

    def press(self):
        while not self.stop.is_set():
            self.answered += heals.order_index_heal(self.node, "v")
            self.stop.wait(0.02)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def kill_brick(node, rng):
    """Ends when it runs again."""
    index = rng.randrange(3)
    pid = node.brick_pids("v")[index]
    faults.signal_all([pid])
    faults.wait_gone([pid])
    cluster.wait_until("the brick runs again", lambda: node.brick_pids("v")[index] not in (0, pid))


def healed_at_once(node, rng):
    """The heal waits for the notes of the clients, and never goes from the brick that was away to the others."""
    uri = node.unix_uri("v/b")
    with Load(uri, rng) as load, Pressure(node) as pressure:
        for _ in range(faults.rounds(4)):
            kill_brick(node, rng)
            faults.wait_whole(node, "v")
            load.wait_progress()
            load.check()
    load.verify(uri)
    faults.require_same_replicas(node, "v/b", load)
    faults.require(pressure.answered > 20, "the daemon got no orders")


def healed_at_once_under_a_mount(node, rng):
    """The same with a client that is nothing but GlusterFS: its locks alone hold the heal back."""
    block, slots = 4096, 64
    wanted = [bytes(block)] * slots
    stop = threading.Event()
    with heals.Mount(node, "v") as mount, Pressure(node):
        with open(mount.file("mounted"), "w+b", buffering=0) as file:
            file.write(bytes(block * slots))

            def write():
                while not stop.is_set():
                    slot, data = rng.randrange(slots), os.urandom(16) * (block // 16)
                    os.pwrite(file.fileno(), data, slot * block)
                    wanted[slot] = data
            writer = threading.Thread(target=write)
            writer.start()
            for _ in range(faults.rounds(4)):
                kill_brick(node, rng)
                cluster.wait_until("the mount is connected to all bricks", mount.connected)
                node.wait_healed("v")
            stop.set()
            writer.join()
    cluster.wait_until("nothing is dirty", lambda: heals.report(node, "v")["files"] == [])
    for copy in heals.copies(node, "v", "mounted"):
        faults.require(copy.read_bytes() == b"".join(wanted), f"{copy} is not what was written")


def main():
    cluster.require_root()
    rng = faults.chance()
    with cluster.Node() as node:
        node.replica3("v", "1GiB")
        node.create_block("v/b", "16MiB")
        killed_in_the_middle(node)
        killed_while_it_is_resolved(node)
        healed_at_once(node, rng)
        healed_at_once_under_a_mount(node, rng)


if __name__ == "__main__":
    main()
