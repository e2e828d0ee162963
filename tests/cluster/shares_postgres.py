#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 400
"""PostgreSQL on a share: transfers between accounts while bricks are killed and come back, the whole of PostgreSQL killed,
then the machine that it ran on. Whatever was committed is there, once, and the accounts add up."""

import contextlib
import os
import pathlib
import pwd
import random
import signal
import stat
import subprocess
import sys
import tempfile
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import shares
from api import require, require_equal
from node import PATIENCE, Node, require_programs, require_root, skip, wait_until

USER = "postgres"
WRITERS = 2
ACCOUNTS, TELLERS = 100_000, 10  # what pgbench makes at scale 1
# PostgreSQL's defaults for durability, with checkpoints so frequent that they, too, meet a brick that dies.
SETTINGS = {"listen_addresses": "", "checkpoint_timeout": "30s", "shared_buffers": "16MB", "max_wal_size": "64MB",
            "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "log_checkpoints": "on"}


def programs():
    """The folder of PostgreSQL's own programs; Debian keeps them out of the path."""
    folders = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders or not (folders[-1] / "initdb").exists():
        skip("PostgreSQL is not installed")
    with contextlib.suppress(KeyError):
        pwd.getpwnam(USER)
        return folders[-1]
    return skip(f"there is no user {USER}")


def descendants(pid):
    """All processes below one, in no order."""
    children = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found = []
    rest = [pid]
    while rest:
        below = children.get(rest.pop(), [])
        found += below
        rest += below
    return found


def let_pass(folder):
    """Another user may reach what is below the folder, which tests make for root alone."""
    top = pathlib.Path(tempfile.gettempdir()).resolve()
    for path in [folder, *folder.parents]:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o001 or (path != top and top not in path.parents and path not in top.parents):
            continue
        path.chmod(mode | 0o011)


class Postgres:
    """One database folder, served to programs that reach its socket."""

    def __init__(self, node, bin):
        self.node, self.bin = node, bin
        self.socket = node.folder / "pg"
        self.socket.mkdir()
        os.chown(self.socket, pwd.getpwnam(USER).pw_uid, -1)
        self.process = None
        self.log = node.folder / "postgres.log"

    def run(self, program, *words, **more):
        done = subprocess.run([self.bin / program, *map(str, words)], user=USER, group=USER, extra_groups=[], cwd="/",
                              env=self.environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              timeout=3 * PATIENCE, **more)
        require(done.returncode == 0, f"{program}: exit {done.returncode}: {done.stdout[-1000:]}{done.stderr[-2000:]}")
        return done.stdout

    def environment(self):
        return self.node.environment(PGHOST=str(self.socket), PGDATABASE="postgres", PGUSER=USER, LC_ALL="C")

    def create(self, folder):
        folder.mkdir()
        os.chown(folder, pwd.getpwnam(USER).pw_uid, pwd.getpwnam(USER).pw_gid)
        self.run("initdb", "--pgdata", folder, "--auth=trust", "--data-checksums", "--encoding=UTF8", "--no-locale",
                 "--wal-segsize=4")

    def start(self, folder):
        settings = {**SETTINGS, "unix_socket_directories": self.socket}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.bin / "postgres", "-D", folder, *(f"--{name}={value}" for name, value in settings.items())],
                user=USER, group=USER, extra_groups=[], cwd="/", env=self.environment(), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log)
        wait_until("PostgreSQL answers", self.answers, 3 * PATIENCE)

    def answers(self):
        require(self.process.poll() is None, f"PostgreSQL ended: {self.log_tail()}")
        done = subprocess.run([self.bin / "pg_isready", "-q"], env=self.environment(), check=False)
        return done.returncode == 0

    def log_tail(self):
        return self.log.read_text(errors="replace")[-3000:]

    def kill(self):
        """kill -9 of every process at once: none sees another one die."""
        self.process.send_signal(signal.SIGSTOP)
        for pid in [*descendants(self.process.pid), self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def stop(self, number=signal.SIGINT):
        """SIGINT: with a checkpoint, SIGQUIT: without."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
            return self.process.wait(timeout=3 * PATIENCE)
        return 0

    def psql(self):
        return subprocess.Popen([self.bin / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1"], env=self.environment(),
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def ask(self, query):
        return self.run("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-c", query).strip()


TRANSFER = """BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + {delta} WHERE aid = {account};
UPDATE pgbench_tellers SET tbalance = tbalance + {delta} WHERE tid = {teller};
UPDATE pgbench_branches SET bbalance = bbalance + {delta} WHERE bid = 1;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime, filler)
    VALUES ({teller}, 1, {account}, {delta}, CURRENT_TIMESTAMP, '{name}');
COMMIT;
SELECT 'committed {name}';
"""


class Writer(threading.Thread):
    """Transfers, each told as committed before the next: pgbench's own, with a name for each."""

    def __init__(self, postgres, name):
        super().__init__()
        self.postgres, self.name_of_writer = postgres, name
        self.committed = 0
        self.error = None
        self.ended = threading.Event()

    def run(self):
        chance = random.Random(self.name_of_writer)
        with self.postgres.psql() as psql:
            # A psql whose server is gone ends by itself: its pipe breaks, or says no more.
            with contextlib.suppress(BrokenPipeError):
                while not self.ended.is_set():
                    name = f"{self.name_of_writer}-{self.committed}"
                    psql.stdin.write(TRANSFER.format(name=name, account=chance.randint(1, ACCOUNTS),
                                                     teller=chance.randint(1, TELLERS), delta=chance.randint(-5000, 5000)))
                    psql.stdin.flush()
                    if psql.stdout.readline().strip() != f"committed {name}":
                        break
                    self.committed += 1
                psql.stdin.close()
            if not self.ended.is_set():
                self.error = psql.stderr.read() or "psql ended"


class Load:
    """Writers, round after round; the ledger of what they were told."""

    def __init__(self, postgres):
        self.postgres = postgres
        self.rounds = 0
        self.all = []
        self.running = []

    @contextlib.contextmanager
    def __call__(self, survives=True):
        self.rounds += 1
        self.running = [Writer(self.postgres, f"r{self.rounds}w{i}") for i in range(WRITERS)]
        self.all += self.running
        for writer in self.running:
            writer.start()
        try:
            yield self
        finally:
            for writer in self.running:
                writer.ended.set()
            for writer in self.running:
                writer.join()
        errors = [writer.error for writer in self.running if writer.error]
        require(not survives or not errors, f"a transaction failed: {errors}; {self.postgres.log_tail()}")

    def committed(self):
        return sum(writer.committed for writer in self.running)

    def wait_more(self, count=20):
        """Each writer gets on from here."""
        wanted = [(writer, writer.committed + count) for writer in self.running]
        wait_until(f"each writer commits {count} more", lambda: all(
            writer.error or writer.committed >= number for writer, number in wanted), 3 * PATIENCE)
        require(not any(writer.error for writer in self.running), f"{[writer.error for writer in self.running]}")

    def check(self):
        """What was committed is there once; of what was under way when the server died, one transfer per writer at most."""
        there = self.postgres.ask("SELECT filler FROM pgbench_history").split()
        names = {name.strip() for name in there}
        require_equal(len(names), len(there), "the number of different transfers")
        told = {f"{writer.name_of_writer}-{i}" for writer in self.all for i in range(writer.committed)}
        under_way = {f"{writer.name_of_writer}-{writer.committed}" for writer in self.all}
        require(told <= names, f"committed and lost: {sorted(told - names)[:10]}")
        require(names <= told | under_way, f"never sent: {sorted(names - told - under_way)[:10]}")
        sums = self.postgres.ask("SELECT (SELECT sum(delta) FROM pgbench_history), (SELECT sum(abalance) FROM pgbench_accounts),"
                                 " (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT sum(bbalance) FROM pgbench_branches)")
        require_equal(len(set(sums.split("|"))), 1, f"the number of different totals ({sums})")
        require_equal(self.postgres.ask("SELECT count(*), count(DISTINCT aid) FROM pgbench_accounts"),
                      f"{ACCOUNTS}|{ACCOUNTS}", "the accounts")
        print(f"ok {len(told)} transfers are there", flush=True)


def kill_brick(node, index):
    """Not before everything is whole: one at a time is what three replicas bear."""
    node.wait_healed("v", 3 * PATIENCE)
    shares.wait_connected(node, "v")
    os.kill(node.brick_pids("v")[index], signal.SIGKILL)


def bricks_die(node, postgres, load, folder):
    postgres.start(folder)
    with load():
        load.wait_more()
        for index in (0, 2):
            kill_brick(node, index)
            load.wait_more()
        postgres.ask("CHECKPOINT")
        node.wait_healed("v", 3 * PATIENCE)
        load.wait_more()
    load.check()


def postgres_dies(node, postgres, load, folder):
    with load(survives=False):
        load.wait_more()
        kill_brick(node, 1)
        load.wait_more(5)
        postgres.kill()
    postgres.start(folder)
    load.check()


def machine_dies(node, postgres, load, point):
    """The database and the mount that it used are gone at once: only what reached the bricks counts."""
    with load(survives=False):
        load.wait_more()
        node.wait_healed("v", 3 * PATIENCE)
        client, = shares.clients(node)
        os.kill(client, signal.SIGKILL)
        postgres.kill()
    subprocess.run(["umount", "-l", point], check=True)
    with shares.mounted(node, "v/pg") as again:
        folder = again / "data"
        postgres.start(folder)
        load.check()
        with load():
            load.wait_more()
        load.check()
        postgres.run("pg_amcheck", "--install-missing", "--heapallindexed", "--parent-check", "--all")
        require_equal(postgres.stop(), 0, "PostgreSQL's exit status")
        postgres.run("pg_checksums", "--check", "--pgdata", folder)


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def same_on_all_bricks(node):
    node.wait_healed("v", 3 * PATIENCE)
    first, *others = (content(folder) for folder in shares.folders(node, "v", "pg"))
    for other in others:
        differing = sorted(name for name in first.keys() | other.keys() if first.get(name, 0) != other.get(name, 0))
        require(not differing, f"the bricks differ after all heals: {differing[:10]}")


def main():
    require_root()
    require_programs("glusterfs")
    bin = programs()
    if not os.path.exists("/dev/fuse"):
        skip("needs FUSE")
    with Node() as node:
        let_pass(node.folder)
        node.replica3("v", "1GiB")
        shares.create(node, "v/pg", "512MiB")
        postgres = Postgres(node, bin)
        load = Load(postgres)
        try:
            with shares.mounted(node, "v/pg") as point:
                postgres.create(point / "data")
                postgres.start(point / "data")
                postgres.run("pgbench", "--initialize", "--quiet", "--scale=1")
                print("ok database", flush=True)
                require_equal(postgres.stop(), 0, "PostgreSQL's exit status")
                bricks_die(node, postgres, load, point / "data")
                postgres_dies(node, postgres, load, point / "data")
                machine_dies(node, postgres, load, point)
        finally:
            # Its shared memory goes with an orderly end only.
            postgres.stop(signal.SIGQUIT)
        same_on_all_bricks(node)


if __name__ == "__main__":
    main()
