#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 300
"""TLS of a volume switched on and off; certificates that are renewed, that expired while blockd was away, that are revoked; the
volfile server with TLS."""

import os
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import nbd
import shares
import tlsclient
import volclient
from api import require, require_equal
from node import Node, require_root, skip, wait_until

DATA = bytes(range(256)) * 16


def on_block(node, write=False):
    disk = nbd.NBD()
    disk.connect_uri(node.uri("v/b"))
    if write:
        disk.pwrite(DATA, 0, nbd.CMD_FLAG_FUA)
    data = disk.pread(len(DATA), 0)
    disk.shutdown()
    return data


def serves(node):
    """The block has what was written at the beginning; the NBD server takes a moment to follow the bricks."""
    def reads():
        if node.cli_run("uri", "v/b").returncode != 0:
            return False
        try:
            return on_block(node) == DATA
        except nbd.Error:
            return False
    wait_until("the block is served with its data", reads)
    with shares.mounted(node, "v/a") as point:
        require_equal((point / "file").read_text(), "kept", "the share's file")


def switch(node, value, *access):
    node.cli("volume", "stop", "v")
    node.wait_volume("v", "stopped")
    node.cli("volume", "modify", "v", "--tls", value, *access)
    node.cli("volume", "start", "v")
    node.wait_volume("v")
    serves(node)
    subjects = {tlsclient.shown(brick["port"]) for brick in node.volume_status("v")["bricks"]}
    require_equal(subjects, {"subject=CN = node1, OU = node" if value == "on" else None}, f"what bricks show with tls {value}")


def follows(point):
    """A share that stayed mounted on the node."""
    def reads():
        try:
            return (point / "file").read_text() == "kept"
        except OSError:
            return False
    wait_until("the share that stayed mounted is there again", reads)


def on_and_off(node):
    node.replica3("v", "512MiB")
    node.create_block("v/b", "16MiB")
    shares.create(node, "v/a")
    require_equal(on_block(node, write=True), DATA, "the block")
    with shares.mounted(node, "v/a") as point:
        (point / "file").write_text("kept")
    require(not (node.state / "pki").exists(), "there are certificates that nobody wants")

    for words, text in ((["--tls", "on"], "stop it first"), (["--access", "cert:app"], "needs TLS")):
        done = node.cli_run("volume", "modify", "v", *words)
        require(done.returncode != 0 and text in done.stderr, f"{words}: {done}")
    node.cli("share", "access", "v/a", "10.0.0.1")
    node.cli("volume", "stop", "v")
    node.wait_volume("v", "stopped")
    done = node.cli_run("volume", "modify", "v", "--tls", "on")
    require(done.returncode != 0 and "share access v/a none" in done.stderr, f"with a share's list: {done}")
    node.cli("volume", "start", "v")
    node.wait_volume("v")
    node.cli("share", "access", "v/a", "none")
    server = node.nbd_pid()
    with shares.mounted(node, "v/a") as point:
        switch(node, "on")
        follows(point)
        switch(node, "off", "--access", "10.0.0.1")
        follows(point)
    switch(node, "on", "--access", "cert:app")
    require_equal(node.nbd_pid(), server, "the NBD server, which has to follow while it runs")


def certificate(node):
    return node.get("/v1/nodes/node1")["status"]["certificate"]


def put_certificate(node, label, start, end):
    """In the node's place one with its key and other times, as after months without blockd."""
    made = tlsclient.forge(node, label, "node1/OU=node", start=start, end=end, key=node.state / "pki" / "node-key.pem")
    (node.state / "pki" / "node-cert.pem").write_bytes(made.cert.read_bytes())


def renewal(node):
    with shares.mounted(node, "v/a") as point:
        key = (node.state / "pki" / "node-key.pem").read_bytes()
        for label, start, end in (("short", "-60d", "+2d"), ("over", "-60d", "-1d")):
            before, pids = certificate(node), node.brick_pids("v")
            put_certificate(node, label, start, end)
            node.restart()
            wait_until("another certificate", lambda: certificate(node) not in (None, before))
            require_equal((node.state / "pki" / "node-key.pem").read_bytes(), key, "the node's key")
            require_equal(node.brick_pids("v"), pids, "the bricks")
            (point / "file").write_text("kept")
            os.kill(pids[0], signal.SIGKILL)  # it comes back, and clients to it, with the new one
            wait_until("the brick is back", lambda: node.brick_pids("v")[0] not in (0, pids[0]))
            node.wait_healed("v")
            serves(node)


def revoked_node(node):
    own = tlsclient.Certificate(node.state / "pki" / "node-cert.pem", node.state / "pki" / "node-key.pem", "/dev/null")
    with shares.mounted(node, "v/a") as point:
        node.cli("certificate", "revoke", own.serial())
        (point / "file").write_text("kept")  # who is connected stays
        node.restart()
        wait_until("the status tells", lambda: "revoked" in node.cli_run("status").stdout)
        own.cert.unlink()
        own.key.unlink()
        node.restart()
        wait_until("the status is good again", lambda: "revoked" not in node.cli_run("status").stdout)
    node.wait_volume("v")
    serves(node)


def lost_list(node):
    path = node.state / "pki" / "ca-crl.pem"
    text = path.read_bytes()
    path.unlink()
    done = node.cli_run("certificate", "issue", "x", node.folder / "x")
    require(done.returncode != 0 and "ca-crl.pem" in done.stderr, f"without the list: {done}")
    path.write_bytes(text)


def volfile_server(node):
    """Standard clients need their certificate for the volfile too, and the mark that says so."""
    node.configure({"tls": {"volserver": "yes"}})
    node.restart()
    wait_until("the volfile server speaks TLS", lambda: tlsclient.shown(node.volserver_port))
    tlsclient.issue(node, "app").use()
    require(not tlsclient.admitted(node), "a client without TLS got a volfile")
    tlsclient.SECURE.touch()
    wait_until("a client with TLS gets the volfile", lambda: tlsclient.admitted(node))
    tlsclient.forge(node, "alien", "app", authority=tlsclient.authority(node.folder / "alien", "alien")).use()
    require(not tlsclient.admitted(node), "a certificate of another authority got a volfile")
    tlsclient.SECURE.unlink()
    with volclient.Volfiles(node, unix=True) as stream:
        require("ssl-enabled" in stream.fetch("v.mount"), "the volfile by the unix socket")
    serves(node)


def main():
    require_root()
    if not os.path.exists("/dev/fuse"):
        skip("needs FUSE")
    tlsclient.own_files()
    with Node() as node:
        on_and_off(node)
        renewal(node)
        revoked_node(node)
        lost_list(node)
        volfile_server(node)


if __name__ == "__main__":
    main()
