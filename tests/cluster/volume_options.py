#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Options of volumes: checked against the translators' own tables, profiles, and what stands in the volfiles then."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import node as cluster
from api import refused, require, require_equal

SAME = {"allow_same_node": True}
WRONG = [
    ("replicate", "is not TRANSLATOR.OPTION=VALUE"),
    ("replicate.none=1", "there is no option replicate.none"),
    ("nobody.x=1", "there is no translator nobody"),
    ("io-threads.thread-count=65", "is from 1 to 64"),
    ("io-threads.thread-count=many", "is a int, not"),
    ("io-threads.thread-count=1.5", "is a int, not"),
    ("replicate.eager-lock=perhaps", "is on or off"),
    ("replicate.data-self-heal-algorithm=guess", "is one of"),
    ("replicate.quorum-type=none", "is blockd's own"),
    ("replicate.afr-pending-xattr=a", "is blockd's own"),
    ("server.auth.addr.v.allow=1", "blockd's own"),
    ("client.remote-host=192.0.2.1", "is blockd's own"),
    ("posix.directory=x", "is blockd's own"),
    ("replicate.data-self-heal-algorithm=`id`", "a value has letters"),
    ("replicate.self-heal-readdir-size=2KB", "say advanced"),
]


def volfile(node, name):
    return (node.state / name).read_text()


def main():
    cluster.require_root()
    cluster.require_programs("glusterfsd", "mkfs.xfs")
    with cluster.Node() as node:
        node.devices(3, "512MiB")
        for option, part in WRONG:
            refused(node, "POST", "/v1/volumes?dry_run=1", {"name": "v", "size": "100MiB", "options": [option], **SAME}, 400,
                    "invalid_argument" if "from" not in part else "out_of_range", part)
        refused(node, "POST", "/v1/volumes", {"name": "v", "profile": "fast", **SAME}, 400, "invalid_argument", "database, vm, share, archive")
        node.cli("volume", "create", "v", "--size", "100MiB", "--allow-same-node", "--profile", "vm", "--options",
                 "replicate.choose-local=off,io-threads.thread-count=24")
        node.wait_volume("v")
        spec = node.get("/v1/volumes/v")["spec"]
        require_equal((spec["profile"], spec["options"]), ("vm", ["io-threads.thread-count=24", "replicate.choose-local=off"]), "the spec")
        client = volfile(node, "volfiles/v/client.vol")
        require('option choose-local "off"' in client and 'option choose-local "on"' not in client, client)
        require('option data-self-heal-algorithm "full"' in client, "the profile is not in the client's volfile")
        brick = next((node.state / "bricks").glob("v.*.vol")).read_text()
        require('option thread-count "24"' in brick, brick)
        require('option shd-max-threads "8"' in volfile(node, "heal.vol"), "the profile is not in the self-heal daemon's volfile")
        # It serves with them, and with others.
        node.create_block("v/b", "8MiB")
        node.cli("volume", "modify", "v", "--options", "io-threads.thread-count=,replicate.read-hash-mode=2", "--profile", "none")
        spec = node.get("/v1/volumes/v")["spec"]
        require_equal((spec.get("profile"), spec["options"]), (None, ["replicate.choose-local=off", "replicate.read-hash-mode=2"]), "the changed spec")
        cluster.wait_until("the volfile follows", lambda: 'option read-hash-mode "2"' in volfile(node, "volfiles/v/client.vol"))
        require("data-self-heal-algorithm" not in volfile(node, "volfiles/v/client.vol"), "the profile stayed")
        # What is for those who know needs a word more.
        refused(node, "PATCH", "/v1/volumes/v", {"options": ["replicate.self-heal-readdir-size=2KB"]}, 400, "invalid_argument", "say advanced")
        node.patch("/v1/volumes/v", {"options": ["replicate.self-heal-readdir-size=2KB"], "advanced": True})
        node.restart()
        node.wait_volume("v")
        node.cli("block", "info", "v/b")
        node.delete_block("v/b")
        node.delete("/v1/volumes/v")
    print("ok")


if __name__ == "__main__":
    main()
