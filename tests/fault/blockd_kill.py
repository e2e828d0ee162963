#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 240
"""kill -9 of blockd while clients write and others create and delete: no I/O error, the same processes, nothing leaks."""

import http.client
import pathlib
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import node as cluster
from load import Load

LASTING = ("/glusterfsd", "/glusterfs", "/blockd-nbd")


class Churn(threading.Thread):
    """Creates, resizes, renames and deletes blocks with whatever daemon is there."""

    def __init__(self, node, name, rng):
        super().__init__(daemon=True)
        self.node, self.name, self.rng = node, name, rng
        self.ending = threading.Event()
        self.done = 0
        self.error = None

    def run(self):
        paths = [f"/v1/blocks/v/{self.name}{i}" for i in range(3)]
        calls = [
            lambda: ("POST", "/v1/blocks", {"volume": "v", "name": f"{self.name}{self.rng.randrange(3)}",
                                            "size": "1MiB", "hosts": ["node1"]}),
            lambda: ("PATCH", self.rng.choice(paths), {"size": f"{self.rng.randrange(1, 9)}MiB"}),
            lambda: ("POST", self.rng.choice(paths) + "/rename", {"name": f"{self.name}{self.rng.randrange(3)}"}),
            lambda: ("DELETE", self.rng.choice(paths), None),
        ]
        try:
            while not self.ending.is_set():
                method, path, body = self.rng.choice(calls)()
                try:
                    status, reply = self.node.request(method, f"{path}?wait={self.rng.randrange(2)}&force=1", body)
                except (OSError, http.client.HTTPException):
                    time.sleep(0.01)
                    continue
                # Another one has, or has not, that name: what else is there may not fail.
                if status >= 300 and status not in (400, 404, 409, 503):
                    raise AssertionError(f"{method} {path} was answered with {status}: {reply}")
                self.done += 1
        except BaseException as error:
            self.error = error

    def stop(self):
        self.ending.set()
        self.join(timeout=cluster.PATIENCE)
        if self.error or self.is_alive():
            raise AssertionError(f"the API's client {self.name} ended: {self.error}")


def data_path(node):
    """{pid: command line} of all but blockd."""
    return {pid: line for pid, line in node.processes().items() if pid != node.process.pid}


def main():
    cluster.require_root()
    rng = faults.chance()
    with cluster.Node() as node:
        node.replica3("v", "512MiB")
        node.create_block("v/b", "16MiB")
        churns = [Churn(node, name, rng) for name in ("x", "y")]
        for churn in churns:
            churn.start()
        with Load(node.unix_uri("v/b"), rng) as load:
            before = {pid: line for pid, line in data_path(node).items() if line.split()[0].endswith(LASTING)}
            for _ in range(faults.rounds(10)):
                time.sleep(rng.uniform(0, 1.5))
                node.kill()
                load.wait_progress()
                time.sleep(rng.uniform(0, 0.5))
                node.start()
                # Programs that blockd runs for a moment come and go.
                cluster.wait_until(f"{before} run, and nothing else", lambda: data_path(node) == before)
                load.wait_progress()
            for churn in churns:
                churn.stop()
            faults.require_nothing_leaked(node, "after the kills")
            node.create_block("v/c", "8MiB")
            node.delete_block("v/c")
            faults.require(load.connections == 1, f"the load connected {load.connections} times")
        load.verify()
        faults.require_same_replicas(node, "v/b", load)
        print(f"{load.answered} commands without an error, {sum(c.done for c in churns)} changes", flush=True)


if __name__ == "__main__":
    main()
