#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 300
"""No room on the bricks: who writes is told, others go on, and deleting gives the room back."""

import errno
import http.client
import pathlib
import sys

import nbd

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import node as cluster
from load import Load

MIB = 1 << 20
CHUNK = 4 * MIB


def open_block(node, name):
    handle = nbd.NBD()
    handle.connect_uri(node.unix_uri(name))
    return handle


def fill(node, name):
    """Writes until there is no room. Returns how many chunks were answered."""
    handle = open_block(node, name)
    written = 0
    try:
        while (written + 1) * CHUNK <= handle.get_size():
            handle.pwrite(bytes([written % 251 + 1]) * CHUNK, written * CHUNK, nbd.CMD_FLAG_FUA)
            written += 1
    except nbd.Error as error:
        faults.require(error.errnum == errno.ENOSPC, f"a write without room was answered with {error}")
    else:
        raise AssertionError(f"{name} took {written * CHUNK} bytes, which is more than the bricks have")
    # What was answered is there; the connection goes on, and so does an overwrite of it.
    for index in (0, written // 2, written - 1):
        data = handle.pread(CHUNK, index * CHUNK)
        faults.require(data == bytes([index % 251 + 1]) * CHUNK, f"chunk {index} of {name} is not what was written")
    handle.shutdown()
    return written


def free_bytes(node):
    return min(brick["free"] for brick in node.volume_status("v")["bricks"])


def wait_room(node, wanted):
    cluster.wait_until(f"{wanted} bytes are free again", lambda: free_bytes(node) >= wanted)


def full_bricks(node, rng):
    empty = free_bytes(node)
    node.create_block("v/small", "16MiB")
    node.create_block("v/large", "1GiB")
    handle = open_block(node, "v/small")
    for chunk in range(16 * MIB // CHUNK):  # allocated before the room ends: it stays writable
        handle.pwrite(bytes(CHUNK), chunk * CHUNK)
    handle.flush()
    handle.shutdown()
    server = node.nbd_pid()
    with Load(node.unix_uri("v/small"), rng, slots=8 * MIB // 4096) as load:
        chunks = fill(node, "v/large")
        print(f"full after {chunks * CHUNK // MIB} MiB", flush=True)
        load.wait_progress(500)
        faults.require(node.request("GET", "/readyz")[0] == 200, "blockd does not answer")
        # A create needs next to nothing and may go either way, but it must be answered and leave nothing half made.
        status, reply = node.request("POST", "/v1/blocks?wait=10", {"volume": "v", "name": "late", "size": "8MiB"})
        faults.require(status in (201, 202, 507), f"a create without room was answered with {status}: {reply}")
        if status != 507:
            node.delete_block("v/late")
        status, reply = node.request("POST", "/v1/blocks?wait=60", {"volume": "v", "name": "full", "size": "64MiB",
                                                                    "prealloc": "full"})
        faults.require(status == 507 and reply["error"]["code"] == "resource_exhausted",
                       f"prealloc full without room was answered with {status}: {reply}")
        node.delete_block("v/large")
        wait_room(node, empty - 64 * MIB)
        load.wait_progress(500)
    load.verify()
    faults.require(node.nbd_pid() == server, "blockd-nbd was started again")
    faults.require_same_replicas(node, "v/small", load)
    node.delete_block("v/small")
    wait_room(node, empty - 32 * MIB)
    faults.require_nothing_leaked(node, "after full bricks")


def full_while_preallocating(node):
    """The room that was there when the job was recorded goes to another block before the job begins."""
    empty = free_bytes(node)
    # What was deleted a moment ago may still be held open, and its room comes back brick by brick. Until then a create is
    # refused, and leaves nothing.
    def made():
        status, reply = node.request("POST", "/v1/blocks?wait=30", {"volume": "v", "name": "other", "size": "1GiB", "hosts": ["node1"]})
        faults.require(status in (201, 507), f"a create was answered with {status}: {reply}")
        if status == 507:
            faults.require("No space" in reply["error"]["message"], f"a create without room was refused with {reply}")
            faults.require(node.request("GET", "/v1/blocks/v/other")[0] == 404, "a refused create left a block")
        return status == 201
    cluster.wait_until("there is room for a new file", made)
    half = empty // 2 // CHUNK * CHUNK
    handle = open_block(node, "v/other")
    node.terminate()
    node.start(BLOCKD_FAULT="block.create.after-record")
    try:
        node.call("POST", "/v1/blocks", {"volume": "v", "name": "full", "size": empty // MIB * MIB - 8 * MIB,
                                         "prealloc": "full", "hosts": ["node1"]})
    except (OSError, http.client.HTTPException):
        pass
    node.process.wait(timeout=cluster.PATIENCE)
    for offset in range(0, half, CHUNK):
        handle.pwrite(b"\x55" * CHUNK, offset)
    node.start()
    status = cluster.wait_until("the job ends", lambda: (lambda s: s if s["phase"] in ("ready", "failed") else None)(
        node.get("/v1/blocks/v/full")["status"]))
    faults.require(status["phase"] == "failed" and "space" in status["error"].lower(), f"preallocation ended as {status}")
    node.delete_block("v/full")
    # The room is the other block's now.
    cluster.wait_until("the other block is writable again", lambda: writable(handle, half))
    handle.shutdown()
    node.delete_block("v/other")
    wait_room(node, empty - 32 * MIB)
    faults.require_nothing_leaked(node, "after a failed preallocation")


def writable(handle, offset):
    try:
        handle.pwrite(b"\xaa" * CHUNK, offset, nbd.CMD_FLAG_FUA)
        return True
    except nbd.Error as error:
        faults.require(error.errnum == errno.ENOSPC, f"a write was answered with {error}")
        return False


def main():
    cluster.require_root()
    rng = faults.chance()
    with cluster.Node() as node:
        node.replica3("v", "512MiB", overcommit=10)
        for _ in range(faults.rounds(1)):
            full_bricks(node, rng)
            full_while_preallocating(node)


if __name__ == "__main__":
    main()
