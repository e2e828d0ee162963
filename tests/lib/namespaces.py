# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Machines of a test cluster: network namespaces on one bridge, each with an address of its own, and what goes wrong between
them: a cable pulled, packets of one to another dropped, lost or slowed down.

No namespace has a name: each goes with the process that holds it, whatever way the test ends. Nothing of them is seen from
this machine's own network.
"""

import ipaddress
import os
import subprocess
import time

NETWORK = ipaddress.ip_network("10.99.0.0/16")
BRIDGE_NUMBER = 65_000  # of the switch, which is a machine without anything on it
PATIENCE = 10


def wait_other_namespace(pid):
    own = os.readlink("/proc/self/ns/net")
    deadline = time.monotonic() + PATIENCE
    while os.readlink(f"/proc/{pid}/ns/net") == own:
        if time.monotonic() > deadline:
            raise AssertionError("no network namespace could be made")
        time.sleep(0.005)


class Namespace:
    """One network namespace, held by a process of its own."""

    def __init__(self):
        self.holder = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"],
                                       stdin=subprocess.DEVNULL)
        try:
            wait_other_namespace(self.holder.pid)
            self.run("ip", "link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise

    def close(self):
        self.holder.kill()
        self.holder.wait()

    def prefix(self):
        """What a command line begins with that is to run in the namespace."""
        return ["nsenter", "--target", str(self.holder.pid), "--net"]

    def run(self, *argv, check=True, **keywords):
        """What a program prints that runs in the namespace."""
        done = subprocess.run([*self.prefix(), *map(str, argv)], stdin=subprocess.DEVNULL, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, **keywords)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, argv))}: exit {done.returncode}: {done.stdout.strip()}")
        return done.stdout


class Machine(Namespace):
    """A namespace with one interface, eth0, on a switch."""

    TABLE = "faults"

    def __init__(self, switch, number):
        super().__init__()
        self.switch, self.number = switch, number
        self.address = str(NETWORK[number])
        self.port = f"port{number}"
        try:
            switch.run("ip", "link", "add", self.port, "type", "veth", "peer", "name", "eth0", "netns", self.holder.pid)
            switch.run("ip", "link", "set", self.port, "master", "br0", "up")
            self.run("ip", "address", "add", f"{self.address}/{NETWORK.prefixlen}", "dev", "eth0")
            self.run("ip", "link", "set", "eth0", "up")
        except BaseException:
            self.close()
            raise

    # ---- What goes wrong ----

    def unplug(self):
        """The cable is out: nobody is told, connections hang."""
        self.switch.run("ip", "link", "set", self.port, "down")

    def plug(self):
        self.switch.run("ip", "link", "set", self.port, "up")

    def _rule(self, *words):
        self.run("nft", "add", "table", "inet", self.TABLE)
        self.run("nft", "add", "chain", "inet", self.TABLE, "in", "{ type filter hook input priority 0; }")
        self.run("nft", "add", "rule", "inet", self.TABLE, *words)

    def drop(self, other, share=1.0):
        """Packets from another machine vanish: all of them, or this share at random."""
        chance = [] if share >= 1 else ["numgen", "random", "mod", "1000", "<", round(share * 1000)]
        self._rule("in", "ip", "saddr", other.address, *chance, "drop")

    def slow(self, rate):
        """What the machine sends goes at this rate, such as "1mbit"; queued for 200 ms, then dropped."""
        self.run("tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", rate, "burst", "32kb", "latency", "200ms")

    def mend(self):
        """No fault of this machine's is left."""
        self.plug()
        self.run("nft", "delete", "table", "inet", self.TABLE, check=False)
        self.run("tc", "qdisc", "del", "dev", "eth0", "root", check=False)


class Fabric:
    """A switch and the machines on it: `with Fabric() as fabric: a = fabric.machine()`."""

    def __init__(self):
        self.switch = None
        self.machines = []

    def __enter__(self):
        self.switch = Namespace()
        try:
            self.switch.run("ip", "link", "add", "br0", "type", "bridge")
            self.switch.run("ip", "address", "add", f"{NETWORK[BRIDGE_NUMBER]}/{NETWORK.prefixlen}", "dev", "br0")
            self.switch.run("ip", "link", "set", "br0", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for machine in self.machines:
            machine.close()
        if self.switch:
            self.switch.close()

    def machine(self):
        made = Machine(self.switch, len(self.machines) + 1)
        self.machines.append(made)
        return made

    def partition(self, *groups):
        """Machines of different groups hear nothing of each other; those in no group hear all."""
        for group in groups:
            for other in groups:
                if other is group:
                    continue
                for machine in group:
                    for far in other:
                        machine.drop(far)

    def mend(self):
        for machine in self.machines:
            machine.mend()
