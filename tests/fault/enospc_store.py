#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 240
"""No room for the store: a change is refused whole, what is served goes on, and with room everything works again."""

import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import node as cluster
import traces
from load import Load


def fill(folder):
    """Takes all room of the file system, to the last byte; the file that has it."""
    path = folder / "filler"
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 16, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass
    return path


def refused(node, method, path, body=None):
    """Small changes may find a place in what the store has already; one of many does not."""
    status, reply = node.request(method, path, body, timeout=2 * cluster.PATIENCE)
    if status < 300:
        return False
    faults.require(status == 507 and reply["error"]["code"] == "resource_exhausted",
                   f"{method} {path} without room for the store was answered with {status}: {reply}")
    return True


def exhaust(node):
    """Creates until one is refused. The names of those that were made."""
    made = []
    for index in range(2000):
        name = f"n{index}"
        if refused(node, "POST", "/v1/blocks?wait=10", {"volume": "v", "name": name, "size": "1MiB"}):
            return made
        made.append(name)
    raise AssertionError(f"{len(made)} blocks were made without room for the store")


def names(node):
    return {block["name"].split("/")[1] for block in node.items("/v1/blocks/v")}


def without_room(node, state, load):
    filler = fill(state)
    made = exhaust(node)
    print(f"{len(made)} blocks more found room", flush=True)
    faults.require(names(node) == {"b", *made}, f"made were {made}, and there are {names(node)}")
    load.wait_progress()
    faults.require(refused(node, "DELETE", "/v1/volumes/w?wait=5"), "a volume was deleted without room for the store")
    refused(node, "PATCH", "/v1/blocks/v/b?wait=5", {"size": "64MiB"})
    refused(node, "POST", "/v1/blocks/v/b/rename?wait=5&force=1", {"name": "c"})
    filler.unlink()
    return made


def main():
    cluster.require_root()
    rng = faults.chance()
    state = pathlib.Path(tempfile.mkdtemp(prefix="s-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", state], check=True)
    try:
        with cluster.Node(settings={"daemon": {"state-dir": state}}) as node:
            node.replica3("v", "512MiB")
            node.single("w", "512MiB")
            node.create_block("v/b", "16MiB")
            with Load(node.unix_uri("v/b"), rng) as load:
                for round_number in range(faults.rounds(2)):
                    made = without_room(node, state, load)
                    node.create_block("w/x", "1MiB")  # the volume is as it was
                    node.delete_block("w/x")
                    for name in made:
                        node.delete_block(f"v/{name}")
                    node.wait_volume("v")
                    faults.require_nothing_leaked(node, "with room again")
                    if round_number % 2 == 0:
                        filler = fill(state)  # and blockd starts without room, or says why not
                        node.kill()
                        node.start(wait=False)
                        load.wait_progress()
                        filler.unlink()
                        if node.process.poll() is not None:
                            node.start(wait=False)
                        node.wait_ready()
            load.verify()
            faults.require_same_replicas(node, "v/b", load)
            faults.require_nothing_leaked(node, "at the end")
    finally:
        for point in traces.mounts(state):  # the devices' too, if blockd could not be stopped
            subprocess.run(["umount", "-l", point], check=True)
        state.rmdir()


if __name__ == "__main__":
    main()
