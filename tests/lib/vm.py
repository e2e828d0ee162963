# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Guests with Debian's own kernel, for what this machine's kernel cannot do: NBD, iSCSI, device-mapper, quotas, a power cut.

    vm.require()                                      # skips the test where there can be no guests
    with vm.Guest("one", disks={"a": "1GiB"}) as one: # boots, in seconds, to a shell
        print(one.run("uname", "-r"))                 # raises unless the exit status is 0
        one.sh("mkfs.xfs -q /dev/disk/by-id/virtio-a && mount /dev/disk/by-id/virtio-a /mnt")
        job = one.spawn("fio", ...)                   # job.wait(60) is its status, job.output its text so far
        one.power_off(); one.start()                  # the plug pulled, and put back: disks keep what reached them

    with vm.Network() as network:                     # several, on a network with this machine
        guests = [vm.Guest(f"node{i}", network=network) for i in (1, 2, 3)]
        with vm.started(*guests):                     # all boot at once
            guests[0].run("ping", "-c1", guests[1].address())
            guests[1].link(False)                     # the cable pulled; commands still reach the guest
            network.run("ping", "-c1", guests[0].address())  # from this machine

A guest has the root file system of tests/vm/build (the list of packages is there), read-only, and writes into memory, or,
with keep=True, onto a disk that is there again after power_off(). Over it lies the project's tree, at the path that it has here:
tests, and the programs in the build folder; `layers` are more folders, such as what `make install DESTDIR=` made. Without
systemd=True process 1 is a few lines of shell with udev; with it Debian's systemd boots as on any machine.

Everything is emulated: count on a fifth of this machine's speed, and less of it when several guests share it. Give one
processor to each when there are several, and 768 MiB unless more runs inside. A guest belongs to the thread that started it
and ends with it; QEMU has no other children. Needs root.
"""

import contextlib
import hashlib
import itertools
import json
import os
import pathlib
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

from node import BUILD, TOP, skip, wait_until

BOOT_SECONDS = 300  # on a machine that has much else to do
COMMAND_SECONDS = 300
QEMU = "qemu-system-x86_64"
# QEMU 7.2 emulates cmpxchg16b wrongly: guests panic. KVM is never used: machines of continuous integration seldom have a whole one.
MACHINE = ["-accel", "tcg,thread=multi", "-cpu", "max,la57=off,cx16=off", "-M", "pc", "-nodefaults", "-no-user-config",
           "-display", "none", "-no-reboot"]
KERNEL_WORDS = "console=ttyS0 quiet panic=-1 mitigations=off nokaslr"
DISKS = {"virtio": "virtio-blk-pci", "ata": "ide-hd", "nvme": "nvme", "scsi": "scsi-hd,bus=scsi.0"}
UNITS = {"K": 10, "M": 20, "G": 30}


# ---- Whether, and what to boot ----

def suite():
    """The code name of this machine's Debian, which is also the guests': programs built here run there. None elsewhere."""
    release = platform.freedesktop_os_release()
    return release.get("VERSION_CODENAME") if release.get("ID") == "debian" else None


def why_not():
    """The reason why there can be no guests here, or None."""
    if os.geteuid() != 0:
        return "needs root"
    if platform.machine() != "x86_64" or not suite():
        return "guests need Debian on amd64"
    for program in (QEMU, "mmdebstrap", "busybox", "lz4", "mke2fs", "depmod"):
        if not shutil.which(program):
            return f"{program} is not installed"
    if not os.path.exists("/dev/net/tun"):
        return "there is no /dev/net/tun"
    return None


def require():
    reason = why_not()
    if reason:
        skip(reason)


def boot_folder():
    """Where tests/vm/build puts what guests boot; the name says what that was made from."""
    key = hashlib.sha256((suite() or "").encode())
    for name in ("build", "guest/init"):
        key.update((TOP / "tests/vm" / name).read_bytes())
    cache = pathlib.Path(os.environ.get("BLOCKD_VM_CACHE", TOP / "build/vm"))
    return cache / key.hexdigest()[:16]


def built():
    folder = boot_folder()
    if not folder.exists():
        subprocess.run([TOP / "tests/vm/build"], check=True, stdin=subprocess.DEVNULL)
    return folder


def size_of(text):
    """Bytes of a number, or of a text such as 512MiB."""
    if isinstance(text, int):
        return text
    number = text.rstrip("BiKMG")
    unit = text[len(number):][:1]
    return int(number) << UNITS.get(unit, 0)


def make_file_system(image, size, folder=None):
    """An image file with ext4, which holds what is in the folder."""
    options = ["-d", str(folder)] if folder else []
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0", *options,
                    str(image), str(size >> 10) + "k"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def folder_image(image, folder):
    used = int(subprocess.run(["du", "-sk", "--apparent-size", str(folder)], check=True, stdout=subprocess.PIPE,
                              text=True).stdout.split()[0]) << 10
    make_file_system(image, 2 * used + (32 << 20), folder)


def copy_project(folder):
    """What tests need of the tree, below the folder at the path that it has here, and the unit of the agent."""
    folder.chmod(0o755)  # it will be the guest's root
    tree = folder / TOP.relative_to("/")
    ignore = shutil.ignore_patterns("__pycache__", "corpus")
    shutil.copytree(TOP / "tests", tree / "tests", ignore=ignore, symlinks=True)
    for name in ("bin", "xlators", "tests/lib"):
        if (BUILD / name).is_dir():
            shutil.copytree(BUILD / name, folder / (BUILD / name).relative_to("/"), ignore=ignore, symlinks=True)
    units = folder / "etc/systemd/system"
    (units / "sysinit.target.wants").mkdir(parents=True)
    # The tree may lie below /tmp, which a boot of systemd empties.
    agent = pathlib.Path("/usr/local/lib/blockd-tests/agent")
    (folder / agent.relative_to("/")).parent.mkdir(parents=True)
    shutil.copy(TOP / "tests/vm/guest/agent", folder / agent.relative_to("/"))
    (folder / "etc/tmpfiles.d").mkdir(parents=True)
    (folder / "etc/tmpfiles.d/tmp.conf").symlink_to("/dev/null")
    unit = (TOP / "tests/vm/guest/agent.service").read_text().replace("@AGENT@", str(agent))
    (units / "guest-agent.service").write_text(unit)
    (units / "sysinit.target.wants/guest-agent.service").symlink_to("../guest-agent.service")


def project_image(folder):
    """An image with copy_project(), made once in the folder."""
    image = folder / "project.img"
    if not image.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            copy_project(pathlib.Path(scratch))
            folder_image(image, scratch)
    return image


# ---- A network ----

class Network:
    """Ethernets, one a segment, in a network namespace of their own; this machine is 10.77.SEGMENT.254 on each.

    The namespace has no name: it goes with the last process in it, whatever way the test ends.
    """

    def __init__(self, segments=1):
        self.segments = segments
        self.members = 0
        self.holder = None

    def __enter__(self):
        self.holder = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"],
                                       stdin=subprocess.DEVNULL)
        try:
            own = os.readlink("/proc/self/ns/net")
            wait_until("a network namespace", lambda: os.readlink(f"/proc/{self.holder.pid}/ns/net") != own, pause=0.01)
            self.run("ip", "link", "set", "lo", "up")
            for segment in range(self.segments):
                self.run("ip", "link", "add", f"br{segment}", "type", "bridge")
                self.run("ip", "address", "add", f"10.77.{segment}.254/24", "dev", f"br{segment}")
                self.run("ip", "link", "set", f"br{segment}", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.holder.kill()
        self.holder.wait()

    def prefix(self):
        """What a command line begins with that is to run in the namespace."""
        return ["nsenter", "--target", str(self.holder.pid), "--net"]

    def run(self, *argv, check=True, **keywords):
        """What a program of this machine prints that runs in the namespace."""
        return subprocess.run([*self.prefix(), *map(str, argv)], check=check, stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **keywords).stdout

    def join(self):
        """The number of a new member, and its interfaces on this machine."""
        self.members += 1
        taps = [f"tap{self.members}.{segment}" for segment in range(self.segments)]
        for segment, tap in enumerate(taps):
            self.run("ip", "tuntap", "add", tap, "mode", "tap")
            self.run("ip", "link", "set", tap, "master", f"br{segment}", "up")
        return self.members, taps


# ---- Commands in a guest ----

class GuestGone(Exception):
    """The guest ended, or was switched off, while somebody waited for it."""


class CommandFailed(AssertionError):
    pass


class Job:
    """A command that runs in a guest."""

    def __init__(self, guest, name, argv, echo=False):
        self.guest, self.name, self.argv, self.echo = guest, name, argv, echo
        self.status = None
        self.parts = []
        self.ended = threading.Event()
        self.gone = False

    @property
    def output(self):
        """What it has printed so far, on both of its channels."""
        return "".join(self.parts)

    def add(self, text):
        self.parts.append(text)
        if self.echo:
            print(text, end="", flush=True)

    def wait(self, timeout=COMMAND_SECONDS):
        """The exit status, negative for a signal. When the time is up it is ended, and AssertionError raised."""
        if not self.ended.wait(timeout):
            self.kill()
            raise AssertionError(f"{self}: not within {timeout} s; printed so far:\n{self.output}")
        if self.gone:
            raise GuestGone(f"{self}: the guest is gone; the end of its console:\n{self.guest.console()[-3000:]}")
        return self.status

    def kill(self):
        """kill -9 of it and of its session."""
        self.guest.send(id=self.name, kill=True)

    def __str__(self):
        return f"{self.guest.name}: {' '.join(self.argv)}"


class Guest:
    """One machine. `with` starts it and waits until it takes commands; leaving ends it and removes its disks.

    disks     {serial: size, or path of an image}: /dev/disk/by-id/virtio-SERIAL, empty where it is a size
    buses     {serial: "virtio", "ata", "nvme" or "scsi"}, virtio for those not named; for ATA and SCSI the guest needs the
              modules ata_piix, virtio_scsi and sd_mod, which it loads by itself only with systemd
    layers    folders of this machine that lie over the root
    keep      whether what is written to the root is there again after power_off() and start(); up to 4 GiB
    """

    def __init__(self, name="guest", memory=768, cpus=1, disks=None, buses=None, layers=(), keep=False, systemd=False,
                 network=None, kernel_words=""):
        self.name, self.memory, self.cpus, self.keep, self.systemd = name, memory, cpus, keep, systemd
        self.boot = built()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="vm-"))
        self.network = network
        self.number, self.taps = network.join() if network else (0, [])
        self.kernel_words = kernel_words
        self.disks = {serial: self._disk(serial, disk) for serial, disk in (disks or {}).items()}
        self.buses = buses or {}
        self.layers = [project_image(self.folder)]
        for index, layer in enumerate(layers):
            image = self.folder / f"layer{index}.img"
            folder_image(image, layer)
            self.layers.append(image)
        if keep:
            make_file_system(self.folder / "state.img", 4 << 30)
        self.process = None
        self.boots = 0

    def _disk(self, serial, disk):
        if isinstance(disk, pathlib.Path):
            return disk
        image = self.folder / f"disk-{serial}.img"
        with open(image, "wb") as file:
            file.truncate(size_of(disk))
        return image

    # ---- Power ----

    def start(self):
        """Switches it on. Commands wait until it takes them; wait_ready() waits for nothing else."""
        self.boots += 1
        self.jobs, self.ids, self.lock = {}, itertools.count(1), threading.Lock()
        command = ["setpriv", "--pdeathsig", "KILL", *self._command()]
        if self.network:
            command = [*self.network.prefix(), *command]
        with open(self.folder / "qemu.log", "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.agent = self._connect("agent.sock")
        self.reader = threading.Thread(target=self._read, args=(self.agent, self.jobs), daemon=True)
        self.reader.start()
        return self

    def wait_ready(self, timeout=BOOT_SECONDS):
        self.run("true", timeout=timeout)
        for segment in range(len(self.taps)):
            self.sh(f"ip address add {self.address(segment)}/24 dev eth{segment} && ip link set eth{segment} up")
        return self

    def power_off(self):
        """Pulls the plug: nothing in the guest gets a chance to write anything any more."""
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()
            self.agent.close()
            self.reader.join()

    def remove(self):
        self.power_off()
        if not os.environ.get("BLOCKD_TEST_KEEP"):
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        try:
            return self.start().wait_ready()
        except BaseException:
            self._tell()
            self.remove()
            raise

    def __exit__(self, kind, error, trace):
        if kind is not None and not issubclass(kind, SystemExit):
            self._tell()
        self.remove()

    def _tell(self):
        with contextlib.suppress(OSError):
            lines = (self.console() + (self.folder / "qemu.log").read_text(errors="replace")).splitlines()
            print("\n".join([f"-- end of {self.name}'s console:", *lines[-30:]]), flush=True)

    def _command(self):
        def drive(serial, file, *words):
            options = ",".join([f"file={file}", "format=raw", "if=none", f"id=drive-{serial}", *words])
            device = DISKS[self.buses.get(serial, "virtio")]
            return ["-drive", options, "-device", f"{device},id=disk-{serial},drive=drive-{serial},serial={serial}"]

        words = [KERNEL_WORDS, f"hostname={self.name} systemd.hostname={self.name}", f"guest.layers={len(self.layers)}",
                 f"guest.state={'disk' if self.keep else 'tmpfs'}", self.kernel_words,
                 f"guest.init={'/sbin/init' if self.systemd else TOP / 'tests/vm/guest/start'}"]
        command = [QEMU, *MACHINE, "-m", str(self.memory), "-smp", str(self.cpus), "-name", self.name,
                   "-kernel", str(self.boot / "vmlinux"), "-initrd", str(self.boot / "initrd.cpio"), "-append", " ".join(words),
                   "-serial", f"file:{self.folder}/console.{self.boots}",
                   "-qmp", f"unix:{self.folder}/qmp.sock,server=on,wait=off",
                   "-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng",
                   "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=blockd.agent",
                   "-chardev", f"socket,id=agent,path={self.folder}/agent.sock,server=on,wait=off",
                   *(["-device", "virtio-scsi-pci,id=scsi"] if "scsi" in self.buses.values() else []),
                   *drive("root", self.boot / "root.img", "readonly=on")]
        for index, image in enumerate(self.layers):
            command += drive(f"layer{index}", image, "readonly=on")
        # This machine does not lose power: what QEMU has written is written, and waiting for its disk would only cost time.
        for serial, file in {**self.disks, **({"state": self.folder / "state.img"} if self.keep else {})}.items():
            command += drive(serial, file, "cache=unsafe", "discard=unmap")
        for segment, tap in enumerate(self.taps):
            command += ["-netdev", f"tap,id=net{segment},ifname={tap},script=no,downscript=no",
                        "-device", f"virtio-net-pci,netdev=net{segment},mac=52:54:00:77:{segment:02x}:{self.number:02x},romfile="]
        return command

    # ---- QEMU ----

    def _connect(self, name):
        path = str(self.folder / name)

        def connect():
            if self.process.poll() is not None:
                raise GuestGone(f"{QEMU} ended: {(self.folder / 'qemu.log').read_text(errors='replace')[-2000:]}")
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(path)
            except OSError:
                connection.close()
                return None
            return connection
        return wait_until(f"{QEMU} listens on {path}", connect, pause=0.02)

    def qmp(self, command, **arguments):
        """The answer of QEMU to a command of its machine protocol."""
        with self._connect("qmp.sock") as connection, connection.makefile("rw") as stream:
            stream.readline()
            for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                stream.write(json.dumps(request) + "\n")
                stream.flush()
                answer = {}
                while not {"return", "error"} & answer.keys():
                    answer = json.loads(stream.readline())
        if "error" in answer:
            raise AssertionError(f"{self.name}: {command}: {answer['error']['desc']}")
        return answer["return"]

    def link(self, up, segment=0):
        """Plugs the cable of a segment in, or out."""
        self.qmp("set_link", name=f"net{segment}", up=up)

    def address(self, segment=0):
        return f"10.77.{segment}.{self.number}"

    def console(self):
        """What the kernel and process 1 have said since the last start."""
        with contextlib.suppress(OSError):
            return (self.folder / f"console.{self.boots}").read_text(errors="replace")
        return ""

    # ---- Commands ----

    def send(self, **message):
        with self.lock:
            try:
                self.agent.sendall((json.dumps(message) + "\n").encode())
            except OSError:
                raise GuestGone(f"{self.name} is gone") from None

    def _read(self, agent, jobs):
        with contextlib.suppress(OSError), agent.makefile("rb") as stream:
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                message = json.loads(line)
                job = jobs[message["id"]]
                if "output" in message:
                    job.add(message["output"])
                else:
                    job.status = message["status"]
                    job.ended.set()
        for job in list(jobs.values()):
            if not job.ended.is_set():
                job.gone = True
                job.ended.set()

    def spawn(self, *argv, input="", environment=None, folder="/", echo=False):
        """Starts a command; a Job. With echo its output is printed here as it comes."""
        job = Job(self, next(self.ids), [str(a) for a in argv], echo)
        self.jobs[job.name] = job
        self.send(id=job.name, argv=job.argv, input=input, environment=environment or {}, folder=str(folder))
        return job

    def run(self, *argv, timeout=COMMAND_SECONDS, check=True, **keywords):
        """What a command prints, on both of its channels. It must succeed, or with check=False may fail."""
        job = self.spawn(*argv, **keywords)
        status = job.wait(timeout)
        if check and status != 0:
            raise CommandFailed(f"{job}: exit status {status}:\n{job.output}")
        return job.output

    def status(self, *argv, **keywords):
        """The exit status of a command."""
        timeout = keywords.pop("timeout", COMMAND_SECONDS)
        return self.spawn(*argv, **keywords).wait(timeout)

    def sh(self, script, **keywords):
        """What a shell script prints; it ends at the first command that fails."""
        return self.run("sh", "-euc", script, **keywords)

    def put(self, path, text):
        """Writes a file."""
        self.run("sh", "-euc", 'cat >"$1"', "sh", path, input=text)

    def wait_for(self, what, *argv, timeout=COMMAND_SECONDS, **keywords):
        """Repeats a command until it succeeds."""
        wait_until(f"{self.name}: {what}", lambda: self.status(*argv, **keywords) == 0, timeout, pause=0.2)


@contextlib.contextmanager
def started(*guests):
    """Several guests that boot at once."""
    with contextlib.ExitStack() as stack:
        for guest in guests:
            stack.callback(guest.remove)
        try:
            for guest in guests:
                guest.start()
            for guest in guests:
                guest.wait_ready()
            yield guests
        except Exception:
            for guest in guests:
                guest._tell()
            raise
