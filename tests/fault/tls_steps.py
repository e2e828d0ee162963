#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""blockd dies at each step of making its authority, its certificate and the list of those revoked; the next start finishes it."""

import http.client
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from api import require, require_equal
from node import TOP, Node, require_programs, require_root, wait_until

AT_START = ["pki.authority.after-key", "pki.authority.after-list", "pki.authority.after-certificate", "pki.node.after-key"]
AT_REVOCATION = ["pki.revoke.after-list"]


def points_in_sources():
    lines = subprocess.run(["grep", "-rhoE", r'fault_point\("pki[^"]+"\)', "rpc"], cwd=TOP, check=True, capture_output=True,
                           text=True).stdout
    return re.findall(r'"([^"]+)"', lines)


def verify(node, cert):
    """As GlusterFS's transport does: authority and list in one file."""
    return subprocess.run(["openssl", "verify", "-crl_check_all", "-CAfile", node.state / "pki" / "ca-bundle.pem", cert],
                          capture_output=True, text=True, check=False, timeout=60)


def starts(node, point):
    for file in (node.state / "pki").glob("*"):
        file.unlink()
    node.start(wait=False, BLOCKD_FAULT=point)
    require_equal(node.wait_died(), -9, f"how blockd ended at {point}")
    node.start()
    own = node.state / "pki" / "node-cert.pem"
    wait_until(f"after {point}: a certificate", lambda: node.get("/v1/nodes/node1")["status"].get("certificate"))
    done = verify(node, own)
    require(done.returncode == 0, f"after {point}: {done}")
    node.terminate()


def revokes(node, point):
    folder = node.folder / "issued"
    node.start(BLOCKD_FAULT=point)
    issued = node.cli("certificate", "issue", "app", folder, "--json")
    require(verify(node, folder / "client-cert.pem").returncode == 0, "a new certificate is not good")
    try:
        node.request("POST", "/v1/certificates/revoke", {"serial": issued["serial"]})
    except (OSError, http.client.HTTPException):
        pass
    require_equal(node.wait_died(), -9, f"how blockd ended at {point}")
    node.start()
    wait_until("the bundle has the list", lambda: "revoked" in verify(node, folder / "client-cert.pem").stderr)


def main():
    require_root()
    require_programs("openssl")
    require_equal(sorted(points_in_sources()), sorted(AT_START + AT_REVOCATION), "the points in the sources")
    with Node(settings={"tls": {"volumes": "on"}}) as node:
        node.terminate()
        for point in AT_START:
            starts(node, point)
        for point in AT_REVOCATION:
            revokes(node, point)


if __name__ == "__main__":
    main()
