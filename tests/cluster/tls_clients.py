#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 300
"""A volume with TLS: its blocks, shares and standard clients; who has no good certificate is refused with a line in the log,
and those who have one notice nothing."""

import os
import pathlib
import signal
import socket
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import nbd
import shares
import tlsclient
import volclient
from api import require, require_equal
from node import Node, require_programs, require_root, skip, wait_until

MIB = 1 << 20


class Writer:
    """A block over NBD and a share that is mounted on the node: both must serve on, whatever is tried."""

    def __init__(self, node):
        self.point = shares.mount(node, "v/a")
        self.disk = nbd.NBD()
        self.disk.connect_uri(node.uri("v/b"))
        self.count = 0

    def check(self):
        self.count += 1
        data = os.urandom(4096)
        self.disk.pwrite(data, self.count * 4096, nbd.CMD_FLAG_FUA)
        require(self.disk.pread(4096, self.count * 4096) == data, "what was read of the block")
        (self.point / "file").write_bytes(data)
        require((self.point / "file").read_bytes() == data, "what was read of the share")


def refused(node, writer, what, words, connect=lambda node: tlsclient.admitted(node)):
    """`connect` fails, and the bricks say one of the words."""
    logs = tlsclient.Logs(node)
    require(not connect(node), f"{what}: admitted")
    wait_until(f"{what}: one of {words} in the bricks' logs, which say {logs.text()}",
               lambda: any(word in logs.text() for word in words))
    writer.check()


def plain_client(node):
    """A FUSE client that got its volfile from somebody, without TLS in it."""
    text = (node.state / "volserver" / "v.mount.vol").read_text()
    volfile, point = node.folder / "plain.vol", node.folder / "plain"
    point.mkdir(exist_ok=True)
    require("ssl-enabled" in text, "the volfile has no TLS")
    volfile.write_text("\n".join(line for line in text.splitlines() if "ssl-enabled" not in line) + "\n")
    subprocess.run(["/usr/sbin/glusterfs", "-f", volfile, "-l", node.logs / "plain.log", point], env=node.environment(),
                   check=False, timeout=60, capture_output=True)
    try:
        os.listdir(point)
        return os.path.ismount(point)
    except OSError:
        return False
    finally:
        subprocess.run(["umount", "-l", point], check=False, capture_output=True)


def garbage(node):
    for brick in node.volume_status("v")["bricks"]:
        with socket.create_connection(("127.0.0.1", brick["port"]), 20) as stream:
            stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
            stream.settimeout(20)
            try:
                while stream.recv(4096):
                    pass
            except ConnectionError:
                pass
    return False


def everything_is_encrypted(node):
    for brick in node.volume_status("v")["bricks"]:
        require_equal(tlsclient.shown(brick["port"]), "subject=CN = node1, OU = node", "what a brick shows")
    info = node.cli("node", "info", "node1", "--json")
    require(info["status"]["certificate_expires"], f"node info: {info}")
    left = [line for line in node.request("GET", "/metrics")[1].splitlines() if line.startswith("blockd_certificate_seconds_left")]
    require(len(left) == 1 and 89 * 86400 < int(left[0].split()[1]) <= 90 * 86400, f"the metric: {left}")


def standard_clients(node, app):
    app.use()
    with volclient.mounted(node) as point:
        (point / "x").write_text("over TLS")
        (point / "image").write_bytes(bytes(4 * MIB))
        with volclient.mounted(node, "/v/shares/a", "sub") as share:
            require("file" in os.listdir(share), "the share's file is missing")
    with open(node.folder / "qemu.log", "w+") as output:
        qemu = subprocess.Popen(["qemu-io", "-f", "raw", "-c", "write -P 7 0 1M", "-c", "read -P 7 0 1M",
                                 f"gluster://127.0.0.1:{node.volserver_port}/v/image"],
                                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=node.environment())
        try:
            wait_until("qemu-io has read", lambda: "read 1048576/1048576" in (node.folder / "qemu.log").read_text())
        finally:
            qemu.kill()  # libgfapi takes ten seconds for its end
            qemu.wait()


def hostile_clients(node, writer, app):
    stranger = tlsclient.authority(node.folder / "stranger", "blockd-stranger")
    good = node.state / "pki" / "ca-cert.pem"
    untrusted = ("unknown ca", "certificate verify failed", "self-signed", "unable to get local issuer")
    refused(node, writer, "a client without TLS", ("wrong version number", "http request", "SSL routines"), plain_client)
    refused(node, writer, "what is no protocol at all", ("http request",), garbage)
    for label, name, keywords, words in (
            ("other", "app", {"authority": stranger}, untrusted),
            ("expired", "app", {"start": "-9d", "end": "-1d"}, ("certificate verify failed", "expired")),
            ("early", "app", {"start": "+1d", "end": "+9d"}, ("certificate verify failed",)),
            ("name", "other-app", {}, ("Cannot authenticate client", "AUTH_FAILED", "not permitted", "accept failed", "EACCES")),
            ("wildcard", "*", {}, ("Cannot authenticate client",)),
            ("list", "app,node1", {}, ("Cannot authenticate client",))):
        tlsclient.forge(node, label, name, **keywords).use()
        refused(node, writer, f"certificate {label}", words)
    lost = tlsclient.issue(node, "lost")
    node.cli("volume", "modify", "v", "--access", "cert:app,cert:lost")
    lost.use()
    wait_until("the new name is admitted", lambda: tlsclient.admitted(node))
    node.cli("certificate", "revoke", lost.serial())
    refused(node, writer, "a revoked certificate", ("verify failed",))
    require(good.exists(), "the authority")
    app.use()
    wait_until("the good client is admitted after all this", lambda: tlsclient.admitted(node))


def taken_from_the_list(node, writer, app):
    """Who is connected is cut off."""
    app.use()
    with volclient.mounted(node) as point:
        (point / "x").write_text("still there")
        node.cli("volume", "modify", "v", "--access", "cert:nobody")

        def is_out():
            try:
                (point / "y").write_text("x")
                return False
            except OSError:
                return True
        wait_until("the client is cut off", is_out)
    writer.check()
    node.cli("volume", "modify", "v", "--access", "cert:app")


def survives(node, writer):
    """blockd and bricks die; what is missing is healed over TLS."""
    pid = node.brick_pids("v")[0]
    os.kill(pid, signal.SIGKILL)
    writer.check()
    wait_until("the brick is back", lambda: node.brick_pids("v")[0] not in (0, pid))
    node.wait_healed("v")
    node.kill()
    writer.check()
    pids = node.start().brick_pids("v")
    node.wait_volume("v")
    require_equal(node.brick_pids("v"), pids, "the bricks after a restart of blockd")
    os.kill(pids[1], signal.SIGKILL)
    writer.check()
    wait_until("the second brick is back", lambda: node.brick_pids("v")[1] not in (0, pids[1]))
    node.wait_healed("v")
    whole = (writer.point / "file").read_bytes()
    wait_until("every brick has the file as the mount shows it",
               lambda: all((folder / "file").read_bytes() == whole for folder in shares.folders(node, "v", "a")))


def what_cannot_be(node):
    for words, text in ((["volume", "modify", "v", "--access", "10.0.0.1"], "cert:NAME"),
                        (["volume", "modify", "v", "--access", "cert:a*"], "certificate's name"),
                        (["volume", "modify", "v", "--tls", "off"], "stop it first"),
                        (["share", "access", "v/a", "10.0.0.1"], "whole volume only"),
                        (["certificate", "issue", "node1", node.folder / "x"], "name of a node"),
                        (["certificate", "issue", "x", node.folder / "x", "--role", "node"], "joining"),
                        (["certificate", "revoke", "xyz"], "serial number")):
        done = node.cli_run(*words)
        require(done.returncode != 0 and text in done.stderr, f"{words}: {done}")


def main():
    require_root()
    require_programs("qemu-io")
    if not os.path.exists("/dev/fuse"):
        skip("needs FUSE")
    tlsclient.own_files()
    with Node(settings={"tls": {"volumes": "on"}}) as node:
        node.replica3("v", "512MiB", access=["cert:app"])
        node.create_block("v/b", "16MiB")
        shares.create(node, "v/a")
        writer = Writer(node)
        writer.check()
        app = tlsclient.issue(node, "app")
        everything_is_encrypted(node)
        standard_clients(node, app)
        what_cannot_be(node)
        hostile_clients(node, writer, app)
        taken_from_the_list(node, writer, app)
        survives(node, writer)
        writer.disk.shutdown()
        shares.unmount(node, writer.point)


if __name__ == "__main__":
    main()
