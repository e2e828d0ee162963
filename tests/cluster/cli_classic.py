#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""The classic command line against a real node, as scripts and heketi use it: replies, exit statuses, and what is there
afterwards."""

import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from node import Node, require_programs, require_root


def run(node, *words, status=0, stderr=""):
    """The decoded reply of a command with --json, which must be alone on its stream."""
    done = node.cli_run(*words, "--json")
    assert done.returncode == status, f"{words}: exit {done.returncode}: {done.stdout}{done.stderr}"
    reply, other = (done.stdout, done.stderr) if status == 0 else (done.stderr, done.stdout)
    assert other == stderr or (stderr and stderr in other), f"{words}: also printed {other!r}"
    # gluster-block's own form, with spaces, byte by byte.
    assert reply.startswith("{ ") and reply.endswith(" }\n"), reply
    decoded = json.loads(reply)
    assert reply == spaced(decoded) + "\n", reply
    return decoded


def spaced(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)}: {spaced(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[ " + ", ".join(map(spaced, value)) + " ]" if value else "[ ]"
    return json.dumps(value)


def fails(node, *words, status, message):
    reply = run(node, *words, status=status)
    assert reply["RESULT"] == "FAIL" and reply["errCode"] == status and message in reply["errMsg"], reply
    return reply


def life_of_a_block(node):
    """What heketi does with one volume, in its order."""
    assert run(node, "list", "v") == {"blocks": [], "RESULT": "SUCCESS"}
    made = run(node, "create", "v/b1", "ha", "1", "auth", "disable", "prealloc", "no", "127.0.0.1", "64MiB")
    assert list(made) == ["IQN", "PORTAL(S)", "RESULT"], made
    gbid = node.get("/v1/blocks/v/b1")["uid"]
    assert made == {"IQN": f"iqn.2016-12.org.gluster-block:{gbid}", "PORTAL(S)": [f"127.0.0.1:{node.nbd_port}"],
                    "RESULT": "SUCCESS"}, made
    assert run(node, "list", "v") == {"blocks": ["b1"], "RESULT": "SUCCESS"}
    assert run(node, "info", "v/b1") == {
        "NAME": "b1", "VOLUME": "v", "GBID": gbid, "SIZE": "64.0 MiB", "HA": 1, "IOTIMEOUT": "43 Seconds", "PASSWORD": "",
        "EXPORTED ON": ["127.0.0.1"]}

    uri = node.cli("uri", "v/b1").strip()
    assert json.loads(subprocess.check_output(["nbdinfo", "--json", uri]))["exports"][0]["export-size"] == 64 << 20
    grown = run(node, "modify", "v/b1", "size", "128MiB")
    assert list(grown) == ["IQN", "SIZE", "SUCCESSFUL ON", "RESULT"] and grown["SIZE"] == "128.0 MiB", grown
    assert run(node, "info", "v/b1")["SIZE"] == "128.0 MiB"
    assert int(subprocess.check_output(["nbdinfo", "--size", uri])) == 128 << 20

    assert run(node, "delete", "v/b1") == {"SUCCESSFUL ON": ["127.0.0.1"], "RESULT": "SUCCESS"}
    fails(node, "delete", "v/b1", status=2, message="block v/b1 doesn't exist")
    fails(node, "info", "v/b1", status=2, message="block v/b1 doesn't exist")
    fails(node, "delete", "w/b1", status=2, message="volume w does not exist")
    fails(node, "list", "w", status=2, message="volume w does not exist")
    fails(node, "create", "w/b1", "127.0.0.1", "64MiB", status=2, message="volume w does not exist")
    assert node.items("/v1/blocks") == [] and node.items("/v1/exports") == []


def sizes(node):
    """Rounding is said beside the reply; what the daemon refuses comes through; shrinking needs force."""
    run(node, "create", "v/s", "prealloc", "no", "block-size", "4096", node.name, "3000001", stderr="rounded down to 2998272")
    block = node.get("/v1/blocks/v/s")
    assert block["spec"]["size"] == 2998272 and block["spec"]["block_size"] == 4096, block
    fails(node, "modify", "v/s", "size", "2998272", status=22, message="already")
    fails(node, "modify", "v/s", "size", "2MiB", status=22, message="force")
    run(node, "modify", "v/s", "size", "2MiB", "force")
    assert node.get("/v1/blocks/v/s")["status"]["size"] == 2 << 20
    fails(node, "create", "v/t", node.name, "1000", status=22, message="1 MiB")
    fails(node, "create", "v/t", "prealloc", "no", node.name, "1EiB", status=28, message="no room")
    fails(node, "create", "v/t", "block-size", "1024", node.name, "2MiB", status=22, message="512 or 4096")
    fails(node, "create", "v/s", node.name, "2MiB", status=17, message="already exists")
    fails(node, "create", "v/t", "elsewhere", "2MiB", status=2, message="elsewhere")
    assert [b["name"] for b in node.items("/v1/blocks")] == ["v/s"]
    run(node, "delete", "v/s")


def preallocation(node):
    """`prealloc full` is the default, and the command returns when the space is allocated."""
    run(node, "create", "v/p", node.name, "32MiB")
    block = node.get("/v1/blocks/v/p")
    assert block["spec"]["prealloc"] == "full" and block["status"]["phase"] == "ready", block
    assert block["status"]["used"] >= 32 << 20, block
    run(node, "delete", "v/p")


def adoption(node):
    """A block is deleted without its file, and another one adopts that."""
    run(node, "create", "v/old", "prealloc", "no", node.name, "8MiB")
    uri = node.cli("uri", "v/old").strip()
    subprocess.run(["qemu-io", "-f", "raw", "-c", "write -P 0x5a 1M 1M", uri], check=True, stdout=subprocess.DEVNULL)
    gbid = node.get("/v1/blocks/v/old")["uid"]
    run(node, "delete", "v/old", "unlink-storage", "no")
    run(node, "create", "v/new", "storage", gbid, node.name)
    assert run(node, "info", "v/new")["SIZE"] == "8.0 MiB"
    uri = node.cli("uri", "v/new").strip()
    done = subprocess.run(["qemu-io", "-f", "raw", "-c", "read -P 0x5a 1M 1M", uri], check=True, capture_output=True, text=True)
    assert "failed" not in done.stdout, done.stdout
    fails(node, "create", "v/x", "storage", "no-such-file", node.name, status=2, message="no-such-file")
    run(node, "delete", "v/new")


def plain_text(node):
    node.cli("create", "v/t", "prealloc", "no", node.name, "8MiB")
    assert node.cli("list", "v") == "t\n"
    assert f"EXPORTED ON: 127.0.0.1\n" in node.cli("info", "v/t")
    assert node.cli("delete", "v/t") == "SUCCESSFUL ON: 127.0.0.1\nRESULT: SUCCESS\n"
    assert node.cli("list", "v") == "*Nil*\n"
    done = node.cli_run("delete", "v/t")
    assert done.returncode == 2 and done.stdout == "" and "errMsg: block v/t doesn't exist\n" in done.stderr, done


def main():
    require_root()
    require_programs("nbdinfo", "qemu-io")
    with Node() as node:
        node.single("v", "512MiB")
        life_of_a_block(node)
        sizes(node)
        preallocation(node)
        adoption(node)
        plain_text(node)


if __name__ == "__main__":
    main()
