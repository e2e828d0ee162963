#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Two nodes on one etcd, the second one joined by a token: either answers for every object, signs, and knows who is revoked; a command
with both endpoints does not notice that one node has died."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import node as cluster
from api import require, require_equal
from certificates import Certificate, Client
from etcd import Etcd

PROGRAM = cluster.BUILD / "bin/gluster-block"


class Given:
    """An authority whose certificate is known."""

    def __init__(self, cert):
        self.cert = cert


def run(node, *words, config=True):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("BLOCKD_")}
    return subprocess.run([PROGRAM, *(["--config", node.config] if config else []), *map(str, words)], capture_output=True, text=True,
                          timeout=120, stdin=subprocess.DEVNULL, env={**clean, "HOME": str(node.folder / "home")})


def good(node, *words, **keywords):
    done = run(node, *words, **keywords)
    require(done.returncode == 0, f"gluster-block {words}: {done}")
    return json.loads(done.stdout) if words[-1] == "--json" else done.stdout


def url(node):
    return f"127.0.0.1:{node.api_port}"


def served(client):
    try:
        return client.request("GET", "/healthz", timeout=5)[0] == 200
    except OSError:
        return False


def client_of(folder, node):
    return Client(Given(folder / "ca-cert.pem"), Certificate(folder / "client-cert.pem", folder / "client-key.pem"), node.api_port)


def joins(node, through, maker):
    """The node joins through one node with a token that another one made."""
    text = good(maker, "cluster", "token", "create", "--json")["token"]
    good(node, "node", "join", url(through), "--token", text, "--address", "127.0.0.1", "--listen", url(node))
    said = node.config.read_text()
    require("backend = etcd" in said and "prefix = /two" in said, f"the configuration of a node that has joined:\n{said}")
    node.start()


def main():
    cluster.require_root()
    cluster.require_programs("etcd")
    etcd = Etcd().start()
    nodes = [cluster.Node(name) for name in ("node1", "node2", "node3")]
    first, second, third = nodes
    ended = False
    try:
        first.configure({"store": etcd.settings("/two"), "api": {"listen": url(first)}})
        first.start()
        good(first, "cluster", "init")
        admin = first.folder / "home/.config/blockd"
        here, there, late = (client_of(admin, node) for node in nodes)
        cluster.wait_until("the first node listens", lambda: served(here))
        joins(second, first, first)
        cluster.wait_until("the second node listens", lambda: served(there))
        joins(third, second, first)  # signed by the second node, with a token of the first
        cluster.wait_until("the third node listens", lambda: served(late))
        for client in (here, there, late):
            cluster.wait_until("it knows all nodes", lambda c=client: [n["name"] for n in c.request("GET", "/v1/nodes")[1]["items"]]
                               == ["node1", "node2", "node3"])

        # Anything through any node, and whoever watches elsewhere sees it.
        both = ["--endpoint", f"{url(first)},{url(second)}"]
        require_equal(there.request("PATCH", "/v1/nodes/node1", {"zone": "attic"})[0] in (200, 202), True, "a change of another node")
        cluster.wait_until("it is seen elsewhere", lambda: here.request("GET", "/v1/nodes/node1")[1]["spec"]["zone"] == "attic")
        names = {c["name"] for c in good(second, "certificate", "list", "--json")["certificates"]}
        require(names >= {"node1", "node2", "node3", "admin"}, f"the certificates: {names}")

        # Revoked through one, refused by all.
        good(second, "certificate", "issue", "leaver", second.folder / "leaver", "--role", "csi")
        leavers = [client_of(second.folder / "leaver", node) for node in nodes]
        for leaver in leavers:
            require_equal(leaver.request("GET", "/v1/volumes")[0], 200, "before it is revoked")
        serial = next(c["serial"] for c in good(third, "certificate", "list", "--json")["certificates"] if c["name"] == "leaver")
        good(second, "certificate", "revoke", serial)
        for leaver in leavers:
            cluster.wait_until("it is refused", lambda c=leaver: c.request("GET", "/v1/volumes")[0] == 401)

        # One node dies.
        good(first, *both, "node", "list", config=False)
        first.kill()
        good(first, *both, "node", "info", "node2", config=False)
        good(first, *both, "node", "modify", "node2", "--zone", "cellar", config=False)
        first.start()
        cluster.wait_until("the first node is back", lambda: served(here))
        require_equal(here.request("GET", "/v1/nodes/node2")[1]["spec"]["zone"], "cellar", "what was changed meanwhile")
        for node in reversed(nodes):
            node.stop()
        ended = True
    finally:
        if not ended:
            for node in nodes:
                print(f"-- end of the log of {node.name}:\n{node.log_tail(15)}", flush=True)
        for node in nodes:
            with contextlib.suppress(OSError):
                node.clean()
        etcd.stop()


if __name__ == "__main__":
    main()
