#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 240
"""The life of shares over the API and the command line: made, sized, counted on each brick, archived, removed; what is
refused, and that nothing of them stays behind."""

import json
import os
import pathlib
import sys
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import shares
from api import MIB, refused, require, require_equal
from node import Node, require_root, wait_until


def has_quota(node):
    return all(device["status"]["quota"] for device in node.items("/v1/devices"))


def refusals(node):
    for name in ("a/b", ".", "..", "-x", "a b", "", "x" * 201, "\u00e9"):
        refused(node, "POST", "/v1/shares", {"volume": "v", "name": name, "size": "4MiB", "no_quota": True}, 400,
                "invalid_argument")
    for size in (0, 1048575, "much", -1, "17EiB"):
        status, body = node.request("POST", "/v1/shares", {"volume": "v", "name": "x", "size": size, "no_quota": True})
        require(status == 400, f"size {size}: {status} {body}")
    for access in (["10.0.0.0/8", "a;b"], ["`id`"], [""], ["-x"], ["1.2.3.4)"], ["1.2.3.4,5.6.7.8"]):
        refused(node, "POST", "/v1/shares", {"volume": "v", "name": "x", "size": "4MiB", "no_quota": True, "access": access},
                400, "invalid_argument", "access")
    refused(node, "POST", "/v1/shares", {"volume": "w", "name": "x", "size": "4MiB", "no_quota": True}, 404, "not_found")
    refused(node, "POST", "/v1/shares", {"volume": "v", "name": "x", "size": "1TiB", "no_quota": True}, 507,
            "resource_exhausted", "no room")
    refused(node, "GET", "/v1/shares/v/x", None, 404, "not_found")
    refused(node, "GET", "/v1/shares/w", None, 404, "not_found")
    require_equal(node.items("/v1/shares"), [], "the shares after refusals")
    if not has_quota(node):
        refused(node, "POST", "/v1/shares", {"volume": "v", "name": "x", "size": "4MiB"}, 501, "unimplemented",
                "no XFS project quota")
        done = node.cli_run("share", "create", "v/x", "4MiB")
        require(done.returncode == 95 and "no_quota" in done.stderr, f"{done}")


def life(node):
    """Over the command line, as an administrator sees it."""
    require_equal(node.cli("share", "create", "v/a", "64MiB", "--no-quota"), "share v/a: ready\n", "the answer")
    share = node.cli("share", "info", "v/a", "--json")
    require_equal(share["status"]["path"], "/shares/a", "the folder")
    require_equal(share["spec"]["size"], 64 * MIB, "the size")
    require_equal(node.volume_status("v")["provisioned"], 64 * MIB, "what is promised")
    require_equal(node.volume_status("v")["shares"], 1, "the number of shares")
    done = node.cli_run("share", "create", "v/a", "64MiB", "--no-quota")
    require(done.returncode == 17 and "already exists" in done.stderr, f"a second one: {done}")
    node.cli("share", "resize", "v/a", "128MiB")
    node.cli("share", "resize", "v/a", "32MiB")
    require_equal(node.volume_status("v")["provisioned"], 32 * MIB, "what is promised after a shrink")
    node.cli("share", "access", "v/a", "10.0.0.0/8,192.168.1.7")
    require_equal(node.get("/v1/shares/v/a")["spec"]["access"], ["10.0.0.0/8", "192.168.1.7"], "the access list")
    node.cli("share", "access", "v/a", "none")
    require_equal(node.get("/v1/shares/v/a")["spec"]["access"], [], "the access list, taken away")
    listed = node.cli("share", "list", "v")
    require("v/a" in listed and "32.0 MiB" in listed, listed)
    for folder in shares.folders(node, "v", "a"):
        mark = json.loads(os.getxattr(folder, "trusted.blockd.share"))
        require_equal((mark["uid"], mark["spec"]["size"]), (share["uid"], 32 * MIB), f"the mark on {folder}")
    done = node.cli_run("volume", "delete", "v")
    require(done.returncode == 39 and "share" in done.stderr, f"a volume with a share: {done}")


def idempotency(node):
    body = {"volume": "v", "name": "twice", "size": "4MiB", "no_quota": True}
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    first = node.request("POST", "/v1/shares?wait=60", body, headers=headers)
    second = node.request("POST", "/v1/shares?wait=60", body, headers=headers)
    require(first[0] == second[0] == 201 and first[1]["uid"] == second[1]["uid"], f"{first} {second}")
    node.delete("/v1/shares/v/twice")


def counted(node):
    """All below a share's folder has its project id, on every brick; also what a heal brought without it."""
    project = node.get("/v1/shares/v/a")["spec"]["project"]
    with shares.mounted(node, "v/a") as point:
        (point / "deep" / "er").mkdir(parents=True)
        (point / "deep" / "er" / "file").write_bytes(bytes(100000))
        (point / "link").symlink_to("deep")
        os.mkfifo(point / "pipe")
        os.link(point / "deep" / "er" / "file", point / "hard")
        os.rename(point / "deep" / "er", point / "other")
    for folder in shares.folders(node, "v", "a"):
        require_equal(shares.uncounted(folder, project), [], f"what does not count in {folder}")

    replaced = shares.folders(node, "v", "a")[1]
    for path in [replaced, *replaced.rglob("*")]:
        if not path.is_symlink() and not path.is_fifo():
            shares.set_attributes(path, 0, 0)
    require(shares.uncounted(replaced, project), "nothing was taken from the project")
    node.patch("/v1/volumes/v", {"overcommit": 1.5})
    wait_until("the healed tree counts again", lambda: not shares.uncounted(replaced, project))

    # An interrupted walk: the top is done and what lies below is not.
    flags, _ = shares.attributes(replaced)
    shares.set_attributes(replaced / "other" / "file", 0, 0)
    shares.set_attributes(replaced, flags | 0x80, project)
    node.patch("/v1/volumes/v", {"overcommit": 1.0})
    wait_until("the rest of the tree counts", lambda: not shares.uncounted(replaced, project))
    wait_until("the walk has ended", lambda: shares.attributes(replaced) == (flags, project))


def archived(node):
    with shares.mounted(node, "v/a") as point:
        (point / "kept").write_text("of old")
    old = node.cli("share", "delete", "v/a", "--archive", "--json")
    require(old["name"].startswith("v/a-archived-") and old["status"]["phase"] == "archived", f"{old}")
    refused(node, "GET", "/v1/shares/v/a", None, 404, "not_found")
    shares.create(node, "v/a")
    with shares.mounted(node, "v/a") as point:
        require_equal(os.listdir(point), [], "the new share of that name")
    require(old["name"] in node.cli("share", "list"), "the archived share is not listed")
    for folder in shares.folders(node, *old["name"].split("/")):
        require_equal((folder / "kept").read_text(), "of old", f"the archived file in {folder}")
    refused(node, "PATCH", f"/v1/shares/{old['name']}", {"size": "8MiB"}, 400, "invalid_argument", "archived")
    done = node.cli_run("share", "mount", old["name"], node.folder, "--config", node.config)
    require(done.returncode == 11 and "archived" in done.stderr, f"a mount of it: {done}")
    node.cli("share", "delete", old["name"])
    node.cli("share", "delete", "v/a")
    shares.wait_removed(node)


def removed(node):
    """Gone at once, and its files a while later, whatever they look like."""
    shares.create(node, "v/r", "64MiB")
    with shares.mounted(node, "v/r") as point:
        place = point
        for depth in range(30):
            place = place / f"deep-{depth}"
            place.mkdir()
            (place / "file").write_bytes(bytes(4096))
        for i in range(300):
            (point / f"{i}").write_text("x")
        (point / "0").rename(point / "no more")
        (point / "7.d").mkdir()
        (point / "odd \n name").write_text("x")
        (point / "loop").symlink_to(".")
    node.cli("share", "delete", "v/r")
    refused(node, "GET", "/v1/shares/v/r", None, 404, "not_found")
    shares.create(node, "v/r")
    jobs = [job for job in node.items("/v1/jobs") if job["spec"]["kind"] == "remove"]
    require(jobs, "a removal without a job")
    running = next((job for job in jobs if job["status"]["phase"] in ("pending", "running")), None)
    if running:
        status, body = node.request("DELETE", f"/v1/jobs/{running['name']}")
        require(status in (200, 409), f"canceling a removal: {status} {body}")
    shares.wait_removed(node)
    node.delete("/v1/shares/v/r")
    shares.wait_removed(node)


def foreign(node):
    """A folder that is somebody else's is neither used nor removed."""
    with shares.mounted(node, "v/keep") as point:
        require(point.is_dir(), "no mount")
    volume = shares.folders(node, "v", "keep")[0].parent.parent
    path = node.get("/v1/shares/v/keep")["status"]["path"]
    require_equal(path, "/shares/keep", "the folder")
    shares.create(node, "v/other")
    stolen = {"name": "v/nobody", "uid": str(uuid.uuid4()), "spec": {}}
    for folder in shares.folders(node, "v", "other"):
        os.setxattr(folder, "trusted.blockd.share", json.dumps(stolen).encode())
    node.delete("/v1/shares/v/other")
    require((volume / "shares" / "other").is_dir(), "the folder of another went")
    status, body = node.request("POST", "/v1/shares?wait=60", {"volume": "v", "name": "other", "size": "4MiB",
                                                               "no_quota": True})
    require(body["status"]["phase"] == "failed" and "something else" in body["status"]["error"], f"{status} {body}")
    wait_until("the status says so", lambda: any("something else" in problem for problem in node.get("/v1/status")["problems"]))
    for folder in [pathlib.Path(brick["path"]) / "shares" / "other" for brick in node.volume_status("v")["bricks"]]:
        os.removexattr(folder, "trusted.blockd.share")
    node.delete("/v1/shares/v/other")
    shares.wait_removed(node)


def nothing_left(node):
    for share in node.items("/v1/shares"):
        node.delete(f"/v1/shares/{share['name']}")
    shares.wait_removed(node)
    status = node.volume_status("v")
    require_equal((status["provisioned"], status["shares"]), (0, 0), "what is promised in the end")
    for brick in status["bricks"]:
        root = pathlib.Path(brick["path"])
        left = [str(path) for folder in ("shares", "shares-archive", "shares-removed") for path in (root / folder).glob("*")]
        require_equal(left, [], f"what is left on {root}")
    import faults
    projects = [key for key in faults.store(node) if key.startswith("projects/")]
    require_equal(projects, [], "project ids that are still taken")
    node.delete("/v1/volumes/v")


def main():
    require_root()
    with Node() as node:
        node.replica3("v", "512MiB")
        refusals(node)
        life(node)
        idempotency(node)
        counted(node)
        archived(node)
        removed(node)
        shares.create(node, "v/keep")
        foreign(node)
        nothing_left(node)


if __name__ == "__main__":
    main()
