#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""A node whose bricks and exports are on IPv6: addresses are written as each place wants them, and data goes through."""

import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import node as cluster
from api import open_nbd, require, require_equal


def main():
    cluster.require_root()
    cluster.require_programs("nbdinfo", "ss")
    with cluster.Node(settings={"node": {"address": "::1"}, "nbd": {"listen": "::1"}}) as node:
        node.replica3("v", "512MiB")
        made = node.cli("create", "v/b", "ha", "1", "::1", "16MiB")
        require(f"PORTAL(S): [::1]:{node.nbd_port}" in made, f"the portal: {made}")
        uri = node.uri("v/b")
        require_equal(uri, f"nbd://[::1]:{node.nbd_port}/v/b", "the URI")
        disk = open_nbd(uri)
        disk.pwrite(b"6" * 4096, 0)
        disk.flush()
        disk.shutdown()
        require_equal(bytes(open_nbd(uri).pread(4096, 0)), b"6" * 4096, "data over IPv6")
        subprocess.run(["nbdinfo", uri], check=True, stdout=subprocess.DEVNULL)
        listening = subprocess.run(["ss", "-Hltnp"], check=True, capture_output=True, text=True).stdout
        for pid in (node.nbd_pid(), *node.brick_pids("v")):
            lines = [line for line in listening.splitlines() if f"pid={pid}," in line]
            require(lines and all("[::1]:" in line for line in lines), f"process {pid} listens on {lines}")


if __name__ == "__main__":
    main()
