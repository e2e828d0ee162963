# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""A real etcd of one member on free ports, with its data in memory where there is /dev/shm."""

import base64
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import urllib.request

import traces


def member_command(name, data, client, peer, members):
    """How one member is started; `client` and `peer` are its URLs, `members` has {name: peer URL} of all."""
    return ["etcd", "--name", name, "--data-dir", str(data), "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster-state", "new",
            "--initial-cluster", ",".join(f"{other}={url}" for other, url in members.items()), "--logger", "zap",
            "--log-level", "warn"]


class Etcd:
    def __init__(self):
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="etcd-", dir=base))
        self.ports = traces.Ports(2)
        self.port, self.peer_port = self.ports.range[:2]
        self.endpoint = f"127.0.0.1:{self.port}"
        self.process = None

    def settings(self, prefix="/blockd"):
        """The section [store] of a node that keeps its records here."""
        return {"backend": "etcd", "endpoints": self.endpoint, "prefix": prefix}

    def start(self):
        client, peer = f"http://{self.endpoint}", f"http://127.0.0.1:{self.peer_port}"
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(member_command("m0", self.folder / "data", client, peer, {"m0": peer}),
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        return self

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def call(self, path, **request):
        body = json.dumps(request).encode()
        with urllib.request.urlopen(f"http://{self.endpoint}{path}", body, timeout=30) as reply:
            return json.load(reply)

    def get(self, prefix):
        """{key: value} of everything that begins with a text."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        reply = self.call("/v3/kv/range", key=base64.b64encode(prefix.encode()).decode(),
                          range_end=base64.b64encode(end.encode()).decode())
        return {base64.b64decode(kv["key"]).decode(): base64.b64decode(kv.get("value", "")).decode()
                for kv in reply.get("kvs", [])}

    def put(self, key, value):
        self.call("/v3/kv/put", key=base64.b64encode(key.encode()).decode(),
                  value=base64.b64encode(value.encode()).decode())

    def delete(self, key):
        self.call("/v3/kv/deleterange", key=base64.b64encode(key.encode()).decode())

    def stop(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.ports.close()
