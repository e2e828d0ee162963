# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Foreign servers of a block, to compare with: each is a context that yields (address for the load, pid)."""

import contextlib
import os
import subprocess

import node as cluster

GLFS_PORT = 24007  # where tgt asks for volfiles: it takes no other
TGT_PORT = 3260
TARGET = "iqn.2026-01.test.blockd:bench"


@contextlib.contextmanager
def _running(argv, log_path, environment=None):
    # In a session of its own, as daemons are: the kernel may share processors out by session.
    with open(log_path, "w") as log:
        process = subprocess.Popen([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                   env={**os.environ, **(environment or {})}, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()  # tgtd hears nothing else while it has a target
        process.wait(timeout=30)


def _alive(process, log_path):
    if process.poll() is not None:
        raise RuntimeError(f"{process.args[0]}: {log_path.read_text().strip()}")
    return True


@contextlib.contextmanager
def _nbd(argv, socket):
    log_path = socket.with_suffix(".log")
    with _running(argv, log_path) as process:
        cluster.wait_until(f"{argv[0]} listens", lambda: _alive(process, log_path) and socket.exists())
        yield f"nbd+unix:///?socket={socket}", process.pid


def nbdkit(socket, *words):
    return _nbd(["nbdkit", "--foreground", "--exit-with-parent", "--threads=32", "--unix", socket, *words], socket)


def qemu_nbd(socket, file):
    return _nbd(["qemu-nbd", "--persistent", "--shared=0", "--format=raw", "--cache=writeback", "--socket", socket, file],
                socket)


class Tgt:
    """One tgtd; its logical units are files of volumes, by libgfapi. A thread for each request that may be in flight."""

    def __init__(self, folder):
        self.folder, self.log_path = folder, folder / "tgtd.log"
        self.environment = {"TGT_IPC_SOCKET": str(folder / "tgtd")}
        self.units = 0

    def admin(self, *words):
        """What tgtadm says; None while tgtd does not answer it."""
        done = subprocess.run(["tgtadm", "--lld", "iscsi", *map(str, words)], capture_output=True, text=True,
                              env={**os.environ, **self.environment}, timeout=60)
        return done.stdout if done.returncode == 0 else None

    def must(self, *words):
        if self.admin(*words) is None:
            raise RuntimeError(f"tgtadm {' '.join(map(str, words))}: {self.log_path.read_text().strip()[-600:]}")

    @contextlib.contextmanager
    def serving(self):
        with _running(["tgtd", "--foreground", "--nr_iothreads", "32", "--iscsi", f"portal=127.0.0.1:{TGT_PORT}"],
                      self.log_path, self.environment) as process:
            self.pid = process.pid
            cluster.wait_until("tgtd answers", lambda: _alive(process, self.log_path) and
                               self.admin("--op", "show", "--mode", "system") is not None)
            self.must("--op", "new", "--mode", "target", "--tid", 1, "--targetname", TARGET)
            self.must("--op", "bind", "--mode", "target", "--tid", 1, "--initiator-address", "ALL")
            yield self

    def unit(self, volume, file):
        """The address of a new logical unit."""
        self.units += 1
        self.must("--op", "new", "--mode", "logicalunit", "--tid", 1, "--lun", self.units, "--bstype", "glfs",
                  "--backing-store", f"{volume}@127.0.0.1:{file}",
                  "--bsopts", f"logfile={self.folder}/tgt-gfapi.log;loglevel=4")
        return f"iscsi://127.0.0.1:{TGT_PORT}/{TARGET}/{self.units}", self.pid
