#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 600
"""Bricks of a distributed disperse volume move under a verified load: blockd dies at every step, disks die, jobs wait and are canceled."""

import os
import pathlib
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import node as cluster
import steps
from api import refused, require, require_equal
from load import Load
from volclient import mounted

# Where a move of a fragment comes by. That of a copy is in evacuate.py.
POINTS = ["evacuate.after-record", "evacuate.after-begin", "move.after-mark", "move.swap-join", "move.swap-mark",
          "move.swap-heal", "move.left", "move.after-erase", "evacuate.after-status"]
FILES = 60


# ---- What must be there ----

def make_tree(root, rng):
    """Files of all kinds in folders of several levels; {path: what is to be found there}."""
    for folder in ("a", "a/b", "a/b/c", "empty"):
        (root / folder).mkdir()
    (root / "a").chmod(0o2751)
    os.chown(root / "a/b", 1234, 4321)
    for i in range(FILES):
        path = root / ("a", "a/b", "a/b/c")[i % 3] / f"f{i}"
        path.write_bytes(rng.randbytes(rng.randrange(70000)) if i else b"")
        path.chmod(0o600 + i % 8)
        os.chown(path, i, 2 * i)
    os.setxattr(root / "a/f3", "user.colour", b"red")
    os.link(root / "a/f3", root / "a/b/c/second-name")
    os.symlink("f3", root / "a/link")
    with open(root / "a/b/f1", "r+b") as sparse:
        sparse.seek(1 << 20)
        sparse.write(b"end")
    return list_tree(root)


def list_tree(root):
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        names = {} if path.is_symlink() else {name: os.getxattr(path, name) for name in os.listxattr(path)}
        if path.relative_to(root).parts[0] == "block-store":
            continue
        found[str(path.relative_to(root))] = (status.st_mode, status.st_uid, status.st_gid, content, names)
    return found


def require_tree(root, wanted, what):
    found = list_tree(root)
    wrong = [path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path)]
    require(not wrong, f"{what}: differ or are missing: {wrong[:10]} of {len(wrong)}")


def wait_whole(node):
    """All bricks up, and no fragment is behind. A file that is written stands in the index all the time."""
    cluster.wait_until("all bricks are up", lambda: all(node.brick_pids("v")))
    ports = {brick["port"] for brick in node.volume_status("v")["bricks"]}
    cluster.wait_until("blockd-nbd is connected to all", lambda: ports <= faults.connected_ports(node.nbd_pid()))

    def whole():
        if not any(file["kinds"] for file in node.get("/v1/volumes/v/heal")["files"]):
            return True
        node.request("POST", "/v1/volumes/v/heal", {})  # sooner than disperse's own next round, a minute away
        return False
    cluster.wait_until("all fragments are healed", whole, pause=1)


class Data:
    """A block under load in each phase, and a tree in a mount that lives as long as the test."""

    def __init__(self, node, mount, rng):
        self.node, self.mount, self.rng, self.loads = node, mount, rng, []
        self.tree = make_tree(mount, rng)

    def __enter__(self):
        name = f"v/b{len(self.loads)}"
        self.node.create_block(name, "8MiB")
        self.load = Load(self.node.unix_uri(name), self.rng)
        self.loads.append(self.load)
        self.load.__enter__()

    def __exit__(self, kind, error, trace):
        self.load.__exit__(kind, error, trace)

    def verify(self, mount, what):
        require_tree(mount, self.tree, what)
        for load in self.loads:
            load.verify()

    def need(self, device):
        """All is there with what that device has, and without another brick of its set. Nothing heals meanwhile."""
        node = self.node
        bricks = node.get("/v1/volumes/v")["spec"]["bricks"]
        place = [brick["device"] for brick in bricks].index(device)
        node.kill()
        faults.signal_all([pid for pid, line in node.processes().items() if "glustershd" in line])
        other = bricks[place // 3 * 3 + (place + 1) % 3]["device"]
        pids = [pid for pid, line in node.processes().items() if f"v.{other}.vol" in line]
        faults.signal_all(pids)
        faults.wait_gone(pids)
        with mounted(node, "/v", "alone") as point:
            self.verify(point, f"with {device} and without {other}")
        node.start()
        wait_whole(node)
        self.verify(self.mount, "afterwards")


    def remove(self):
        for name in ("a", "empty"):
            shutil.rmtree(self.mount / name)
        for number in range(len(self.loads)):
            self.node.delete_block(f"v/b{number}")


# ---- Jobs ----

def job(node, name):
    return node.get(f"/v1/jobs/{name}")["status"]


def begin(node, device, verb="evacuate", **body):
    return node.call("POST", f"/v1/devices/node1/{device}/{verb}", body)["name"]


def wait_job(node, name, phase="succeeded"):
    try:
        cluster.wait_until(f"job {name} ends", lambda: job(node, name)["phase"] in ("succeeded", "failed", "canceled"), 120)
    except AssertionError as error:
        raise AssertionError(f"{error}: {job(node, name)}") from None
    status = job(node, name)
    require(status["phase"] == phase, f"the job is {status}")
    return status


def wait_message(node, name, *parts):
    def told():
        message = job(node, name).get("message") or ""
        return message if all(part in message for part in parts) else None
    try:
        return cluster.wait_until(f"the job says {parts}", told)
    except AssertionError as error:
        raise AssertionError(f"{error}: {job(node, name)}") from None


def devices_of(node, volume="v"):
    return [brick["device"] for brick in node.get(f"/v1/volumes/{volume}")["spec"]["bricks"]]


def spare_of(node, volume="v"):
    return (set(NAMES) - set(devices_of(node, volume))).pop()


def require_empty(node, device):
    folder = node.state / "devices" / device / "bricks"
    require(device not in devices_of(node), f"{device} has a brick still")
    cluster.wait_until(f"{folder} is empty", lambda: not folder.is_dir() or not os.listdir(folder))


def status_of(node, device):
    return node.get(f"/v1/devices/node1/{device}")["status"]


def take_away(node, device):
    """The disk is gone: nothing finds it any more. Returns what brings it back."""
    image = node.folder / "images" / f"{device}.img"
    os.rename(image, f"{image}.away")
    subprocess.run(["xfs_io", "-x", "-c", "shutdown", node.state / "devices" / device], check=True)
    cluster.wait_until("the device is taken out", lambda: status_of(node, device)["phase"] == "failed")

    def back():
        os.rename(f"{image}.away", image)
        cluster.wait_until("the device is back", lambda: status_of(node, device)["phase"] == "ready")
    return back


# ---- The test ----

def evacuated(node, data):
    source, spare = devices_of(node)[4], spare_of(node)
    with data:
        status = wait_job(node, begin(node, source))
    require_equal((status["done"], status["message"]), (status["total"], "the device has no brick left"), "the job's end")
    require_empty(node, source)
    data.need(spare)
    node.cli("device", "enable", source)


def dead_at_each_step(node, data):
    source, spare = devices_of(node)[0], spare_of(node)
    with data:
        node.terminate()
        node.start(BLOCKD_FAULT=POINTS[0])
        try:
            begin(node, source)
        except (OSError, cluster.http.client.HTTPException):
            pass  # it died before it answered
        for point, following in zip(POINTS, POINTS[1:] + [None]):
            require(node.wait_died() == -signal.SIGKILL, f"blockd ended at {point} otherwise:\n{node.log_tail()}")
            print(f"ok {point}", flush=True)
            if following:
                node.start(wait=False, BLOCKD_FAULT=following)
        node.start()
        jobs = [j for j in node.items("/v1/jobs") if j["spec"]["object"] == f"devices/node1/{source}"]
        wait_job(node, max(jobs, key=lambda j: j["created"])["name"])
    require_empty(node, source)
    data.need(spare)
    node.cli("device", "enable", source)


def waits_and_is_canceled(node, data):
    """Another brick of the set is gone: no fragment more is given up, and the job says for what it waits."""
    before, spare = devices_of(node), spare_of(node)
    wait_whole(node)
    os.sync()  # what a disk of a disperse volume loses when it dies is not always known when it is back: gluster-block(8)
    back = take_away(node, before[1])
    with data:
        name = begin(node, before[0])
        wait_message(node, name, "volume v", f"node1/{before[0]}", f"waits: the brick of volume v on node1/{before[1]} is")
        refused(node, "POST", f"/v1/devices/node1/{before[0]}/evacuate", {}, 409, "already_exists", name)
        node.restart()
        wait_message(node, name, f"node1/{before[1]} is")
        node.delete(f"/v1/jobs/{name}")
        require_equal(devices_of(node), before, "bricks after the cancel")
        require_empty(node, spare)
        node.cli("device", "enable", before[0])
        data.load.wait_progress()
        back()
        wait_whole(node)
    data.verify(data.mount, "after the cancel")


def replaced(node, data):
    lost, spare = devices_of(node)[5], spare_of(node)
    with data:
        back = take_away(node, lost)
        data.load.wait_progress()
        refused(node, "DELETE", f"/v1/devices/node1/{lost}", None, 409, "failed_precondition", f"device replace node1/{lost}")
        wait_job(node, begin(node, lost, "replace", target=spare))
    require(spare in devices_of(node) and lost not in devices_of(node), f"bricks are on {devices_of(node)}")
    data.need(spare)
    back()
    require_empty(node, lost)
    node.cli("device", "enable", lost)


def arbiters(node, rng):
    """Distribute over sets with a witness: one of these moves, and bricks with data, of each set."""
    node.create_volume("w", "arbiter", [], size="120MiB", sets=2)
    node.wait_volume("w")
    node.create_block("w/b", "8MiB")
    with Load(node.unix_uri("w/b"), rng, slots=512) as load:
        for place in (5, 3, 0):
            source = devices_of(node, "w")[place]
            wait_job(node, begin(node, source))
            require(source not in devices_of(node, "w"), f"a brick of w is on {source} still")
            load.wait_progress()
            node.cli("device", "enable", source)
    load.verify(node.unix_uri("w/b"))
    faults.wait_clean(node, "w")
    node.delete_block("w/b")
    node.delete("/v1/volumes/w")


NAMES = [f"d{i}" for i in range(1, 8)]


def main():
    cluster.require_root()
    cluster.require_programs("xfs_io", "mount.glusterfs")
    rng = faults.chance()
    with cluster.Node() as node:
        node.devices(len(NAMES), "512MiB")
        node.create_volume("v", "disperse", [], size="400MiB", sets=2, data=2, redundancy=1)
        node.wait_volume("v")
        with mounted(node) as mount:
            data = Data(node, mount, rng)
            for phase in (evacuated, waits_and_is_canceled, replaced, dead_at_each_step):
                phase(node, data)
                print(f"ok {phase.__name__}", flush=True)
            data.remove()
        node.delete("/v1/volumes/v")
        arbiters(node, rng)
        print("ok arbiters", flush=True)
        faults.require_nothing_leaked(node, "after all moves")
        known = {p for p in steps.points_in_sources() if p.startswith("move.swap")}
        require(known <= set(POINTS), f"points that no test dies at: {known - set(POINTS)}")


if __name__ == "__main__":
    main()
