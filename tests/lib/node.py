# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""A real node in a folder of its own: blockd with real bricks on loop devices, for tests and measurements.

    with Node() as node:
        node.replica3("v", "512MiB")
        node.create_block("v/b", "64MiB")
        node.cli("block", "info", "v/b")
        uri = node.uri("v/b")

Leaving the block stops everything, and raises when a process, mount or loop device is left. A test script begins with
`require_root()` and calls `skip(reason)` where it cannot run.

With BLOCKD_STORE=etcd in the environment each node keeps its records in an etcd of its own instead of SQLite.
"""

import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid

import traces
from etcd import Etcd

TOP = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = pathlib.Path(os.environ.get("BLOCKD_BUILD", TOP / "build")).resolve()
# Seconds: the bound of what happens "eventually". Sanitizers and a busy machine are slow, and guests slower.
PATIENCE = int(os.environ.get("BLOCKD_TEST_PATIENCE", 120))
NODE_MARK = "BLOCKD_TEST_NODE"


def skip(reason):
    print(reason, flush=True)
    sys.exit(77)


def require_root():
    if os.geteuid() != 0:
        skip("needs root")


def require_programs(*names):
    for name in names:
        if not shutil.which(name):
            skip(f"{name} is not installed")


def wait_until(what, condition, timeout=PATIENCE, pause=0.1):
    """The first true value of condition(); fails with `what` when there is none in time."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(pause)


def is_gone(pid):
    """The process has ended, reaped or not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


class ApiError(Exception):
    def __init__(self, status, body):
        error = body.get("error", {}) if isinstance(body, dict) else {}
        self.status, self.body = status, body
        self.code, self.message = error.get("code"), error.get("message")
        super().__init__(f"{status} {self.code}: {self.message or body}")


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Node:
    """One blockd. `settings` go into blockd.conf: {"nbd": {"port": 10809}}. It is not started before start() or `with`."""

    def __init__(self, name="node1", settings=None, ports=40):
        self.name = name
        self.mark = uuid.uuid4().hex
        self.prefix = []  # of the command line that starts blockd
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="n-"))
        self.state, self.run, self.logs = (self.folder / d for d in ("state", "run", "log"))
        self.ports = traces.Ports(ports)
        self.nbd_port = self.ports.range[-1]
        self.volserver_port = self.ports.range[-2]
        self.api_port = self.ports.range[-3]
        self.socket = self.run / "blockd.sock"
        self.nbd_socket = self.run / "nbd.sock"
        self.config = self.folder / "blockd.conf"
        self.settings = {
            "node": {"name": name},
            "daemon": {"state-dir": self.state, "run-dir": self.run, "log-dir": self.logs, "supervisor": "children",
                       "group": "", "log-level": "debug"},
            "engine": {"port-min": self.ports.range[0], "port-max": self.ports.range[-4]},
            "volserver": {"port": self.volserver_port},
            "nbd": {"port": self.nbd_port},
        }
        self.etcd = Etcd().start() if os.environ.get("BLOCKD_STORE") == "etcd" else None
        if self.etcd:
            self.settings["store"] = self.etcd.settings()
        self.configure(settings or {})
        self.process = None

    # ---- The daemon ----

    def configure(self, changes):
        """Merges settings and writes blockd.conf; it counts from the next start, or reload()."""
        for section, values in changes.items():
            self.settings.setdefault(section, {}).update(values)
        with open(self.config, "w") as file:
            for section, values in self.settings.items():
                file.write(f"[{section}]\n")
                for key, value in values.items():
                    file.write(f"{key} = {value}\n")

    def environment(self, **more):
        return dict(os.environ, **{NODE_MARK: self.mark}, **more)

    def start(self, wait=True, **environment):
        """Starts blockd; more words are for its environment, such as BLOCKD_FAULT="point"."""
        with open(self.folder / "blockd.log", "ab") as log:
            self.process = subprocess.Popen([*self.prefix, BUILD / "bin" / "blockd", "--config", self.config],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=self.environment(**environment))
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self):
        wait_until("blockd is ready", self.ready, pause=0.01)

    def ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"blockd ended with status {self.process.returncode}:\n{self.log_tail()}")
        try:
            return self.request("GET", "/readyz", timeout=5)[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def terminate(self):
        """Ends blockd alone, as an upgrade does: bricks and the NBD server go on."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout=PATIENCE) if self.process else 0

    def kill(self):
        """kill -9 of blockd alone."""
        self.process.kill()
        self.process.wait()

    def restart(self, **environment):
        self.terminate()
        return self.start(**environment)

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def wait_died(self):
        """Waits for blockd to end by itself, as at a fault point; the negative signal, or the exit status."""
        try:
            return self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"blockd has not ended; its jobs: {self.items('/v1/jobs')}") from None

    def stop(self):
        """The node's orderly end: nothing served, devices unmounted, blockd gone."""
        if not self.process or self.process.poll() is not None:
            self.start()
        self.patch(f"/v1/nodes/{self.name}", {"state": "stopped"})
        status = self.terminate()
        if status != 0:
            raise AssertionError(f"blockd ended with status {status}:\n{self.log_tail()}")

    def log_tail(self, lines=40):
        with contextlib.suppress(OSError):
            return "\n".join((self.folder / "blockd.log").read_text(errors="replace").splitlines()[-lines:])
        return ""

    # ---- The API ----

    def request(self, method, path, body=None, timeout=PATIENCE, headers=None):
        """(status, decoded body) of one call, whatever the status is."""
        connection = UnixConnection(self.socket, timeout)
        try:
            payload = json.dumps(body) if isinstance(body, (dict, list)) else body
            kind = {"Content-Type": "application/json"} if payload is not None else {}
            connection.request(method, path, payload, {**kind, **(headers or {})})
            reply = connection.getresponse()
            text = reply.read()
            is_json = "json" in (reply.getheader("Content-Type") or "")
            return reply.status, json.loads(text) if is_json and text else text.decode(errors="replace")
        finally:
            connection.close()

    def call(self, method, path, body=None, **keywords):
        """The body of a call that must succeed; ApiError otherwise."""
        status, reply = self.request(method, path, body, **keywords)
        if status >= 300:
            raise ApiError(status, reply)
        return reply

    def get(self, path):
        return self.call("GET", path)

    def items(self, path):
        return self.get(path)["items"]

    @staticmethod
    def _waiting(path):
        return path + ("&" if "?" in path else "?") + f"wait={PATIENCE}"

    def post(self, path, body):
        return self.call("POST", self._waiting(path), body, timeout=2 * PATIENCE)

    def patch(self, path, body):
        return self.call("PATCH", self._waiting(path), body, timeout=2 * PATIENCE)

    def delete(self, path):
        return self.call("DELETE", self._waiting(path), timeout=2 * PATIENCE)

    # ---- The command line ----

    def cli_run(self, *words, timeout=2 * PATIENCE):
        """The finished process of `gluster-block WORDS`, with its texts."""
        return subprocess.run([BUILD / "bin" / "gluster-block", "--socket", self.socket, *map(str, words)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout,
                              env=self.environment())

    def cli(self, *words, **keywords):
        """What a command that must succeed prints; decoded when the last word is --json."""
        done = self.cli_run(*words, **keywords)
        if done.returncode != 0:
            raise AssertionError(f"gluster-block {' '.join(map(str, words))}: exit {done.returncode}: "
                                 f"{done.stderr.strip() or done.stdout.strip()}")
        return json.loads(done.stdout) if words[-1] == "--json" else done.stdout

    # ---- Objects ----

    def add_device(self, name, size="1GiB"):
        """A device on an image file of its own."""
        return self.post("/v1/devices", {"name": name, "path": str(self.folder / "images" / f"{name}.img"),
                                         "image_size": size})

    def create_volume(self, name, template="replica3", devices=(), **more):
        return self.post("/v1/volumes", {"name": name, "template": template, "devices": list(devices),
                                         "allow_same_node": True, **more})

    def devices(self, count, size="1GiB", first=1):
        (self.folder / "images").mkdir(exist_ok=True)
        names = [f"d{i}" for i in range(first, first + count)]
        for name in names:
            self.add_device(name, size)
        return names

    def volume(self, name, template, size="1GiB", **more):
        """A volume on new devices of its own, online. The names of devices count on over all volumes."""
        count = 1 if template == "single" else 3
        names = self.devices(count, size, first=len(self.items("/v1/devices")) + 1)
        self.create_volume(name, template, names, **more)
        self.wait_volume(name)
        return self

    def single(self, name, size="1GiB", **more):
        return self.volume(name, "single", size, **more)

    def replica3(self, name, size="1GiB", **more):
        return self.volume(name, "replica3", size, **more)

    def volume_status(self, name):
        return self.get(f"/v1/volumes/{name}")["status"]

    def wait_volume(self, name, phase="online", timeout=PATIENCE):
        wait_until(f"volume {name} is {phase}", lambda: self.volume_status(name).get("phase") == phase, timeout)

    def wait_healed(self, name, timeout=PATIENCE):
        """All bricks up and nothing left to heal. What blockd says of a brick whose process has just ended does not count."""
        def healed():
            status = self.volume_status(name)
            bricks = status.get("bricks", [])
            return status.get("phase") == "online" and not any(
                brick.get("heal_pending", 0) or is_gone(brick.get("pid", 0)) for brick in bricks)
        wait_until(f"volume {name} is healed", healed, timeout)

    def create_block(self, path, size, export=True, **more):
        volume, name = path.split("/")
        hosts = [self.name] if export else []
        return self.post("/v1/blocks", {"volume": volume, "name": name, "size": size, "hosts": hosts, **more})

    def delete_block(self, path, query=""):
        return self.delete(f"/v1/blocks/{path}{query}")

    def uri(self, path):
        """The NBD URI by which a client on this machine reaches the block, once there is one: the engine's clients connect to
        bricks that came back every three seconds only."""
        def live():
            done = self.cli_run("uri", path)
            return done.stdout.strip() if done.returncode == 0 else None
        return wait_until(f"an export of {path} is live", live)

    def unix_uri(self, path):
        return f"nbd+unix:///{path}?socket={self.nbd_socket}"

    # ---- Processes ----

    def processes(self):
        """{pid: command line} of everything that descends from this blockd."""
        lines = {}
        for pid in traces.processes(self.mark, NODE_MARK):
            with contextlib.suppress(OSError):
                lines[pid] = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        return {pid: line for pid, line in lines.items() if line}  # one that just ended has none

    def brick_pids(self, volume):
        """Pids of the volume's bricks in brick order; 0 for one that is down."""
        return [int(brick.get("pid", 0)) for brick in self.volume_status(volume)["bricks"]]

    def nbd_pid(self):
        pids = [pid for pid, line in self.processes().items() if line and line.split()[0].endswith("blockd-nbd")]
        return pids[0] if pids else 0

    # ---- The end ----

    def __enter__(self):
        if not self.process:
            try:
                self.start()
            except BaseException:
                self.clean()
                raise
        return self

    def __exit__(self, kind, error, trace):
        try:
            if kind is None:
                self.stop()
                left = traces.settled(self.mark, self.folder, 30, variable=NODE_MARK)
                if left:
                    raise AssertionError("left behind by the node's stop: " + ", ".join(left))
            elif kind is not SystemExit:  # the last line of a skip is its reason
                print(f"-- end of blockd's log:\n{self.log_tail()}", flush=True)
        finally:
            self.clean()

    def clean(self):
        """Ends and removes everything, whatever state it is in."""
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()
        traces.remove(self.mark, self.folder, variable=NODE_MARK)
        keep = os.environ.get("BLOCKD_TEST_KEEP")
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.ports.close()
        if self.etcd:
            self.etcd.stop()


def _terminated(number, frame):
    raise SystemExit(128 + number)


# A test that is told to end cleans up on the way out.
signal.signal(signal.SIGTERM, _terminated)
