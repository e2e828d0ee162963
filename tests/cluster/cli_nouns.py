#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""The nouns against a real node, from a bare machine to a block that is served and back; completion in a real bash."""

import json
import os
import pathlib
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from node import BUILD, TOP, Node, require_programs, require_root, wait_until


SERVES = ("volume v: online\n", "volume v: degraded\n")


def fails(node, *words, status, text):
    done = node.cli_run(*words)
    assert done.returncode == status and text in done.stderr and done.stdout == "", (words, done)


def build_up(node):
    images = node.folder / "images"
    images.mkdir()
    for name in ("d1", "d2", "d3"):
        assert node.cli("device", "add", name, images / f"{name}.img", "--image-size", "512MiB") == \
            f"device node1/{name}: ready\n"
    fails(node, "device", "add", "d1", images / "other.img", "--image-size", "512MiB", status=17, text="node1/d1")
    fails(node, "volume", "create", "v", status=28, text="no device for brick 2 of volume v")
    # It serves as soon as a quorum of its bricks is up.
    assert node.cli("volume", "create", "v", "--allow-same-node", "--devices", "d1,node1/d2", "--devices", "d3") in SERVES
    node.wait_volume("v")
    assert [b["device"] for b in node.cli("volume", "info", "v", "--json")["spec"]["bricks"]] == ["d1", "d2", "d3"]
    assert node.cli("block", "create", "v/b", "64MiB") == "block v/b: ready\n"
    fails(node, "uri", "v/b", status=2, text="gluster-block export create v/b")
    assert node.cli("export", "create", "v/b") == "export node1/v/b: live\n"
    uri = node.uri("v/b")
    assert int(subprocess.check_output(["nbdinfo", "--size", uri])) == 64 << 20


def look(node):
    assert node.cli("block", "list").splitlines()[1].startswith("v/b   ready  64.0 MiB  no ")
    assert node.cli("block", "list", "v", "--json")["items"][0]["name"] == "v/b"
    assert node.cli("device", "info", "d1", "--json") == node.cli("device", "info", "node1/d1", "--json")
    assert "size:                64.0 MiB (67108864 bytes)" in node.cli("block", "info", "v/b")
    assert node.cli("export", "info", "v/b", "--json")["status"]["phase"] == "live"
    assert node.cli("status").startswith("ok as node node1 sees it")
    assert f"blockd {node.cli('version', '--json')['gluster-block']} " in node.cli("version")
    fails(node, "block", "info", "v/c", status=2, text="v/c")
    fails(node, "block", "list", "w", status=2, text="w")
    fails(node, "block", "create", "v/c", "lots", status=22, text="size: \"lots\" is no size")
    fails(node, "block", "create", "v/-c", "1GiB", status=22, text="begins with")
    fails(node, "block", "create", "v/c", "64MiB", "--block-size", "huge", status=22, text="block_size must be")
    done = node.cli_run("block", "info", "v/c", "--json")
    assert json.loads(done.stderr)["error"]["code"] == "not_found", done


def change(node):
    assert node.cli("block", "modify", "v/b", "128MiB") == "block v/b: ready\n"
    fails(node, "block", "modify", "v/b", "64MiB", status=22, text="force")
    assert node.cli("block", "modify", "v/b", "64MiB", "--force") == "block v/b: ready\n"
    revision = node.cli("block", "info", "v/b", "--json")["revision"]
    fails(node, "block", "modify", "v/b", "72MiB", "--revision", revision + 1000, status=116, text="")
    assert node.cli("block", "rename", "v/b", "c") == "block v/c: ready\n"
    wait_until("the export has followed", lambda: node.cli_run("uri", "v/c").returncode == 0)
    assert node.cli("block", "create", "v/full", "16MiB", "--prealloc", "full") == "block v/full: ready\n"
    job = node.cli("job", "list", "--json")["items"][0]
    assert job["status"]["phase"] == "succeeded" and job["status"]["done"] == 16 << 20, job
    assert node.cli("job", "cancel", job["name"]) == f"job {job['name']}: gone\n"


def trouble(node):
    """A killed brick comes back by itself; a stopped volume takes no blocks, and starts again."""
    pid = node.brick_pids("v")[0]
    os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    wait_until("the brick is back", lambda: node.brick_pids("v")[0] not in (0, pid))
    assert node.cli("volume", "stop", "v") == "volume v: stopped\n"
    fails(node, "block", "create", "v/x", "64MiB", status=107, text="v")
    assert node.cli("volume", "start", "v") in SERVES
    node.wait_volume("v")


def completion(node):
    def complete(line):
        words = line.split(" ")
        script = (f"source {TOP}/cli/gluster-block.bash; COMP_WORDS=({BUILD}/bin/gluster-block \"$@\"); "
                  "COMP_CWORD=$#; compopt() { :; }; _gluster_block; printf '%s\\n' \"${COMPREPLY[@]}\"")
        done = subprocess.run(["bash", "-c", script, "bash", *words], env=node.environment(BLOCKD_SOCKET=str(node.socket)),
                              check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        return done.stdout.split(), done.stderr

    assert complete("vol") == (["volume"], "")
    assert complete("block info v/") == (["v/c", "v/full"], "")
    assert complete("create ") == (["v/"], "")
    assert complete("device remove d") == (["d1", "d2", "d3"], "")
    assert complete("volume create w --template r") == (["replica3"], "")
    assert complete("nothing ") == ([], "")


def take_down(node):
    fails(node, "volume", "delete", "v", status=39, text="v")
    assert node.cli("export", "delete", "v/c") == "export node1/v/c: gone\n"
    assert node.cli("block", "delete", "v/c") == "block v/c: gone\n"
    assert node.cli("block", "delete", "v/full") == "block v/full: gone\n"
    fails(node, "device", "remove", "d1", status=16, text="d1")
    assert node.cli("volume", "delete", "v") == "volume v: gone\n"
    for name in ("d1", "d2", "d3"):
        assert node.cli("device", "remove", name) == f"device node1/{name}: gone\n"
    assert node.cli("device", "list", "--json")["items"] == []


def main():
    require_root()
    require_programs("nbdinfo", "bash")
    with Node() as node:
        build_up(node)
        look(node)
        change(node)
        trouble(node)
        completion(node)
        take_down(node)


if __name__ == "__main__":
    main()
