#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 400
"""blockd dies between two steps of an operation on a share: the next start finishes it, and nothing leaks. A volume whose
bricks are full can still delete."""

import contextlib
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import node as cluster
import shares
import steps
from steps import Request

BODY = {"volume": "v", "name": "s", "size": "8MiB", "no_quota": True}
CREATE = Request("POST", "/v1/shares", BODY)
DELETE = Request("DELETE", "/v1/shares/v/s", gone=True)
ARCHIVE = Request("DELETE", "/v1/shares/v/s?archive=1", gone=True)
RESIZE = Request("PATCH", "/v1/shares/v/s", {"size": "16MiB"})
ACCESS = Request("POST", "/v1/shares/v/s/access", {"access": ["10.0.0.0/8"]})
CREATES = ("share.create", "share.quota", "share.up")


def operation(point):
    if point.startswith(CREATES):
        return CREATE
    return {"share.resize": RESIZE, "share.access": ACCESS, "share.admit": ACCESS}.get(point.rsplit(".", 1)[0], DELETE)


def fill(node):
    """Something to remove, and a size to compare."""
    with shares.mounted(node, "v/s") as point:
        for i in range(10):
            (point / f"d{i}").mkdir()
            (point / f"d{i}" / "file").write_bytes(bytes(5000))


def leaks(node):
    """Records, project ids and folders that do not fit together."""
    records = faults.store(node)
    found = [f"{key} is being deleted" for key, value in records.items()
             if key.startswith("shares/") and value.get("deleting")]
    found += [f"{key} runs" for key, value in records.items()
              if key.startswith("jobs/") and value["status"]["phase"] in ("pending", "running")]
    live = {key: value for key, value in records.items() if key.startswith("shares/")}
    projects = {f"projects/{value['spec']['project']}" for value in live.values()}
    taken = {key for key in records if key.startswith("projects/")}
    found += [f"project id without a share, or the other way round: {key}" for key in projects ^ taken]
    wanted = {value["status"]["path"] for value in live.values()}
    status = node.volume_status("v")
    for brick in status["bricks"]:
        root = pathlib.Path(brick["path"])
        there = {f"/{path.relative_to(root)}" for folder in ("shares", "shares-archive", "shares-removed")
                 for path in (root / folder).glob("*")}
        found += [f"{path} on {root}" for path in there ^ wanted]
        for value in live.values():
            if (root / value["status"]["path"][1:]).is_dir():
                found += [f"{path} does not count" for path in
                          shares.uncounted(root / value["status"]["path"][1:], value["spec"]["project"])]
    promised = sum(value["spec"]["size"] for value in live.values())
    if (status["provisioned"], status["shares"]) != (promised, len(live)):
        found.append(f"the ledger says {status['provisioned']} bytes in {status['shares']} shares, the records {promised} "
                     f"in {len(live)}")
    return found


def require_whole(node, what):
    try:
        cluster.wait_until("", lambda: not leaks(node))
    except AssertionError:
        raise AssertionError(f"{what}: {'; '.join(leaks(node))}") from None


def run(node, point, request):
    what = f"{request}, dead at {point}"
    if request is not CREATE:
        CREATE.again().must(node)
        fill(node)
    attempt = request.again()
    died = steps.die_in(node, point, attempt)
    if not died:
        node.terminate()
    node.start()
    attempt.must(node)
    require_whole(node, what)
    names = [share["name"] for share in node.items("/v1/shares")]
    faults.require(("v/s" in names) == (not request.gone), f"{what}: the shares are {names}")
    if request is ARCHIVE:
        faults.require(len(names) == 1 and "archived" in names[0], f"{what}: the shares are {names}")
    for name in names:
        node.delete(f"/v1/shares/{name}")
    shares.wait_removed(node)
    require_whole(node, f"{what}, taken back")
    return died


def full_bricks(node):
    """Nothing more can be written, and a share can still be deleted and archived."""
    for name in ("s", "t"):
        shares.create(node, f"v/{name}")
    with shares.mounted(node, "v/s") as point:
        fd = os.open(point / "all", os.O_WRONLY | os.O_CREAT)
        for size in (1 << 20, 4096, 512):
            with contextlib.suppress(OSError):
                while True:
                    os.write(fd, bytes(size))
                    os.fsync(fd)
        with contextlib.suppress(OSError):
            os.close(fd)
    node.cli("share", "delete", "v/t", "--archive")
    node.cli("share", "delete", "v/s")
    shares.wait_removed(node)
    cluster.wait_until("there is room again", lambda: os.statvfs(node.volume_status("v")["bricks"][0]["path"]).f_bavail >
                       os.statvfs(node.volume_status("v")["bricks"][0]["path"]).f_blocks // 2)
    for share in node.items("/v1/shares"):
        node.delete(f"/v1/shares/{share['name']}")
    shares.wait_removed(node)
    require_whole(node, "after full bricks")


def main():
    cluster.require_root()
    points = sorted(p for p in steps.points_in_sources() if p.startswith(("share.", "job.remove.")))
    with cluster.Node() as node:
        node.single("v", "512MiB")
        reached = set()
        for point in points:
            if run(node, point, operation(point)):
                reached.add(point)
            print(f"ok {point}{'' if point in reached else ' (not reached)'}", flush=True)
        # Limits exist where the kernel has quota only.
        faults.require(set(points) - reached <= {"job.remove.after-quota", "share.quota.after-limit"},
                       f"never came by {sorted(set(points) - reached)}")
        for point in ("share.delete.after-mark", "share.delete.after-rename", "share.delete.after-record"):
            faults.require(run(node, point, ARCHIVE), f"an archive never came by {point}")
            print(f"ok {point}, archived", flush=True)
        full_bricks(node)


if __name__ == "__main__":
    main()
