#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 900
"""The guests themselves: commands and their ends, disks, a network of two segments, a cut cable, a pulled plug."""

import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import vm


def require_raises(kind, function, *arguments, **keywords):
    try:
        function(*arguments, **keywords)
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")


def check_commands(guest):
    assert guest.run("uname", "-n") == "one\n"
    assert guest.status("sh", "-c", "exit 7") == 7
    assert guest.status("sh", "-c", "kill -9 $$") == -9
    assert guest.status("no-such-program") == 127
    assert guest.run("cat", input="grüße\n" * 20000) == "grüße\n" * 20000
    text = require_raises(vm.CommandFailed, guest.sh, "echo to one; echo to the other >&2; false")
    assert "to one\nto the other\n" in text, text
    # What hangs is ended, and what it printed is told. Others run meanwhile, and a daemon holds nobody up.
    text = require_raises(AssertionError, guest.sh, "echo begun; sleep 1000", timeout=3)
    assert "begun" in text, text
    guest.wait_for("the command that hung is gone", "sh", "-c", "! pgrep -x sleep")
    guest.sh("sleep 1000 & echo $! >/tmp/pid")
    guest.sh("kill $(cat /tmp/pid)")


def check_disks(guest):
    guest.sh("test $(blockdev --getsize64 /dev/disk/by-id/virtio-data) = $((64 << 20))")
    assert guest.run("cat", "/etc/from-layer") == "layer\n"


def check_power(guest):
    guest.sh("echo kept >/root/kept; sync; echo kept | dd of=/dev/disk/by-id/virtio-data conv=fsync status=none")
    job = guest.spawn("sleep", "1000")
    guest.power_off()
    require_raises(vm.GuestGone, job.wait)
    require_raises(vm.GuestGone, guest.run, "true")
    guest.start().wait_ready()
    assert guest.run("cat", "/root/kept") == "kept\n"
    assert guest.sh("head -c 5 /dev/disk/by-id/virtio-data") == "kept\n"


def check_network(network, one, two):
    def ping(target):
        return ["ping", "-c", "1", "-W", "5", target]

    for segment in (0, 1):
        one.wait_for(f"segment {segment} carries packets", *ping(two.address(segment)))
    server = one.spawn("/usr/bin/python3", "-m", "http.server", "8000", folder="/root")
    one.wait_for("a server runs", "sh", "-c", "ss -ltn | grep -q :8000")
    assert "Directory listing" in network.run("curl", "-s", "--max-time", "30", f"http://{one.address(1)}:8000/")
    server.kill()
    server.wait()
    two.link(False)
    assert one.status("ping", "-c", "3", "-i", "0.2", "-W", "1", two.address()) == 1
    one.run(*ping(two.address(1)))  # the other cable is in
    assert two.run("cat", "/sys/class/net/eth0/carrier") == "0\n"
    two.link(True)
    one.wait_for("the link is back", *ping(two.address()))


def main():
    vm.require()
    with tempfile.TemporaryDirectory() as folder, vm.Network(segments=2) as network:
        layer = pathlib.Path(folder)
        (layer / "etc").mkdir()
        (layer / "etc/from-layer").write_text("layer\n")
        one = vm.Guest("one", disks={"data": "64MiB"}, layers=[layer], keep=True, network=network)
        two = vm.Guest("two", network=network)
        with vm.started(one, two):
            check_commands(one)
            check_disks(one)
            check_network(network, one, two)
            check_power(one)
            check_network(network, one, two)


if __name__ == "__main__":
    main()
