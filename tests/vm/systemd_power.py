#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 1500
"""blockd as `make install` installs it, on a machine with systemd: its disks by stable names, a volume, a block, its export,
a share. The machine loses power under load, and comes back with its disks in another order, with everything served and nothing
complained about. At last one of its disks foresees its end."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import vm
from node import TOP, wait_until

URI = "nbd+unix:///data/disk1?socket=/run/blockd/nbd.sock"
SERVED_SECONDS = 600  # from power to a served block, on a machine a tenth as fast
UNITS = ["blockd", "blockd-nbd", "blockd-heal", "blockd-volserver", "blockd-brick@data.a", "blockd-brick@data.b",
         "blockd-brick@data.c"]
LOAD_OFFSET = 16 << 20

# Writes numbered records of 64 KiB with FUA, and says the number of each that was answered.
WRITER = f"""
import nbd
handle = nbd.NBD()
handle.connect_uri({URI!r})
number = 0
while True:
    handle.pwrite(number.to_bytes(8, "big") * 8192, {LOAD_OFFSET} + (number % 256 << 16), nbd.CMD_FLAG_FUA)
    print(number, flush=True)
    number += 1
"""
# Says the number in each record; all of one record are the same, except in one that was being written.
READER = f"""
import nbd
handle = nbd.NBD()
handle.connect_uri({URI!r})
for place in range(256):
    data = handle.pread(65536, {LOAD_OFFSET} + (place << 16))
    numbers = {{int.from_bytes(data[i:i + 8], "big") for i in range(0, 65536, 8)}}
    print(*sorted(numbers))
"""


def install(folder):
    root = pathlib.Path(folder) / "root"
    root.mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    done = subprocess.run(["make", "--no-print-directory", "install", f"DESTDIR={root}"], cwd=TOP, env=environment,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        sys.exit(f"make install failed:\n{done.stdout}")
    return root


def state_of(guest):
    return json.loads(guest.run("gluster-block", "volume", "info", "data", "--json"))["status"]


def is_served(guest):
    """The volume is online with all its bricks, nothing is left to heal, and a client can open the block."""
    if guest.status("gluster-block", "volume", "info", "data") != 0:
        return False
    status = state_of(guest)
    return (status["phase"] == "online" and not status["heal_pending"]
            and guest.status("nbdinfo", "--size", URI) == 0)


def wait_served(guest):
    try:
        wait_until("the block is served", lambda: is_served(guest), SERVED_SECONDS, pause=0.5)
        print("served after", guest.run("cat", "/proc/uptime").split()[0], "s", flush=True)
    except AssertionError:
        print(guest.sh("systemctl --no-pager --failed; systemctl --no-pager status 'blockd*' || true; "
                       "gluster-block volume info data || true; journalctl -b --no-pager -u 'blockd*' | tail -n 40"))
        raise


def require_calm(guest):
    """Every unit of ours runs, has not been started twice, and has nothing to complain about; no unit at all has failed."""
    guest.wait_for("the boot has ended", "sh", "-c", "systemctl is-system-running | grep -qv starting", timeout=SERVED_SECONDS)
    problems = []
    failed = guest.run("systemctl", "--failed", "--no-legend", "--plain").strip()
    if failed:
        problems.append(f"failed units: {failed}")
    for unit in UNITS:
        state = guest.run("systemctl", "show", "--value", "-p", "ActiveState,NRestarts", unit).split()
        if state != ["active", "0"] and state != ["0", "active"]:
            problems.append(f"{unit}: {state}")
    assert "serves node" in guest.run("journalctl", "-b", "--no-pager", "-u", "blockd"), "the journal has nothing of blockd"
    log = guest.run("journalctl", "-b", "--no-pager", "-q", "-o", "short-precise", "-p", "err", "-u", "blockd*",
                    check=False).strip()
    if log:
        problems.append(f"errors: {log}")
    assert not problems, "\n".join(problems)


def mount_share(guest):
    """As any client does it, with a volfile from the volume's server."""
    guest.run("mount", "-t", "glusterfs", "127.0.0.1:/data/shares/home", "/mnt")
    assert guest.run("findmnt", "-n", "-o", "FSTYPE", "/mnt") == "fuse.glusterfs\n"


def kernel_names(guest):
    return {name: guest.sh(f"readlink -f /dev/disk/by-id/{link}").strip()
            for name, link in (("a", "virtio-a"), ("b", "nvme-*_b"), ("c", "virtio-c"))}


def set_up(guest):
    guest.sh("systemd-sysusers && systemd-tmpfiles --create blockd.conf && systemctl enable --now blockd")
    for name, disk in kernel_names(guest).items():
        told = guest.run("gluster-block", "device", "add", name, disk)
        assert f"{disk} is known as /dev/disk/by-id/" in told, told
    guest.run("gluster-block", "volume", "create", "data", "--template", "replica3", "--allow-same-node")
    guest.run("gluster-block", "block", "create", "data/disk1", "64MiB")
    guest.run("gluster-block", "export", "create", "data/disk1")
    guest.run("gluster-block", "share", "create", "data/home", "64MiB")
    wait_served(guest)
    mount_share(guest)
    require_calm(guest)


def check_power_cut(guest):
    """What was copied and flushed is there when the plug is put back. So is every write that was answered, and in its place
    what came after it at most once."""
    guest.sh("head -c 4M /dev/urandom >/root/data")
    digest = guest.run("sha256sum", "/root/data").split()[0]
    # On a slow machine a brick may seem to hang for a moment, and nobody can open the block then.
    guest.wait_for("the data is copied to the block", "nbdcopy", "--flush", "/root/data", URI)
    guest.run("dd", "if=/root/data", "of=/mnt/file", "bs=1M", "conv=fsync", "status=none")
    writer = guest.spawn("/usr/bin/python3", "-c", WRITER)
    wait_until("the load runs", lambda: writer.output.count("\n") > 300 or writer.status is not None)
    assert writer.status is None, writer.output

    names = kernel_names(guest)
    guest.power_off()
    guest.disks = dict(reversed(guest.disks.items()))
    answered = [int(line) for line in writer.output.split("\n")[:-1]]
    guest.start().wait_ready()
    wait_served(guest)
    require_calm(guest)
    assert kernel_names(guest)["a"] != names["a"], f"the disks have their names of before, {names}"

    mount_share(guest)
    found = guest.run("sha256sum", "/mnt/file").split()[0]
    assert found == digest, f"the share's file reads as {found}, not {digest}"
    guest.run("umount", "/mnt")
    found = guest.sh(f"nbdcopy '{URI}' - | head -c 4M | sha256sum").split()[0]
    assert found == digest, f"the block reads as {found}, not {digest}"
    records = [[int(word) for word in line.split()] for line in
               guest.run("/usr/bin/python3", "-c", READER).splitlines()]
    last = answered[-1]
    for place, numbers in enumerate(records):
        newest = last - (last - place) % 256
        allowed = {newest, newest + 256} if newest == last - 255 else {newest}
        assert set(numbers) <= allowed, f"record {place} holds {numbers}, and {newest} was answered of {last}"
    print(f"{len(answered)} writes were answered before the power cut", flush=True)


def check_health(guest):
    """What the disk says of itself is read now and then, and when blockd starts."""
    info = ("gluster-block", "device", "info", "b", "--json")
    assert json.loads(guest.run(*info))["status"]["health"] == "ok"
    guest.qmp("qom-set", path="/machine/peripheral/disk-b", property="smart_critical_warning", value=4)
    guest.run("systemctl", "restart", "blockd")
    guest.wait_for("the disk is said to fail", "sh", "-c", "gluster-block status | grep 'device node/b: .*foresees'")
    wait_served(guest)
    print(guest.run("gluster-block", "status"), guest.run("gluster-block", "device", "info", "b"), flush=True)
    device = json.loads(guest.run(*info))["status"]
    assert (device["phase"], device["health"]) == ("ready", "failing"), device


def main():
    vm.require()
    with tempfile.TemporaryDirectory() as folder:
        disks = {name: "1GiB" for name in ("a", "b", "c")}
        with vm.Guest("node", memory=1280, cpus=2, disks=disks, buses={"b": "nvme"}, layers=[install(folder)], keep=True, systemd=True) as guest:
            set_up(guest)
            check_power_cut(guest)
            check_health(guest)


if __name__ == "__main__":
    main()
