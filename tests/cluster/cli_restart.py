#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""blockd goes away in the middle of commands: the user of gluster-block sees nothing of it, and nothing is made twice or
left half made. An interrupted command says that the change goes on."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from node import BUILD, Node, require_root, wait_until

PROGRAM = BUILD / "bin" / "gluster-block"


def start(node, *words):
    return subprocess.Popen([PROGRAM, "--socket", node.socket, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=node.environment(), text=True)


def killed_after_record(node):
    """kill -9 between the transaction and the answer: the same command ends well, with one block."""
    for name, point, words in (("k1", "block.create.after-record", ["prealloc", "no"]),
                               ("k2", "block.create.after-file", []),
                               ("k3", "block.settle.after-status", [])):
        node.restart(BLOCKD_FAULT=point)
        command = start(node, "create", f"v/{name}", *words, node.name, "16MiB", "--json")
        assert node.wait_died() == -signal.SIGKILL
        assert command.poll() is None, command.communicate()
        node.start()
        out, err = command.communicate(timeout=60)
        assert command.returncode == 0 and err == "", (name, command.returncode, out, err)
        reply = json.loads(out)
        assert reply["IQN"].endswith(node.get(f"/v1/blocks/v/{name}")["uid"]), reply
        assert reply["PORTAL(S)"] == [f"127.0.0.1:{node.nbd_port}"], reply
    assert len(node.items("/v1/blocks")) == 3 and len(node.items("/v1/exports")) == 3


def killed_while_deleting(node):
    for name, point in (("k1", "block.delete.after-mark"), ("k2", "block.delete.after-file")):
        node.restart(BLOCKD_FAULT=point)
        command = start(node, "delete", f"v/{name}", "--json")
        assert node.wait_died() == -signal.SIGKILL
        node.start()
        out, err = command.communicate(timeout=60)
        assert command.returncode == 0 and json.loads(out)["RESULT"] == "SUCCESS", (name, out, err)
    assert [b["name"] for b in node.items("/v1/blocks")] == ["v/k3"]


@contextlib.contextmanager
def brick_that_hangs(node):
    """What needs the brick takes as long as this block."""
    pid = node.brick_pids("v")[0]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def recorded(node, name):
    return any(block["name"] == name for block in node.items("/v1/blocks"))


def restarted_in_good_order(node):
    """systemctl restart while a command waits."""
    with brick_that_hangs(node):
        command = start(node, "create", "v/long", node.name, "64MiB", "--json")
        wait_until("the block is recorded", lambda: recorded(node, "v/long"))
        assert command.poll() is None
        assert node.terminate() == 0
    node.start()
    out, err = command.communicate(timeout=120)
    assert command.returncode == 0 and err == "", (command.returncode, out, err)
    block = node.get("/v1/blocks/v/long")
    assert block["status"]["phase"] == "ready", block
    assert json.loads(out)["IQN"].endswith(block["uid"])
    node.cli("delete", "v/long")


def watch_goes_on(node):
    """`list --watch` starts with what is there, and outlives the daemon."""
    command = start(node, "block", "list", "v", "--watch", "--json-plain")
    try:
        first = json.loads(command.stdout.readline())
        assert first["type"] == "put" and first["key"] == "blocks/v/k3", first
        node.restart()
        node.create_block("v/w", "8MiB", export=False)
        while True:
            change = json.loads(command.stdout.readline())
            if change["key"] == "blocks/v/w" and change["object"]["status"]["phase"] == "ready":
                break
        node.delete_block("v/w")
        while json.loads(command.stdout.readline())["type"] != "delete":
            pass
    finally:
        command.terminate()
        command.communicate()
    assert command.returncode == -signal.SIGTERM


def interrupted(node):
    """Ctrl-C says that the change goes on, and so it does."""
    with brick_that_hangs(node):
        command = start(node, "create", "v/i", node.name, "64MiB")
        wait_until("the block is recorded", lambda: recorded(node, "v/i"))
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=30)
        assert command.returncode == -signal.SIGINT and out == "", (command.returncode, out)
        assert "the change may go on in blockd" in err, err
    wait_until("the block is ready", lambda: node.get("/v1/blocks/v/i")["status"]["phase"] == "ready")
    node.cli("delete", "v/i")


def timed_out(node):
    """The time to wait ends before the change does: the command says so, and takes nothing back."""
    with brick_that_hangs(node):
        command = start(node, "timeout", "1", "create", "v/late", node.name, "64MiB", "--json")
        wait_until("the block is recorded", lambda: recorded(node, "v/late"))
    out, err = command.communicate(timeout=120)
    assert command.returncode in (0, 110), (command.returncode, out, err)
    if command.returncode == 110:
        assert "goes on in blockd" in json.loads(err)["errMsg"], err
    wait_until("the block is ready", lambda: node.get("/v1/blocks/v/late")["status"]["phase"] == "ready")
    node.cli("delete", "v/late")


def main():
    require_root()
    with Node() as node:
        node.single("v", "1GiB")
        killed_after_record(node)
        killed_while_deleting(node)
        restarted_in_good_order(node)
        watch_goes_on(node)
        interrupted(node)
        timed_out(node)


if __name__ == "__main__":
    main()
