#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Blocks by the API: their whole life, limits, the accounting to the byte, adoption of files, and what NBD clients see of it."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import node as cluster
from api import MIB, open_nbd, refused, require, require_equal, wait_equal

LIMIT = 400 * MIB  # room in every test volume: XFS takes its share of 512 MiB


def brick_file(node, volume, storage):
    brick = node.volume_status(volume)["bricks"][0]["path"]
    return pathlib.Path(brick + storage)


def life(node):
    made = node.create_block("v/a", "64MiB")
    require_equal((made["name"], made["generation"], made["status"]["phase"], made["status"]["size"]), ("v/a", 1, "ready", 64 * MIB), "the new block")
    require_equal(made["spec"], {"size": 64 * MIB, "block_size": 512, "prealloc": "no", "storage": f"/block-store/{made['uid']}"}, "its spec")
    refused(node, "POST", "/v1/blocks", {"volume": "v", "name": "a", "size": "1GiB"}, 409, "already_exists", "block v/a already exists")
    seen = node.get("/v1/blocks/v/a")
    require_equal((seen["uid"], seen["spec"]), (made["uid"], made["spec"]), "what info says")
    require_equal([b["name"] for b in node.items("/v1/blocks/v")], ["v/a"], "the list of the volume")
    require_equal([b["name"] for b in node.items("/v1/blocks")], ["v/a"], "the list of all")
    file = brick_file(node, "v", made["spec"]["storage"])
    require_equal(file.stat().st_size, 64 * MIB, "the size of the file on the brick")
    require(file.stat().st_blocks * 512 < MIB, "a thin block takes space")

    disk = open_nbd(node.unix_uri("v/a"))
    disk.pwrite(b"A" * 65536, 8 * MIB)
    disk.flush()
    disk.shutdown()
    require(node.get("/v1/blocks/v/a")["status"].get("used", 0) >= 65536, "info does not say what is used")

    require_equal(node.patch("/v1/blocks/v/a", {"size": "96MiB"})["status"]["size"], 96 * MIB, "the size after growth")
    disk = open_nbd(node.unix_uri("v/a"))
    require_equal(disk.get_size(), 96 * MIB, "the size that a client sees at once after growth")
    disk.pwrite(b"B" * 512, 96 * MIB - 512)
    require_equal(bytes(disk.pread(65536, 8 * MIB)), b"A" * 65536, "data after growth")
    disk.shutdown()

    patch = lambda size, query="", body=None: node.request("PATCH", f"/v1/blocks/v/a?wait=60{query}", body or {"size": size})
    refused(node, "PATCH", "/v1/blocks/v/a", {"size": "96MiB"}, 400, "invalid_argument", "has that size already")
    refused(node, "PATCH", "/v1/blocks/v/a", {"size": "32MiB"}, 400, "invalid_argument", "needs force")
    refused(node, "PATCH", "/v1/blocks/v/a", {}, 400, "invalid_argument", "size is missing")
    require_equal(file.stat().st_size, 96 * MIB, "the file after a refused shrink")
    require_equal(patch("32MiB", "&force=1")[0], 200, "a shrink with force")
    require_equal(file.stat().st_size, 32 * MIB, "the file after a shrink")
    disk = open_nbd(node.unix_uri("v/a"))
    require_equal(disk.get_size(), 32 * MIB, "the size that a client sees after a shrink")
    disk.shutdown()
    require_equal(patch("48MiB")[0], 200, "growth after the shrink")
    disk = open_nbd(node.unix_uri("v/a"))
    require_equal(bytes(disk.pread(4096, 32 * MIB)), bytes(4096), "what lies beyond the old end")
    disk.shutdown()

    renamed = node.post("/v1/blocks/v/a/rename", {"name": "z"})
    require_equal((renamed["name"], renamed["uid"]), ("v/z", made["uid"]), "the renamed block")
    refused(node, "GET", "/v1/blocks/v/a", None, 404, "not_found", "v/a doesn't exist")
    require_equal([e["name"] for e in node.items("/v1/exports")], ["node1/v/z"], "the exports after the rename")
    disk = open_nbd(node.unix_uri("v/z"))
    require_equal(bytes(disk.pread(65536, 8 * MIB)), b"A" * 65536, "data under the new name")
    disk.shutdown()
    try:
        open_nbd(node.unix_uri("v/a"))
        raise SystemError("the old name is still served")
    except SystemError:
        raise
    except Exception:
        pass
    node.create_block("v/a", "1MiB")
    refused(node, "POST", "/v1/blocks/v/z/rename", {"name": "a"}, 409, "already_exists", "v/a")
    refused(node, "POST", "/v1/blocks/v/z/rename", {"name": "z"}, 400, "invalid_argument", "that name already")
    refused(node, "POST", "/v1/blocks/v/z/rename", {"name": "../z"}, 400, "invalid_argument")
    refused(node, "POST", "/v1/blocks/v/z/rename", {"name": "n" * 221}, 400, "invalid_argument", "longer than 220")
    refused(node, "POST", "/v1/blocks/v/none/rename", {"name": "y"}, 404, "not_found", "v/none doesn't exist")

    for name in ("z", "a"):
        require_equal(node.delete_block(f"v/{name}"), {}, f"the answer to the delete of v/{name}")
        refused(node, "DELETE", f"/v1/blocks/v/{name}", None, 404, "not_found", f"v/{name} doesn't exist")
    require(not file.exists(), "the file is there after the delete")
    require_equal(node.items("/v1/exports"), [], "the exports after the deletes")


def names(node):
    """The longest names work whole: store, grant, server."""
    name = "n" * 220
    node.create_block(f"v/{name}", "1MiB")
    disk = open_nbd(node.unix_uri(f"v/{name}"))
    require_equal(disk.get_size(), MIB, "the size of a block with a long name")
    disk.shutdown()
    node.delete_block(f"v/{name}")
    refused(node, "POST", "/v1/blocks", {"volume": "v", "name": "n" * 221, "size": "1MiB"}, 400, "invalid_argument", "longer than 220")


def block_sizes(node):
    for size in (512, 4096):
        node.create_block(f"v/s{size}", 8 * MIB, block_size=size)
        disk = open_nbd(node.unix_uri(f"v/s{size}"))
        require_equal(disk.get_block_size(0), size, "the minimum block size that a client is told")
        disk.shutdown()
        node.delete_block(f"v/s{size}")
    for size in (1024, 2048):
        refused(node, "POST", "/v1/blocks", {"volume": "v", "name": "b", "size": "1MiB", "block_size": size}, 400, "invalid_argument", "512 or 4096")
    refused(node, "POST", "/v1/blocks", {"volume": "v", "name": "b", "size": MIB + 512, "block_size": 4096}, 400, "invalid_argument", "multiple")
    node.create_block("v/odd", MIB + 512)
    refused(node, "PATCH", "/v1/blocks/v/odd", {"size": 2 * MIB + 1}, 400, "invalid_argument", "multiple")
    node.delete_block("v/odd")


def sizes(node):
    for size, part in ((MIB - 512, "at least 1 MiB"), (0, "size is missing"), (MIB + 1, "multiple")):
        refused(node, "POST", "/v1/blocks", {"volume": "v", "name": "b", "size": size}, 400, "invalid_argument", part)
    refused(node, "POST", "/v1/blocks", {"volume": "v", "name": "b"}, 400, "invalid_argument", "size is missing")
    for size in ("1TiB", "7EiB", 2**63 - 512):
        refused(node, "POST", "/v1/blocks", {"volume": "v", "name": "b", "size": size}, 507, "resource_exhausted", "no room")
    require_equal(node.create_block("v/min", "1MiB")["status"]["size"], MIB, "the smallest block")
    node.delete_block("v/min")


def accounting(node):
    """The sum of promises ends exactly at the volume's size times its ratio."""
    whole = node.volume_status("v")["size"]
    require(whole >= LIMIT, f"the volume has {whole} bytes only")
    provisioned = lambda: (node.volume_status("v")["provisioned"], node.volume_status("v")["blocks"])
    require_equal(provisioned(), (0, 0), "what is promised at the start")
    first = 100 * MIB
    rest = (whole - first) // 512 * 512
    node.create_block("v/one", first, export=False)
    refused(node, "POST", "/v1/blocks", {"volume": "v", "name": "two", "size": rest + 512}, 507, "resource_exhausted", "no room")
    require_equal(provisioned(), (first, 1), "what is promised after a refusal")
    node.create_block("v/two", rest, export=False)
    require_equal(provisioned(), (first + rest, 2), "what is promised when the volume is full")
    refused(node, "POST", "/v1/blocks", {"volume": "v", "name": "three", "size": MIB}, 507, "resource_exhausted", "no room")
    refused(node, "PATCH", "/v1/blocks/v/one", {"size": first + MIB}, 507, "resource_exhausted", "no room")
    node.request("PATCH", "/v1/blocks/v/two?force=1&wait=60", {"size": rest - 2 * MIB})
    require_equal(provisioned(), (first + rest - 2 * MIB, 2), "what is promised after a shrink")
    node.patch("/v1/blocks/v/one", {"size": first + 2 * MIB})
    require_equal(provisioned(), (first + rest, 2), "what is promised after growth")
    node.restart()
    require_equal(provisioned(), (first + rest, 2), "what is promised after a restart")
    refused(node, "POST", "/v1/blocks", {"volume": "v", "name": "three", "size": MIB}, 507, "resource_exhausted", "no room")

    node.patch("/v1/volumes/v", {"overcommit": 2.0})
    node.create_block("v/three", whole // 512 * 512 - MIB, export=False)
    refused(node, "POST", "/v1/blocks", {"volume": "v", "name": "four", "size": 2 * MIB}, 507, "resource_exhausted", "no room")
    node.patch("/v1/volumes/v", {"overcommit": 0.5})
    refused(node, "POST", "/v1/blocks", {"volume": "v", "name": "four", "size": MIB}, 507, "resource_exhausted", "no room")
    refused(node, "DELETE", "/v1/volumes/v", None, 409, "failed_precondition", "holds 3 blocks")
    for name in ("one", "two", "three"):
        node.delete_block(f"v/{name}")
    require_equal(provisioned(), (0, 0), "what is promised at the end")
    node.patch("/v1/volumes/v", {"overcommit": 1.0})


def adoption(node):
    made = node.create_block("v/first", "16MiB")
    disk = open_nbd(node.unix_uri("v/first"))
    disk.pwrite(b"kept" * 1024, 4 * MIB)
    disk.flush()
    disk.shutdown()
    storage = made["spec"]["storage"]
    adopt = {"volume": "v", "name": "second", "storage": storage}
    refused(node, "POST", "/v1/blocks", adopt, 409, "failed_precondition", "in use by block v/first")
    node.delete_block("v/first", "?keep_storage=1")
    require(brick_file(node, "v", storage).exists(), "keep_storage did not keep the file")

    refused(node, "POST", "/v1/blocks", {**adopt, "size": "16MiB"}, 400, "invalid_argument", "excludes size")
    refused(node, "POST", "/v1/blocks", {**adopt, "prealloc": "full"}, 400, "invalid_argument", "excludes size")
    for path, status, code, part in (("/none", 404, "not_found", "none"), ("../x", 400, "invalid_argument", "plain"), ("/a/../b", 400, "invalid_argument", "plain"),
                                     ("/.glusterfs/x", 400, "invalid_argument", "GlusterFS"), ("/a//b", 400, "invalid_argument", "plain"),
                                     ("/block-store", 400, "invalid_argument", "")):
        refused(node, "POST", "/v1/blocks", {**adopt, "storage": path}, status, code, part)
    # By the name of the file alone, as the classic command line has it.
    second = node.post("/v1/blocks", {**adopt, "storage": storage.rpartition("/")[2], "hosts": ["127.0.0.1"]})
    require_equal((second["spec"]["size"], second["spec"]["storage"], second["spec"]["adopted"]), (16 * MIB, storage, True), "the adopted block")
    require_equal(node.volume_status("v")["provisioned"], 16 * MIB, "what is promised after an adoption")
    disk = open_nbd(node.unix_uri("v/second"))
    require_equal(bytes(disk.pread(4096, 4 * MIB)), b"kept" * 1024, "data of the adopted file")
    disk.shutdown()
    node.patch("/v1/blocks/v/second", {"size": "24MiB"})
    node.delete_block("v/second")
    require(not brick_file(node, "v", storage).exists(), "the delete left the adopted file")


def deletion_stands(node):
    """While a delete waits for its volume, what it said about the file stands, and the name is not free."""
    node.create_block("v/wait", "4MiB", export=False)
    node.patch("/v1/volumes/v", {"state": "stopped"})
    refused(node, "POST", "/v1/blocks", {"volume": "v", "name": "new", "size": "1MiB"}, 503, "unavailable", "volume v is stopped")
    refused(node, "PATCH", "/v1/blocks/v/wait", {"size": "8MiB"}, 503, "unavailable", "volume v is stopped")
    status, body = node.request("DELETE", "/v1/blocks/v/wait")
    require_equal((status, body.get("deleting")), (202, True), "a delete on a stopped volume")
    require_equal(node.request("DELETE", "/v1/blocks/v/wait")[0], 202, "the same delete again")
    refused(node, "DELETE", "/v1/blocks/v/wait?keep_storage=1", None, 409, "failed_precondition", "being deleted already")
    refused(node, "POST", "/v1/exports", {"volume": "v", "block": "wait"}, 409, "failed_precondition", "being deleted")
    refused(node, "DELETE", "/v1/volumes/v", None, 409, "failed_precondition", "holds 1 block")
    node.restart()
    require_equal(node.get("/v1/blocks/v/wait")["deleting"], True, "the mark after a restart")
    node.patch("/v1/volumes/v", {"state": "started"})
    cluster.wait_until("the delete goes on when the volume starts", lambda: not node.items("/v1/blocks"))


def main():
    cluster.require_root()
    with cluster.Node() as node:
        node.single("v", "512MiB")
        life(node)
        names(node)
        block_sizes(node)
        sizes(node)
        accounting(node)
        adoption(node)
        deletion_stands(node)
        wait_equal(lambda: node.get("/v1/status")["problems"], [], "problems at the end")


if __name__ == "__main__":
    main()
