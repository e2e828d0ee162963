# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""A blockd-nbd of its own on fixture bricks: configuration, grants written by hand, images made through libgfapi."""
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

from bricks import Bricks, free_port, wait_until

BUILD = pathlib.Path(os.environ.get("BLOCKD_BUILD", pathlib.Path(__file__).resolve().parents[2] / "build")).resolve()
MIB = 1 << 20


def skip(reason):
    print(reason)
    sys.exit(77)


def need_root():
    if os.geteuid() != 0:
        skip("needs root: glusterfsd does")
    if not shutil.which("glusterfsd"):
        skip("needs glusterfsd")


def create_image(volfile, path, size, log="/dev/null"):
    """Makes a file of a volume, in a process of its own: gluster's threads do not belong into a test."""
    script = ("import ctypes, sys\n"
              "g = ctypes.CDLL('libgfapi.so.0', use_errno=True)\n"
              "for f in (g.glfs_new, g.glfs_creat): f.restype = ctypes.c_void_p\n"
              "fs = ctypes.c_void_p(g.glfs_new(b'fixture'))\n"
              "volfile, path, size, log = sys.argv[1].encode(), sys.argv[2].encode(), int(sys.argv[3]), sys.argv[4].encode()\n"
              "assert g.glfs_set_volfile(fs, volfile) == 0\n"
              "g.glfs_set_logging(fs, log, 5)\n"
              "assert g.glfs_init(fs) == 0, 'no connection'\n"
              "g.glfs_mkdir(fs, path.rsplit(b'/', 1)[0], 0o700)\n"
              "fd = ctypes.c_void_p(g.glfs_creat(fs, path, 0o2, 0o600))\n"
              "assert fd.value, ctypes.get_errno()\n"
              "assert g.glfs_ftruncate(fd, ctypes.c_longlong(size), None, None) == 0, ctypes.get_errno()\n"
              "g.glfs_close(fd)\n"
              "import os; os._exit(0)  # glfs_fini() takes ten seconds\n")
    subprocess.run([sys.executable, "-c", script, volfile, path, str(size), log], check=True, timeout=60)


class UnixHTTP(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class NbdServer:
    def __init__(self, folder, volfile, volume="testvol", settings="", start=True):
        self.folder, self.volfile, self.volume = os.path.abspath(folder), volfile, volume
        os.makedirs(self.folder, exist_ok=True)
        self.run_dir = os.path.join(self.folder, "run")
        self.port = free_port()
        self.config = os.path.join(self.folder, "blockd.conf")
        self.socket = os.path.join(self.run_dir, "nbd.sock")
        self.process = None
        self.configure(settings)
        if start:
            self.start()

    def configure(self, settings):
        with open(self.config, "w", encoding="ascii") as file:
            file.write(f"[daemon]\nrun-dir = {self.run_dir}\nstate-dir = {self.folder}/state\n"
                       f"log-dir = {self.folder}/log\ngroup =\n[nbd]\nport = {self.port}\n{settings}")

    def spawn(self, **keywords):
        return subprocess.Popen([BUILD / "bin/blockd-nbd", "--config", self.config], stdin=subprocess.DEVNULL, **keywords)

    def start(self):
        self.log = open(os.path.join(self.folder, "blockd-nbd.log"), "ab")
        self.process = self.spawn(stderr=self.log)
        wait_until(self.answers, "blockd-nbd")

    def answers(self):
        assert self.process.poll() is None, self.log_text()
        try:
            return self.http("GET", "/exports")[0] == 200
        except OSError:
            return False

    def log_text(self):
        return pathlib.Path(self.folder, "blockd-nbd.log").read_text(encoding="utf-8")

    def http(self, method, path):
        connection = UnixHTTP(os.path.join(self.run_dir, "nbd-control.sock"))
        try:
            connection.request(method, path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def exports(self):
        return {export["name"]: export for export in json.loads(self.http("GET", "/exports")[1])["exports"]}

    def sync(self):
        status, text = self.http("POST", "/sync")
        assert status == 200, text

    def grant_path(self, block):
        return os.path.join(self.run_dir, "grants", self.volume, f"{block}.json")

    def grant(self, block, size, create=True, **changes):
        """Writes a grant as blockd does, by rename; and makes the image unless told not to."""
        grant = {"volume": self.volume, "block": block, "gbid": f"gbid-{block}", "file": f"/block-store/{block}",
                 "volfile": self.volfile, "size": size, "block_size": 512, "read_only": False, "epoch": 0}
        grant.update(changes)
        if create:
            create_image(grant["volfile"], grant["file"], size)
        path = self.grant_path(block)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(f"{path}.tmp", "w", encoding="ascii") as file:
            json.dump(grant, file)
        os.rename(f"{path}.tmp", path)
        return f"{self.volume}/{block}"

    def revoke(self, block):
        os.unlink(self.grant_path(block))

    def uri(self, block):
        return f"nbd://127.0.0.1:{self.port}/{self.volume}/{block}"

    def unix_uri(self, block):
        return f"nbd+unix:///{self.volume}/{block}?socket={self.socket}"

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process = None

    def stop(self, seconds=30):
        """SIGTERM, and what the process says by its end: a sanitizer's verdict too."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=seconds)
        self.process = None
        assert status == 0, f"blockd-nbd ended with {status}:\n{self.log_text()}"

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.stop()
        elif self.process is not None:
            print(self.log_text())
            self.kill()


class Fixture:
    """Bricks, a server and a scratch folder, cleaned up whatever happens."""

    def __init__(self, count=1, settings="", **bricks):
        need_root()
        self.count, self.settings, self.options = count, settings, bricks

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="nbd-")
        self.bricks = self.server = None
        try:
            self.bricks = Bricks(f"{self.folder}/bricks", self.count, **self.options)
            self.bricks.__enter__()
            self.server = NbdServer(f"{self.folder}/server", self.bricks.client_volfile, settings=self.settings)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *error):
        try:
            if self.server:
                self.server.__exit__(*error)
        finally:
            if self.server and self.server.process:
                self.server.kill()
            if self.bricks:
                self.bricks.stop()
            shutil.rmtree(self.folder, ignore_errors=True)
