#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""A volume grows while one of its shares is mounted and written: the mount takes the new bricks over, and keeps every byte."""

import pathlib
import random
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import node as cluster
import shares
from api import MIB, require, require_equal


class Writer(threading.Thread):
    """Writes one file after the other until it is told to end, and remembers what is in each."""

    def __init__(self, point):
        super().__init__(daemon=True)
        self.point, self.files, self.error, self.ending = point, {}, None, threading.Event()

    def run(self):
        number = 0
        while not self.ending.is_set():
            data = random.Random(number).randbytes(20000)
            name = f"file-{number % 200}"
            try:
                (self.point / name).write_bytes(data)
            except OSError as error:
                self.error = error
                return
            self.files[name] = data
            number += 1


def main():
    cluster.require_root()
    with cluster.Node() as node:
        node.devices(6, "512MiB")
        node.create_volume("v", "replica3", [], size="100MiB", sets=1)
        node.wait_volume("v")
        node.post("/v1/shares", {"volume": "v", "name": "s", "size": "32MiB", "no_quota": True})
        with shares.mounted(node, "v/s") as point:
            writer = Writer(pathlib.Path(point))
            writer.start()
            cluster.wait_until("files are written", lambda: len(writer.files) > 20 or writer.error)
            job = node.post("/v1/volumes/v/expand", {"sets": 1, "allow_same_node": True})["name"]
            ended = cluster.wait_until("the volume has grown", lambda: (j := node.get(f"/v1/jobs/{job}"))["status"]["phase"] not in (
                "pending", "running") and j, timeout=120)
            require_equal(ended["status"]["phase"], "succeeded", f"the job {ended}")
            writer.ending.set()
            writer.join(timeout=60)
            require(not writer.error, f"a write to the mounted share failed: {writer.error}")
            for name, data in writer.files.items():
                require((writer.point / name).read_bytes() == data, f"{name} holds something else")
        roots = [pathlib.Path(brick["path"]) for brick in node.volume_status("v")["bricks"]]
        require_equal([(root / "shares/s").is_dir() for root in roots], [True] * 6, "the share's folder on the bricks")
        print(f"{len(writer.files)} files, {sum(map(len, writer.files.values())) / MIB:.1f} MiB")


if __name__ == "__main__":
    main()
