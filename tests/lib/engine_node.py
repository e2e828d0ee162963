# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""The engine alone on this machine, through the program engine_driver: objects go in, statuses come out.

    with EngineNode() as node:
        device = node.device("d1")
        node.ok("device_up", device=device)
"""

import contextlib
import errno
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import uuid

import traces
from node import BUILD, NODE_MARK, PATIENCE, wait_until

DRIVER = BUILD / "tests" / "lib" / "engine_driver"
NODE = "node1"
IMAGE_SIZE = 320 << 20


class Refused(Exception):
    def __init__(self, call, answer):
        self.number, self.message = -answer["result"], answer["error"]
        super().__init__(f"{call}: {errno.errorcode.get(self.number, self.number)}: {self.message}")


class EngineNode:
    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="engine-"))
        self.mark = uuid.uuid4().hex
        self.uid = str(uuid.uuid4())
        self.config = self.folder / "blockd.conf"
        self.ports = traces.Ports()
        self.volserver_port = self.ports.range[-1]
        self.config.write_text(f"[node]\nname = {NODE}\n[daemon]\nsupervisor = children\ngroup =\n"
                               f"state-dir = {self.folder}/state\nrun-dir = {self.folder}/run\n"
                               f"log-dir = {self.folder}/log\n[volserver]\nport = {self.volserver_port}\n")
        self.nbd_program = None
        self.driver = None
        self.nodes = [{"name": NODE, "uid": self.uid, "spec": {"addresses": ["127.0.0.1"]}}]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, value, trace):
        with contextlib.suppress(AssertionError) if kind else contextlib.nullcontext():
            self.stop()
        left = traces.remove(self.mark, self.folder, NODE_MARK)
        self.ports.close()
        if kind is not None:
            for log in sorted(self.folder.glob("log/*")) + [self.folder / "driver.log"]:
                with contextlib.suppress(OSError):
                    print(f"--- {log.name}\n{log.read_text(errors='replace')[-2000:]}")
        shutil.rmtree(self.folder, ignore_errors=True)
        if left and kind is None:
            raise AssertionError(f"left behind: {left}")

    # ---- The driver ----

    def start(self, fault=None):
        environment = dict(os.environ, **{NODE_MARK: self.mark})
        if fault:
            environment["BLOCKD_FAULT"] = fault
        argv = [DRIVER, self.config, NODE] + ([self.nbd_program] if self.nbd_program else [])
        with open(self.folder / "driver.log", "a") as log:
            self.driver = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                           text=True, env=environment)

    def stop(self):
        if self.driver:
            self.driver.stdin.close()
            self.driver.wait(PATIENCE)
            self.driver.stdout.close()
            status, self.driver = self.driver.returncode, None
            if status not in (0, -signal.SIGKILL):
                raise AssertionError(f"the driver ended with {status}")

    def kill(self):
        self.driver.kill()
        self.stop()

    def call(self, call, **arguments):
        """The answer; None when the driver died, as a fault point makes it."""
        try:
            self.driver.stdin.write(json.dumps(dict(call=call, **arguments)) + "\n")
            self.driver.stdin.flush()
            line = self.driver.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.driver.wait(PATIENCE)
            self.driver.stdin = open(os.devnull, "w")
            return None
        return json.loads(line)

    def ok(self, call, **arguments):
        answer = self.call(call, **arguments)
        if answer is None:
            raise AssertionError(f"{call}: the driver died")
        if answer["result"] != 0:
            raise Refused(call, answer)
        return answer

    def refused(self, number, call, **arguments):
        """The message of a call that must fail with this errno."""
        answer = self.call(call, **arguments)
        assert answer["result"] == -number, f"{call}: {answer}, not {errno.errorcode[number]}"
        return answer["error"]

    # ---- Objects ----

    def device(self, name, size=IMAGE_SIZE, path=None):
        return {"name": f"{NODE}/{name}", "uid": str(uuid.uuid4()),
                "spec": {"path": str(path or self.folder / f"{name}.img"), "image_size": size}}

    def volume(self, name, devices, template="replica3"):
        """Each volume has the same ports, so only one can be up at a time."""
        return {"name": name, "uid": str(uuid.uuid4()),
                "spec": {"template": template, "state": "started", "overcommit": 1.0,
                         "bricks": [{"node": NODE, "device": device["name"].split("/")[1], "port": port}
                                    for device, port in zip(devices, self.ports.range)]}}

    def devices_up(self, count):
        devices = [self.device(f"d{i + 1}") for i in range(count)]
        for device in devices:
            device["status"] = self.ok("device_up", device=device)["status"]
        return devices

    # ---- What is seen ----

    def status(self, volume):
        return self.ok("volume_status", volume=volume)["status"]

    def wait_phase(self, volume, phase, timeout=60):
        return wait_until(f"phase {phase} of {volume['name']} (last: {self.status(volume)})",
                          lambda: (s := self.status(volume))["phase"] == phase and s, timeout)

    def volume_up(self, volume):
        self.ok("volume_up", volume=volume, nodes=self.nodes)

    def heal_up(self, *volumes):
        self.ok("heal_up", volumes=list(volumes), nodes=self.nodes)

    def process(self, name):
        return next((p for p in self.ok("processes")["processes"] if p["name"] == name), None)

    def client_volfile(self, volume):
        return self.folder / "state" / "volfiles" / volume["name"] / "client.vol"

    @contextlib.contextmanager
    def fuse(self, volume):
        """The volume's files, through a client with the volfile that block servers use."""
        point = self.folder / "fuse"
        point.mkdir(exist_ok=True)
        client = subprocess.Popen(["/usr/sbin/glusterfs", "-N", "-f", self.client_volfile(volume),
                                   "-l", self.folder / "log" / "fuse.log", point],
                                  env=dict(os.environ, **{NODE_MARK: self.mark}))
        try:
            wait_until("a FUSE mount", lambda: os.path.ismount(point))
            yield point
        finally:
            subprocess.run(["umount", point], check=False)
            client.terminate()
            client.wait(60)
