#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""blockd with its records in etcd: what etcd's absence stops, and what it does not."""

import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from etcd import Etcd
from node import BUILD, PATIENCE, ApiError, Node, require_programs, require_root, skip, wait_until

try:
    import nbd
except ImportError:
    skip("python3-libnbd is not installed")

require_root()
require_programs("etcd")


def check_config(node):
    """What --check-config says of the node's file: (exit status, text)."""
    done = subprocess.run([BUILD / "bin" / "blockd", "--check-config", "--config", node.config], capture_output=True, text=True)
    return done.returncode, done.stderr


def wrong_settings_are_named(etcd):
    node = Node()
    try:
        for settings, words in (({"backend": "etcd", "endpoints": ""}, "endpoints"),
                                ({"backend": "etcd", "endpoints": "here and there"}, "here and there"),
                                ({"backend": "etcd", "endpoints": "a:2379", "prefix": "a b"}, "prefix"),
                                ({"backend": "etcd", "endpoints": "https://a:2379"}, "CA certificate"),
                                ({"backend": "etcd", "endpoints": "a", "ca": "/nonexistent.pem"}, "/nonexistent.pem"),
                                ({"backend": "etcd", "endpoints": "a", "cert": "/c.pem"}, "together"),
                                ({"backend": "zookeeper"}, "none of sqlite, etcd")):
            node.settings.pop("store", None)
            node.configure({"store": settings})
            status, text = check_config(node)
            assert status != 0 and words in text, (settings, status, text)
        node.settings["store"] = etcd.settings()
        node.configure({})
        assert check_config(node) == (0, "")
        # Records of this node's own that etcd does not have are not left behind unseen.
        node.state.mkdir()
        (node.state / "store.db").touch()
        node.start(wait=False)
        assert node.wait_died() == 1
        assert "store.db" in node.log_tail() and "backend = sqlite" in node.log_tail()
    finally:
        node.clean()


def serving_pids(node):
    return node.brick_pids("v"), node.nbd_pid()


def main_path(node, etcd, disk):
    disk.pwrite(b"before" * 512, 0, nbd.CMD_FLAG_FUA)
    keys = etcd.get("/blockd/")
    assert "/blockd/blocks/v/b" in keys and "/blockd/volumes/v" in keys, sorted(keys)
    node.patch("/v1/blocks/v/b", {"size": "96MiB"})
    node.create_block("v/gone", "16MiB", export=False)
    node.delete_block("v/gone")
    assert "/blockd/blocks/v/gone" not in etcd.get("/blockd/")


def lost_keys_are_put_back(etcd):
    """Those that say which nodes are there and which one leads: without them other nodes would count this one out."""
    keys = {"/blockd/alive/node1", "/blockd/leader"}
    for key in keys:
        etcd.delete(key)
    wait_until("this node is there again, and leads", lambda: keys <= etcd.get("/blockd/").keys())


def etcd_goes_and_returns(node, etcd, disk):
    before = serving_pids(node)
    etcd.kill()
    begin = time.monotonic()
    try:
        node.call("POST", "/v1/blocks", {"volume": "v", "name": "c", "size": "16MiB"}, timeout=PATIENCE)
        raise AssertionError("a block was made without a store")
    except ApiError as error:
        assert error.code == "unavailable" and "etcd" in error.message, error
    assert time.monotonic() - begin < PATIENCE
    disk.pwrite(b"during" * 512, 4096, nbd.CMD_FLAG_FUA)
    assert disk.pread(3072, 0) == b"before" * 512
    etcd.start()
    wait_until("a block is made when etcd is back", lambda: try_create(node, "v/d"))
    assert "/blockd/blocks/v/d" in etcd.get("/blockd/")
    assert serving_pids(node) == before


def try_create(node, path):
    try:
        node.create_block(path, "16MiB", export=False)
        return True
    except ApiError as error:
        if error.code == "already_exists":  # made by a request whose answer was "not known"
            return True
        assert error.code == "unavailable", error
        return False


def blockd_waits_for_etcd(node, etcd, disk):
    before = serving_pids(node)
    etcd.kill()
    node.kill()
    node.start(wait=False)
    wait_until("blockd says what it waits for", lambda: "waiting for the store" in node.log_tail())
    disk.pwrite(b"waiting!" * 512, 8192, nbd.CMD_FLAG_FUA)
    assert not node.socket.exists() or not node.ready()
    assert node.terminate() == 0  # it can be told to end while it waits
    node.start(wait=False)
    etcd.start()
    node.wait_ready()
    assert serving_pids(node) == before
    assert disk.pread(4096, 8192) == b"waiting!" * 512
    assert len(node.items("/v1/blocks")) == 2


def main():
    etcd = Etcd().start()
    try:
        wrong_settings_are_named(etcd)
        with Node(settings={"store": {**etcd.settings(), "timeout": 5}}) as node:
            node.replica3("v", "512MiB")
            node.create_block("v/b", "64MiB")
            disk = nbd.NBD()
            disk.connect_uri(node.unix_uri("v/b"))
            main_path(node, etcd, disk)
            lost_keys_are_put_back(etcd)
            etcd_goes_and_returns(node, etcd, disk)
            blockd_waits_for_etcd(node, etcd, disk)
            disk.shutdown()
            for path in ("v/b", "v/d"):
                node.delete_block(path)
    finally:
        etcd.stop()


main()
