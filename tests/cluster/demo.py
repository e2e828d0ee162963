#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 600
# alone
"""`make demo` from nothing, again, interrupted, after a kill of blockd, beside a foreign state; `make demo-stop` leaves nothing."""

import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import node as cluster
import traces

STATE, RUN, CONFIG = (pathlib.Path(p) for p in ("/var/lib/blockd", "/run/blockd", "/etc/blockd/blockd.conf"))
DEFAULT_NBD_PORT = 10809
MARK = uuid.uuid4().hex


def make(target, timeout=300):
    """(exit status, output) of make, and what it printed is printed."""
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL")}
    done = subprocess.run(["make", "--no-print-directory", target], cwd=cluster.TOP, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, env=environment)
    print(f"$ make {target}\n{done.stdout}", flush=True)
    return done.returncode, done.stdout


def require(condition, text):
    if not condition:
        raise AssertionError(text)


def require_nothing_left(what):
    left = traces.settled(MARK, STATE, variable=cluster.NODE_MARK)
    require(not left, f"{what} left {left}")
    for folder in (STATE, RUN):
        require(not folder.exists(), f"{what} left {folder}: {list(folder.rglob('*'))[:10] if folder.exists() else ''}")
    require(not traces.listening([DEFAULT_NBD_PORT]), f"{what} left something on port {DEFAULT_NBD_PORT}")


def stop():
    status, text = make("demo-stop")
    require(status == 0, "make demo-stop failed")
    return text


def uri_of(text):
    return re.search(r"nbd://\S+", text).group(0)


def daemon_pid():
    return int((STATE / "demo" / "blockd.pid").read_text())


def whole_life():
    status, text = make("demo")
    require(status == 0, "make demo failed")
    pid = daemon_pid()
    subprocess.run(["nbdinfo", uri_of(text)], check=True, stdout=subprocess.DEVNULL)

    status, text = make("demo")
    require(status == 0 and "runs already" in text, "a second make demo does not say that it runs")
    require(daemon_pid() == pid and os.path.exists(f"/proc/{pid}"), "a second make demo changed the daemon")
    subprocess.run(["nbdinfo", uri_of(text)], check=True, stdout=subprocess.DEVNULL)

    os.kill(pid, signal.SIGKILL)
    stop()
    require_nothing_left("make demo-stop after kill -9 of blockd")
    require("no demo" in stop(), "a second make demo-stop does not say that there is none")


def interrupted(after, again=False):
    """Ctrl-C goes to the whole foreground process group. `again`: make demo must be able to go on from there."""
    demo = subprocess.Popen([cluster.TOP / "tools" / "demo", "start"], stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        demo.wait(timeout=after)
    except subprocess.TimeoutExpired:
        os.killpg(demo.pid, signal.SIGINT)
    status = demo.wait(timeout=60)
    print(f"interrupted after {after:.1f} s: exit status {status}", flush=True)
    require(status in (0, 130), f"an interrupted demo ended with {status}")
    if again:
        status, text = make("demo")
        require(status == 0 and uri_of(text), "make demo did not go on after an interruption")
    stop()
    require_nothing_left(f"make demo-stop after an interruption at {after:.1f} s")


def beside_foreign_state():
    STATE.mkdir()
    foreign = STATE / "somebody's"
    foreign.write_text("data")
    try:
        for target in ("demo", "demo-stop"):
            status, text = make(target)
            require(foreign.read_text() == "data", f"make {target} touched a state that is not the demo's")
            require(status != 0 or target == "demo-stop", "make demo ran on a state that is not the demo's")
        require(list(STATE.iterdir()) == [foreign], "make demo left something beside a foreign state")
    finally:
        foreign.unlink()
        STATE.rmdir()


def with_foreign_device():
    """A device that the demo did not make keeps demo-stop from removing anything."""
    status, _ = make("demo")
    require(status == 0, "make demo failed")
    image = pathlib.Path(os.environ.get("TMPDIR", "/tmp")) / f"demo-{MARK}.img"
    client = cluster.BUILD / "bin" / "gluster-block"
    try:
        subprocess.run([client, "device", "add", "mine", image, "--image-size", "512MiB"], check=True)
        status, text = make("demo-stop")
        require(status != 0 and "mine" in text, "make demo-stop does not refuse beside a device that is not the demo's")
        require(os.path.exists(f"/proc/{daemon_pid()}"), "make demo-stop stopped what it should leave alone")
        status = subprocess.run([client, "status", "--json"], check=True, capture_output=True, text=True).stdout
        subprocess.run([client, "device", "remove", f"{json.loads(status)['node']}/mine"], check=True)
    finally:
        stop()
        image.unlink(missing_ok=True)
    require_nothing_left("make demo-stop")


def main():
    cluster.require_root()
    cluster.require_programs("nbdinfo", "nbdcopy", "mkfs.ext4")
    if STATE.exists() or RUN.exists() or CONFIG.exists() or traces.listening([DEFAULT_NBD_PORT]):
        cluster.skip("a blockd, or something in its place, is on this machine")
    os.environ[cluster.NODE_MARK] = MARK
    # The demo has its own build folder; under a sanitizer run it is that one's programs that must run.
    os.environ.setdefault("BLOCKD_BUILD", str(cluster.BUILD))
    try:
        beside_foreign_state()
        whole_life()
        interrupted(random.uniform(0.2, 8), again=True)
        for _ in range(2):
            interrupted(random.uniform(0.2, 12))
        with_foreign_device()
    finally:
        subprocess.run([cluster.TOP / "tools" / "demo", "stop"], stdin=subprocess.DEVNULL, check=False)


if __name__ == "__main__":
    main()
