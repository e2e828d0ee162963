#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""gluster-block from an admin's machine: endpoints, fail-over, certificates, the client's configuration; streams and jobs over TLS."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import node as cluster
from api import MIB, require, require_equal
from certificates import Authority

PROGRAM = cluster.BUILD / "bin/gluster-block"


class Admin:
    """The command line somewhere else: it has certificates, no socket and no blockd.conf of a node."""

    def __init__(self, node, authority, certificate):
        self.node, self.home = node, node.folder / "home"
        self.options = ["--ca", authority.cert, "--cert", certificate.cert, "--key", certificate.key]
        self.url = f"https://127.0.0.1:{node.api_port}"
        self.home.mkdir(exist_ok=True)

    def run(self, *words, environment=None, timeout=120):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("BLOCKD_")}
        return subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL,
                              env={**clean, "HOME": str(self.home), **(environment or {})})

    def at(self, endpoints, *words, **keywords):
        return self.run("--endpoint", endpoints, *self.options, *words, **keywords)

    def good(self, *words, endpoints=None, **keywords):
        done = self.at(endpoints or self.url, *words, **keywords)
        require(done.returncode == 0, f"gluster-block {words}: {done}")
        return json.loads(done.stdout) if words[-1] == "--json" else done.stdout


def refused(done, part, status=None):
    require(done.returncode != 0 and part in done.stderr, f"\"{part}\" was expected: {done}")
    if status is not None:
        require_equal(done.returncode, status, "the exit status")


def everything(admin):
    """The nouns and the classic words, with waiting, tables, JSON and a plan, as on the node itself."""
    node = admin.node
    (node.folder / "images").mkdir(exist_ok=True)
    for i in (1, 2, 3):
        admin.good("device", "add", f"d{i}", node.folder / "images" / f"d{i}.img", "--image-size", "1GiB")
    require("d1" in admin.good("volume", "create", "v", "--template", "replica3", "--allow-same-node", "--dry-run"), "a plan")
    admin.good("volume", "create", "v", "--template", "replica3", "--allow-same-node")
    admin.good("block", "create", "v/b", "64MiB", "--hosts", "node1")
    require_equal(admin.good("block", "info", "v/b", "--json")["spec"]["size"], 64 * MIB, "a block's size")
    require("b" in admin.good("list", "v").split(), "the classic list")
    require_equal(admin.good("create", "v/classic", "ha", "1", "127.0.0.1", "32MiB", "--json")["RESULT"], "SUCCESS", "classic create")
    require("v/b" in admin.good("uri", "v/b"), "an URI")
    require("node1" in admin.good("status"), "the status")
    same = node.cli_run("volume", "info", "none"), admin.at(admin.url, "volume", "info", "none")
    require_equal((same[0].returncode, same[0].stderr), (same[1].returncode, same[1].stderr), "an error here and there")
    require_equal(admin.good("job", "list", "--json") is not None, True, "jobs")
    done = admin.good("block", "create", "v/full", "128MiB", "--prealloc", "full", "--json")
    require_equal(done["status"]["phase"], "ready", "a block whose job was waited for")


def watches(admin):
    """A stream of changes lives until its reader goes."""
    command = [PROGRAM, "--endpoint", admin.url, *map(str, admin.options), "block", "list", "--watch", "--json-plain"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "HOME": str(admin.home)}) as watch:
        timer = threading.Timer(cluster.PATIENCE, watch.kill)
        timer.start()
        try:
            cluster.wait_until("a watch has begun", lambda: watched(admin.node))
            admin.good("block", "modify", "v/b", "96MiB")
            for line in watch.stdout:
                change = json.loads(line)
                if change["key"] == "blocks/v/b" and change["object"]["spec"]["size"] == 96 * MIB:
                    break
            else:
                raise AssertionError("the watch ended without the change")
        finally:
            timer.cancel()
            watch.terminate()


def watched(node):
    return "GET /v1/blocks by admin admin" in (node.folder / "blockd.log").read_text(errors="replace")


def fail_over(admin):
    """A dead endpoint, one with another name, and one that never answers are passed over; changes are made once."""
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.create_server(("127.0.0.1", 0)) as closed:
        silent_url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        dead_url = f"https://127.0.0.1:{closed.getsockname()[1]}"
        closed.close()
        for endpoints in (f"{dead_url},{admin.url}", f"{dead_url}, {silent_url} ,{admin.url}", f"https://no-such-host.invalid,{admin.url}"):
            admin.good("volume", "info", "v", endpoints=endpoints)
        admin.good("block", "create", "v/over", "16MiB", endpoints=f"{dead_url},{silent_url},{admin.url}")
        refused(admin.at(f"{dead_url},{silent_url}", "volume", "list"), "nobody answers on https://127.0.0.1", 255)


def restart(admin):
    """blockd restarts while a command waits: the command goes on, as it does over the socket."""
    node = admin.node
    done = []
    worker = threading.Thread(target=lambda: done.append(admin.at(admin.url, "block", "create", "v/long", "300MiB", "--prealloc", "full")))
    worker.start()
    cluster.wait_until("the change has come", lambda: node.request("GET", "/v1/blocks/v/long")[0] == 200)
    node.restart()
    worker.join()
    require(done[0].returncode == 0, f"a command over blockd's restart: {done}")


def certificates(admin, authority, other):
    """What is wrong with certificates is said in words, wherever it is found."""
    node = admin.node
    make = authority.make
    base = ["--endpoint", admin.url, "--ca", authority.cert]

    def shown(certificate):
        return ["--cert", certificate.cert, "--key", certificate.key]
    refused(admin.run(*base, *shown(make("csi", "csi")), "volume", "create", "w"), "csi has the role csi, and POST /v1/volumes takes the role admin", 13)
    refused(admin.run(*base, *shown(other.make("admin", "admin")), "volume", "list"), "admin", 13)
    refused(admin.run(*base, *shown(make("old", "admin", first=-5, last=-1)), "volume", "list"), "expired")
    refused(admin.run("--endpoint", admin.url, "--ca", other.cert, *admin.options[2:], "volume", "list"), "does not show a certificate of the authority")
    refused(admin.run("--endpoint", admin.url.replace("127.0.0.1", "127.0.0.2"), *admin.options, "volume", "list"), "https://127.0.0.2")
    refused(admin.run(*base, "volume", "list"), "takes --ca, --cert and --key")
    refused(admin.run(*base, "--cert", "/nowhere", "--key", "/nowhere", "volume", "list"), "cannot open /nowhere")
    refused(admin.run("--endpoint", "https://", *admin.options, "volume", "list"), "is no endpoint")
    refused(admin.run("--endpoint", admin.url, "--socket", node.socket, "volume", "list"), "cannot stand together")
    mixed = ["--cert", admin.options[3], "--key", make("mixed", "admin").key]
    require(admin.run(*base, *mixed, "volume", "list").returncode != 0, "a key of another certificate")


def configuration(admin):
    """Environment and file: the command line counts first, then the environment, then the file."""
    ca, cert, key = admin.options[1::2]
    environment = {"BLOCKD_ENDPOINT": admin.url, "BLOCKD_CA": str(ca), "BLOCKD_CERT": str(cert), "BLOCKD_KEY": str(key)}
    require_equal(admin.run("volume", "list", environment=environment).returncode, 0, "the exit status with an environment")
    folder = admin.home / ".config/blockd"
    folder.mkdir(parents=True)
    for source, name in ((ca, "ca.pem"), (cert, "me.pem"), (key, "me-key.pem")):
        (folder / name).write_bytes(pathlib.Path(source).read_bytes())
    file = folder / "client.conf"
    file.write_text(f"# of the test\nendpoint = {admin.url}\nca=ca.pem\ncert = me.pem\n  key = me-key.pem  \n")
    require_equal(admin.run("volume", "list").returncode, 0, "the exit status with a file")
    refused(admin.run("volume", "list", environment={"BLOCKD_ENDPOINT": "https://127.0.0.1:1"}), "https://127.0.0.1:1")
    require_equal(admin.run("--endpoint", admin.url, "volume", "list", environment={"BLOCKD_ENDPOINT": "https://127.0.0.1:1"}).returncode, 0,
                  "the exit status with an option")
    require_equal(admin.run("--socket", admin.node.socket, "volume", "list").returncode, 0, "the exit status with the socket")
    for text, part in (("endpoint", "client.conf:1: the line is not KEY = VALUE"), ("colour = red", 'client.conf:1: there is no key "colour"'),
                       ("\nca = a\nca = b", "client.conf:3: ca is set a second time"), ("endpoint = a b", "is no endpoint")):
        file.write_text(text + "\n")
        refused(admin.run("volume", "list", environment={k: v for k, v in environment.items() if k != "BLOCKD_ENDPOINT"}), part)


def main():
    cluster.require_root()
    cluster.require_programs("certtool")
    with cluster.Node() as node:
        node.terminate()
        authority = Authority(node.folder / "ca")
        server = authority.server()
        node.configure({"api": {"listen": f"127.0.0.1:{node.api_port}", "ca": authority.cert, "cert": server.cert, "key": server.key,
                                "crl": authority.list}})
        node.start()
        admin = Admin(node, authority, authority.make("admin", "admin"))
        everything(admin)
        watches(admin)
        fail_over(admin)
        certificates(admin, authority, Authority(node.folder / "other", "another authority"))
        configuration(admin)
        restart(admin)


if __name__ == "__main__":
    main()
