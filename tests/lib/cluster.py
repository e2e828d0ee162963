# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""A cluster in tests: machines in network namespaces, an etcd on the first three, a blockd on each, clients beside them."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

from etcd import member_command
from namespaces import Fabric
from node import NODE_MARK, Node, require_programs, wait_until

ETCD_PORT, PEER_PORT = 2379, 2380
MEMBERS = 3


class Member:
    """One member of etcd; its data stays over stop and start."""

    def __init__(self, machine, name, folder, members, mark):
        self.machine, self.name, self.folder, self.mark = machine, name, folder, mark
        self.endpoint = f"{machine.address}:{ETCD_PORT}"
        self.url = f"http://{self.endpoint}"
        self.argv = member_command(name, folder / "data", self.url, self.peer_url(machine),
                                   {other: self.peer_url(where) for other, where in members})
        self.process = None

    @staticmethod
    def peer_url(machine):
        return f"http://{machine.address}:{PEER_PORT}"

    def start(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "etcd.log", "ab") as log:
            self.process = subprocess.Popen([*self.machine.prefix(), *self.argv], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=dict(os.environ, **{NODE_MARK: self.mark}))

    def send(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.send(signal.SIGKILL)
        self.process.wait()

    def answers(self):
        done = subprocess.run([*self.machine.prefix(), "etcdctl", "--endpoints", self.url, "endpoint", "health"],
                              env=dict(os.environ, ETCDCTL_API="3"), capture_output=True)
        return done.returncode == 0


class ClusterNode(Node):
    """A blockd on a machine of its own."""

    def __init__(self, machine, name, endpoints, settings=None):
        self.machine = machine
        super().__init__(name, {
            "node": {"address": machine.address}, "nbd": {"listen": machine.address, "plain-anywhere": "yes"}})
        self.configure({"store": {"backend": "etcd", "endpoints": endpoints}})
        self.configure(settings or {})
        self.prefix = machine.prefix()


class Cluster:
    """`with Cluster(3) as cluster:` all nodes are ready, and know each other."""

    def __init__(self, count=3, settings=None):
        self.count, self.settings = count, settings
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="c-"))
        self.mark = os.urandom(8).hex()
        self.fabric = Fabric()
        self.nodes, self.etcds = [], []

    def __enter__(self):
        require_programs("etcd", "etcdctl", "nft", "nsenter")
        self.stack = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
            stack.enter_context(self.fabric)
            machines = [self.fabric.machine() for _ in range(self.count)]
            members = [(f"node{i + 1}", machine) for i, machine in enumerate(machines[:MEMBERS])]
            self.etcds = [Member(machine, name, self.folder / name, members, self.mark) for name, machine in members]
            for etcd in self.etcds:
                stack.callback(self._end, etcd)
                etcd.start()
            wait_until("etcd answers", lambda: all(etcd.answers() for etcd in self.etcds))
            endpoints = ",".join(etcd.endpoint for etcd in self.etcds)
            self.nodes = [ClusterNode(machine, f"node{i + 1}", endpoints, self.settings)
                          for i, machine in enumerate(machines)]
            for node in self.nodes:
                stack.callback(node.clean)
                node.start(wait=False)
            for node in self.nodes:
                node.wait_ready()
            self.stack = stack.pop_all()
        return self

    @staticmethod
    def _end(etcd):
        if etcd.process and etcd.process.poll() is None:
            etcd.send(signal.SIGCONT)
            etcd.kill()

    def __exit__(self, kind, error, trace):
        with self.stack:
            if kind is None:
                self.fabric.mend()
                for node in reversed(self.nodes):
                    node.stop()
            elif kind is not SystemExit:
                for node in self.nodes:
                    print(f"-- end of {node.name}'s log:\n{node.log_tail()}", flush=True)

    def client(self):
        """A machine that runs no blockd."""
        return self.fabric.machine()
