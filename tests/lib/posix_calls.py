# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""What programs do with files, operation by operation, in whatever file system a folder is of: outcomes() says what came
of each, so that one file system can be compared with another. Needs root; parts are done as a user without rights."""

import contextlib
import ctypes
import errno
import fcntl
import json
import mmap
import os
import socket
import stat
import traceback

USER, GROUP, OTHER_GROUP = 61001, 61002, 61003  # nobody has them: numbers are all that files know
LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
KIB = 1 << 10

CASES = []


def case(function):
    CASES.append(function)
    return function


class Probe:
    """Calls and what came of them, in the order in which they were made."""

    def __init__(self, name):
        self.name, self.results = name, {}

    def note(self, what, value):
        key = f"{self.name}: {what}"
        if key in self.results:
            raise RuntimeError(f"two operations are called {key}")
        self.results[key] = repr(value)

    def do(self, what, call, *arguments, **keywords):
        """The call's result; None when it is refused, whose errno is the outcome then."""
        try:
            value = call(*arguments, **keywords)
        except OSError as error:
            key = f"{self.name}: {what}"
            if key in self.results:
                raise RuntimeError(f"two operations are called {key}") from error
            self.results[key] = errno.errorcode[error.errno]
            return None
        self.note(what, value)
        return value

    def fd(self, what, path, flags, mode=0o666):
        """As do(), for a descriptor, whose number means nothing."""
        numbers = []
        self.do(what, lambda: numbers.append(os.open(path, flags, mode)))
        return numbers[0] if numbers else None

    def opens(self, what, path, flags, mode=0o666):
        fd = self.fd(what, path, flags, mode)
        if fd is not None:
            os.close(fd)

    def elsewhere(self, function, uid=0, gid=0, groups=()):
        """function(probe) in another process, which may be another user's; its outcomes are among these."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            status = 1
            with contextlib.suppress(BaseException):
                try:
                    os.setgroups(groups)
                    os.setresgid(gid, gid, gid)
                    os.setresuid(uid, uid, uid)
                    probe = Probe(self.name)
                    function(probe)
                    with open(writing, "w") as file:
                        json.dump(probe.results, file)
                    status = 0
                except BaseException:
                    traceback.print_exc()
            os._exit(status)
        os.close(writing)
        with open(reading) as file:
            text = file.read()
        if os.waitpid(pid, 0)[1] != 0:
            raise AssertionError(f"{self.name}: the other process failed")
        both = self.results.keys() & json.loads(text).keys()
        if both:
            raise RuntimeError(f"two operations are called {both}")
        self.results.update(json.loads(text))

    def as_user(self, function):
        self.elsewhere(function, USER, GROUP)


def checked(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def write(path, data=b"", mode=None):
    with open(path, "wb") as file:
        file.write(data)
    if mode is not None:
        os.chmod(path, mode)


def read(path):
    with open(path, "rb") as file:
        return file.read()


@contextlib.contextmanager
def opened(path, flags=os.O_RDWR):
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


# ---- Open, read and write ----

@case
def opening(p):
    write("f", b"text")
    os.mkdir("d")
    os.symlink("f", "l")
    os.symlink("none", "dangling")
    os.mkfifo("fifo")
    exclusive = os.O_CREAT | os.O_EXCL | os.O_RDWR
    for name in ("f", "d", "l", "dangling", "fifo", "new", "no/where", "f/under"):
        p.opens(f"exclusive {name}", name, exclusive)
    for name in ("f", "d", "l", "dangling", "f/", "d/", "none", "none/"):
        p.opens(f"read {name}", name, os.O_RDONLY)
        p.opens(f"write {name}", name, os.O_WRONLY)
        p.opens(f"no link {name}", name, os.O_RDONLY | os.O_NOFOLLOW)
        p.opens(f"folder {name}", name, os.O_RDONLY | os.O_DIRECTORY)
        p.opens(f"path {name}", name, os.O_PATH | os.O_NOFOLLOW)
    p.opens("create a folder's name", "d", os.O_CREAT | os.O_RDWR)
    p.opens("create below a link", "dangling", os.O_CREAT | os.O_RDWR)
    p.do("what that made", lambda: sorted(os.listdir(".")))
    p.opens("create with a slash", "slash/", os.O_CREAT | os.O_RDWR)
    p.opens("a pipe nobody reads", "fifo", os.O_WRONLY | os.O_NONBLOCK)
    p.opens("without a name", ".", os.O_TMPFILE | os.O_RDWR)
    for mask in (0o000, 0o027, 0o777):
        before = os.umask(mask)
        os.close(os.open(f"masked-{mask:o}", os.O_CREAT | os.O_RDWR, 0o6777))
        os.mkdir(f"masked-folder-{mask:o}", 0o3777)
        os.umask(before)
        p.note(f"mode under {mask:o}", oct(os.stat(f"masked-{mask:o}").st_mode))
        p.note(f"folder's mode under {mask:o}", oct(os.stat(f"masked-folder-{mask:o}").st_mode))


@case
def reading_and_writing(p):
    with opened("f", os.O_RDWR | os.O_CREAT) as fd:
        p.do("write", os.write, fd, b"0123456789")
        p.do("nothing", os.write, fd, b"")
        p.do("at an end", os.pread, fd, 10, 10)
        p.do("past the end", os.pread, fd, 10, 10000)
        p.do("over the end", os.pread, fd, 10, 5)
        p.do("several", os.pwritev, fd, [b"ab", b"cd"], 3)
        p.do("of several", lambda: [bytes(b) for b in [bytearray(2), bytearray(9)] if os.preadv(fd, [b], 3)])
        p.do("before the start", os.lseek, fd, -1, os.SEEK_SET)
        p.do("far away", os.lseek, fd, 1 << 40, os.SEEK_SET)
        p.do("there", os.read, fd, 10)
        p.do("negative", os.pread, fd, 10, -1)
    with opened("f", os.O_RDONLY) as fd:
        p.do("write what is read", os.write, fd, b"x")
    with opened("f", os.O_WRONLY) as fd:
        p.do("read what is written", os.read, fd, 1)
        p.do("fsync", os.fsync, fd)
        p.do("fdatasync", os.fdatasync, fd)
    with opened(".", os.O_RDONLY) as fd:
        p.do("fsync of a folder", os.fsync, fd)
        p.do("read of a folder", os.read, fd, 1)
    with opened("f", os.O_WRONLY | os.O_APPEND) as fd:
        p.do("append", os.write, fd, b"end")
        p.do("place after an append", os.lseek, fd, 0, os.SEEK_CUR)
        p.do("append elsewhere", os.pwrite, fd, b"!", 0)
    p.do("all of it", read, "f")
    for flags, name in ((os.O_TRUNC | os.O_WRONLY, "writing"), (os.O_TRUNC | os.O_RDWR, "both")):
        write("t", b"text")
        os.close(os.open("t", flags))
        p.note(f"size after O_TRUNC, {name}", os.stat("t").st_size)
    big = bytes(range(256)) * 4097
    write("big", big)
    p.note("a big file", read("big") == big)
    with opened("big", os.O_RDONLY) as source, opened("copy", os.O_RDWR | os.O_CREAT) as target:
        p.do("sendfile", os.sendfile, target, source, 100, 5000)
        p.do("copy_file_range", os.copy_file_range, source, target, 5000, 0, 10)
    p.note("a copy", read("copy") == big[100:110] + big[:5000])
    with opened("direct", os.O_RDWR | os.O_CREAT | os.O_DIRECT) as fd, mmap.mmap(-1, 8192) as aligned:
        aligned[:] = b"d" * 8192
        p.do("direct write", os.pwrite, fd, aligned, 4096)
        p.do("direct read", os.preadv, fd, [aligned], 0)
        p.note("a hole and data", (aligned[:4096].count(0), aligned[4096:].count(b"d"[0])))


@case
def appending(p):
    """Two processes, each with a descriptor of its own: no line is lost or torn."""
    write("log")

    def append(letter):
        with opened("log", os.O_WRONLY | os.O_APPEND) as fd:
            for i in range(300):
                os.write(fd, b"%c%06d" % (letter, i) + bytes([letter]) * 93)

    pids = []
    for letter in b"ab":
        pids.append(os.fork())
        if pids[-1] == 0:
            with contextlib.suppress(BaseException):
                append(letter)
                os._exit(0)
            os._exit(1)
    p.note("writers", [os.waitpid(pid, 0)[1] for pid in pids])
    data = read("log")
    records = [data[i:i + 100] for i in range(0, len(data), 100)]
    for letter in b"ab":
        wanted = [b"%c%06d" % (letter, i) + bytes([letter]) * 93 for i in range(300)]
        p.note(f"in order {letter:c}", [r for r in records if r[0] == letter] == wanted)
    p.note("size", len(data))


# ---- Names ----

KINDS = {
    "file": lambda name: write(name, name.encode()),
    "folder": os.mkdir,
    "full": lambda name: (os.mkdir(name), write(f"{name}/in")),
    "link": lambda name: os.symlink("elsewhere", name),
    "pipe": os.mkfifo,
    "none": lambda name: None,
}


@case
def renaming(p):
    for one, make in KINDS.items():
        for other, make_other in KINDS.items():
            os.mkdir(f"{one}-{other}")
            os.chdir(f"{one}-{other}")
            make("a")
            make_other("b")
            p.do(f"{one} over {other}", os.rename, "a", "b")
            p.note(f"after {one} over {other}", sorted((e.name, stat.filemode(e.stat(follow_symlinks=False).st_mode))
                                                       for e in os.scandir(".")))
            os.chdir("..")
    write("x", b"x")
    os.link("x", "y")
    p.do("over another name of the same", os.rename, "x", "y")
    p.note("both stay", sorted(name for name in os.listdir(".") if name in "xy"))
    p.do("to itself", os.rename, "x", "x")
    os.makedirs("d/e")
    p.do("below itself", os.rename, "d", "d/e/f")
    p.do("over what holds it", os.rename, "d/e", "d")
    p.do("dot", os.rename, "d/.", "z")
    p.do("to dot", os.rename, "x", "d/.")
    p.do("a file with a slash", os.rename, "x", "z/")
    p.do("a folder with a slash", os.rename, "d", "z/")
    p.do("below a file", os.rename, "y", "x/y")
    with opened("x") as fd:
        os.rename("x", "z/moved")
        os.rename("z", "zz")
        os.pwrite(fd, b"later", 0)
        p.do("an open file in a renamed folder", read, "zz/moved")
    for flag, name in ((1, "no replace"), (2, "exchange")):
        write(f"one-{flag}", b"1")
        write(f"two-{flag}", b"2")
        p.do(f"{name}", lambda f=flag: checked(LIBC.renameat2(AT_FDCWD, b"one-%d" % f, AT_FDCWD, b"two-%d" % f, f)))
        p.do(f"{name} where nothing is", lambda f=flag: checked(
            LIBC.renameat2(AT_FDCWD, b"one-%d" % f, AT_FDCWD, b"three-%d" % f, f)))


@case
def linking(p):
    write("f", b"text")
    os.mkdir("d")
    os.symlink("f", "l")
    os.symlink("none", "dangling")
    os.mkfifo("pipe")

    def count(path):
        return os.lstat(path).st_nlink

    for name in ("f", "d", "l", "dangling", "pipe", "none", "f/x"):
        p.do(f"link to {name}", os.link, name, f"to-{name.replace('/', '-')}", follow_symlinks=False)
    p.do("over a file", os.link, "f", "l")
    p.do("over a folder", os.link, "f", "d")
    p.do("into a folder", os.link, "f", "d/f")
    p.note("names", [(name, count(name)) for name in ("f", "l", "pipe", "d/f")])
    p.note("the same file", os.path.samefile("f", "d/f"))
    with opened("f") as fd:
        for name in ("f", "to-f", "d/f"):
            os.unlink(name)
            p.note(f"names without {name}", os.fstat(fd).st_nlink)
        os.pwrite(fd, b"more", 4)
        p.do("what has no name", os.pread, fd, 100, 0)
        p.do("a name for it again", lambda: os.link(f"/proc/self/fd/{fd}", "again", follow_symlinks=True))
        p.do("its mode", os.fchmod, fd, 0o600)
        p.do("its size", os.ftruncate, fd, 2)
        p.note("its size then", os.fstat(fd).st_size)
    os.mkdir("n")
    before = count("n")
    os.mkdir("n/a")
    os.mkdir("n/b")
    write("n/file")
    p.note("a folder's names", (before, count("n")))
    os.rmdir("n/a")
    os.rename("n/b", "b")
    p.note("a folder's names later", count("n"))


@case
def removing(p):
    for kind, make in KINDS.items():
        for verb, call in (("unlink", os.unlink), ("rmdir", os.rmdir)):
            make(f"{kind}-{verb}")
            p.do(f"{verb} {kind}", call, f"{kind}-{verb}")
    os.makedirs("d/e")
    p.do("rmdir dot", os.rmdir, "d/.")
    p.do("rmdir dot dot", os.rmdir, "d/e/..")
    p.do("unlink with a slash", os.unlink, "file-rmdir/")
    p.do("below a file", os.unlink, "file-rmdir/x")
    os.symlink("d", "to-d")
    p.do("rmdir a link", os.rmdir, "to-d")
    p.do("rmdir a link with a slash", os.rmdir, "to-d/")
    for name in ("d", "to-d", "file-rmdir", "no/where", "new", "slash/"):
        p.do(f"mkdir {name}", os.mkdir, name)
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir("../gone")
    p.opens("create where nothing is", "x", os.O_CREAT | os.O_RDWR)
    p.do("list where nothing is", os.listdir, ".")
    os.chdir("..")


@case
def symlinks(p):
    write("f", b"text")
    for name, target in (("l", "f"), ("dangling", "none"), ("self", "self"), ("a", "b"), ("b", "a"), ("dot", "."),
                         ("long", "x" * 1023), ("slashes", "//f//"), ("bytes", b"\xff\xfe\n")):
        p.do(f"make {name}", os.symlink, target, name)
        p.do(f"read {name}", os.readlink, os.fsencode(name))
        p.do(f"size of {name}", lambda n=name: os.lstat(n).st_size)
        p.do(f"through {name}", lambda n=name: os.stat(n).st_size and None)
    for name, target in (("empty", ""), ("longer", "x" * 1024), ("longest", "x" * 4096), ("f", "elsewhere")):
        p.do(f"make {name}", os.symlink, target, name)
    p.do("readlink of a file", os.readlink, "f")
    p.do("mode through a link", os.chmod, "l", 0o600)
    p.note("the file's mode", oct(os.stat("f").st_mode))
    p.do("owner of a link", os.lchown, "l", USER, GROUP)
    p.note("owners", ((os.lstat("l").st_uid, os.lstat("l").st_gid), os.stat("f").st_uid))
    chain = "f"
    for i in range(41):
        os.symlink(chain, f"chain-{i}")
        chain = f"chain-{i}"
    p.do("40 links", lambda: os.stat("chain-39").st_size)
    p.do("41 links", lambda: os.stat("chain-40").st_size)


@case
def names(p):
    for what, name in (("255", b"n" * 255), ("256", b"n" * 256), ("255 in UTF-8", "ä".encode() * 127 + b"a"), ("bytes", b"\xff\x01\n"),
                       ("spaces", b"  "), ("backslash", b"a\\b"), ("glusterfs's folder", b".glusterfs"), ("hyphen", b"-"),
                       ("dots", b"..."), ("quota's", b".trashcan"), ("percent", b"%s%n")):
        p.do(f"create {what}", write, name, b"x")
        p.do(f"rename {what}", lambda n=name: (os.rename(n, n[:-1] + b"2"), os.rename(n[:-1] + b"2", n)) and None)
        p.do(f"stat {what}", lambda n=name: os.stat(n).st_size)
        p.do(f"folder {what}", lambda n=name: os.mkdir(n[:-1] + b"d"))
    p.note("list", sorted(os.listdir(b".")))
    p.note("longest name", os.statvfs(".").f_namemax)
    part = "p" * 200
    with opened(".", os.O_RDONLY) as top:
        for depth in range(1, 26):
            if depth == 15:
                p.do("a file 15 folders deep", write, "f", b"deep")
            try:
                os.mkdir(part)
                os.chdir(part)
            except OSError as error:
                p.note("25 folders within folders", errno.errorcode[error.errno])
                break
        else:
            p.note("25 folders within folders", "made")
        os.fchdir(top)
    p.do("a path of 3000", lambda: stat.filemode(os.stat("/".join([part] * 15)).st_mode))
    p.do("a path that is too long", os.stat, "/".join([part] * 25))


@case
def listing(p):
    os.mkdir("d")
    old = {f"old-{i:04}" for i in range(400)}
    for name in old:
        write(f"d/{name}")
    seen = []
    for i, entry in enumerate(os.scandir("d")):
        seen.append(entry.name)
        if i < 100:
            write(f"d/new-{i:04}")
    p.note("while names come: each old one once", sorted(n for n in seen if n[0] == "o") == sorted(old))
    p.note("no new one twice", len(seen) == len(set(seen)))
    p.note("all after it", len(os.listdir("d")))
    seen = []
    for entry in os.scandir("d"):
        seen.append(entry.name)
        os.unlink(entry.path)
    p.note("while names go: each once", (len(seen), len(set(seen))))
    p.note("left", os.listdir("d"))
    for name, make in KINDS.items():
        make(f"d/{name}")
    p.note("kinds", sorted((e.name, e.is_dir(follow_symlinks=False), e.is_symlink(), e.is_file(follow_symlinks=False))
                           for e in os.scandir("d")))
    p.note("numbers", all(e.inode() == e.stat(follow_symlinks=False).st_ino for e in os.scandir("d")))
    with opened("d", os.O_RDONLY) as fd:
        os.rename("d", "dd")
        p.do("a renamed folder", lambda: sorted(os.listdir(fd)))
    p.do("a file", os.listdir, "dd/file")


@case
def special_files(p):
    for name, kind, device in (("character", stat.S_IFCHR, os.makedev(1, 3)), ("block", stat.S_IFBLK, os.makedev(7, 200)),
                               ("pipe", stat.S_IFIFO, 0), ("socket", stat.S_IFSOCK, 0), ("file", stat.S_IFREG, 0)):
        p.do(f"make {name}", os.mknod, name, kind | 0o640, device)
        p.do(f"{name}", lambda n=name: (oct(os.stat(n).st_mode), os.stat(n).st_rdev, os.stat(n).st_size))
        p.do(f"remove {name}", os.unlink, name)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        p.do("bind", server.bind, "s")
        server.listen()
        p.do("connect", client.connect, "s")
    with socket.socket(socket.AF_UNIX) as client:
        p.do("connect to nobody", client.connect, "s")
    os.mkfifo("p")
    with opened("p", os.O_RDWR | os.O_NONBLOCK) as fd:
        os.write(fd, b"through")
        p.do("through a pipe", os.read, fd, 100)
    p.as_user(lambda q: q.do("a device by a user", os.mknod, "null", stat.S_IFCHR | 0o666, os.makedev(1, 3)))


# ---- Sizes and holes ----

@case
def truncating(p):
    write("f", b"x" * 10000)
    os.mkdir("d")
    for size in (5000, 20000, 4096, 0, 1 << 30, 3):
        p.do(f"to {size}", os.truncate, "f", size)
        p.note(f"size {size}", os.stat("f").st_size)
        if size <= 20000:
            data = read("f")
            p.note(f"content {size}", (data.count(b"x"), data.count(0)))
    p.note("content at the end", read("f"))
    p.do("negative", os.truncate, "f", -1)
    p.do("endless", os.truncate, "f", (1 << 63) - 1)
    p.do("a folder", os.truncate, "d", 0)
    p.do("nothing", os.truncate, "none", 0)
    p.do("below a file", os.truncate, "f/x", 0)
    with opened("f", os.O_RDONLY) as fd:
        p.do("what is read", os.ftruncate, fd, 0)
    with opened("f") as fd:
        os.lseek(fd, 2, os.SEEK_SET)
        os.ftruncate(fd, 0)
        p.do("place", os.lseek, fd, 0, os.SEEK_CUR)
        os.write(fd, b"z")
    p.do("written past the end", read, "f")


def allocate(fd, mode, offset, length):
    return checked(LIBC.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)))


@case
def holes(p):
    keep, punch, collapse, zero, insert = 1, 2, 8, 16, 32
    with opened("f", os.O_RDWR | os.O_CREAT) as fd:
        os.pwrite(fd, b"a" * 4096, 0)
        os.pwrite(fd, b"b" * 4096, 1 << 24)
        os.fsync(fd)
        p.note("space is less than size", os.fstat(fd).st_blocks * 512 < os.fstat(fd).st_size // 2)
        p.do("zeros", lambda: os.pread(fd, 8192, 8192).count(0))
        p.do("data from 64 KiB", os.lseek, fd, 64 * KIB, os.SEEK_DATA)
        p.do("a hole, at 64 KiB at last", lambda: os.lseek(fd, 0, os.SEEK_HOLE) <= 64 * KIB)
        p.do("a hole in data", lambda: os.lseek(fd, 1 << 24, os.SEEK_HOLE))
        p.do("data past the end", os.lseek, fd, 1 << 30, os.SEEK_DATA)
        os.ftruncate(fd, (1 << 24) + 8192)
        p.do("data in the hole at the end", os.lseek, fd, (1 << 24) + 4096, os.SEEK_DATA)
    with opened("g", os.O_RDWR | os.O_CREAT) as fd:
        os.pwrite(fd, b"x" * 65536, 0)
        p.do("allocate", allocate, fd, 0, 65536, 65536)
        p.note("size", os.fstat(fd).st_size)
        p.do("allocate and keep the size", allocate, fd, keep, 131072, 65536)
        p.note("size that was kept", os.fstat(fd).st_size)
        p.do("punch", allocate, fd, punch | keep, 4096, 8192)
        p.note("punched", [os.pread(fd, 4096, i * 4096).count(b"x") for i in range(4)])
        p.do("zero", allocate, fd, zero, 20000, 100)
        p.note("zeroed", os.pread(fd, 65536, 0).count(0))
        p.do("collapse", allocate, fd, collapse, 0, 4096)
        p.do("insert", allocate, fd, insert, 0, 4096)
        p.note("size at last", os.fstat(fd).st_size)
        p.do("nothing", allocate, fd, 0, 0, 0)
        p.do("posix_fallocate", os.posix_fallocate, fd, 0, 1 << 20)
        p.note("size after it", os.fstat(fd).st_size)


@case
def mapping(p):
    write("f", b"x" * 10000)
    with opened("f") as fd, mmap.mmap(fd, 0) as map:
        map[:5] = b"first"
        p.do("read of what was mapped", os.pread, fd, 6, 0)
        os.pwrite(fd, b"second", 5000)
        p.note("a map of what was written", map[5000:5007])
        map.flush()
    p.note("after the map", read("f")[:6])
    with opened("f") as fd, mmap.mmap(fd, 0, mmap.MAP_PRIVATE) as map:
        map[:5] = b"other"
        p.do("a private map", os.pread, fd, 5, 0)
    os.truncate("f", 12288)
    with opened("f") as fd, mmap.mmap(fd, 12288) as map:
        os.ftruncate(fd, 10000)
        p.note("past the end", map[10000:12288].count(0))
        map[11000:11001] = b"!"
        map.flush()
        p.note("size", os.fstat(fd).st_size)
        os.ftruncate(fd, 12288)
        p.note("longer by and by", len(read("f")))
    with opened("f") as fd, mmap.mmap(fd, 4096) as map:
        os.unlink("f")
        map[:4] = b"gone"
        map.flush()
        p.do("a file without a name", os.pread, fd, 4, 0)
    write("shared", bytes(4096))
    with opened("shared") as fd, mmap.mmap(fd, 4096) as map:
        p.elsewhere(lambda q: map.__setitem__(slice(0, 5), b"child"))
        p.note("what another process wrote", map[:5])
        p.do("its file", lambda: os.pread(fd, 5, 0))
    with opened("shared", os.O_RDONLY) as fd:
        p.do("writable on what is read", lambda: mmap.mmap(fd, 4096, mmap.MAP_SHARED).close())


# ---- Owners, modes, times, attributes ----

@case
def permissions(p):
    os.chmod(".", 0o777)
    for place, owner, group in (("owner", USER, 0), ("group", 0, GROUP), ("others", 0, 0)):
        for bits in range(8):
            mode = bits * 0o111
            for shift, name in ((6, "owner"), (3, "group"), (0, "others")):
                if name != place:
                    mode &= ~(7 << shift)
            write(f"{place}-{bits}", b"x")
            os.mkdir(f"{place}-{bits}-d")
            write(f"{place}-{bits}-d/in", b"x")
            for path in (f"{place}-{bits}", f"{place}-{bits}-d"):
                os.chown(path, owner, group)
                os.chmod(path, mode)

    def user(q):
        for place in ("owner", "group", "others"):
            for bits in range(8):
                path = f"{place}-{bits}"
                q.opens(f"read {path}", path, os.O_RDONLY)
                q.opens(f"write {path}", path, os.O_WRONLY)
                q.opens(f"truncate {path}", path, os.O_WRONLY | os.O_TRUNC)
                q.do(f"truncate by name {path}", os.truncate, path, 0)
                q.do(f"access {path}", lambda n=path: [os.access(n, bit) for bit in (os.R_OK, os.W_OK, os.X_OK)])
                q.do(f"list {path}", os.listdir, path + "-d")
                q.do(f"search {path}", lambda n=path: os.stat(n + "-d/in").st_size)
                q.do(f"create {path}", write, path + "-d/new")
                q.do(f"rename {path}", os.rename, path + "-d/in", path + "-d/in2")
                q.do(f"unlink {path}", os.unlink, path + "-d/in2")

    p.as_user(user)
    p.opens("root reads mode 0", "others-0", os.O_RDWR)


@case
def owners(p):
    os.chmod(".", 0o777)
    write("root's", b"x", 0o666)
    write("mine", b"x", 0o644)
    os.chown("mine", USER, GROUP)
    os.mkdir("sticky")
    os.chmod("sticky", 0o1777)
    write("sticky/root's", b"x", 0o666)
    os.mkdir("group")
    os.chown("group", 0, OTHER_GROUP)
    os.chmod("group", 0o2777)

    def user(q):
        q.do("mode of another's", os.chmod, "root's", 0o777)
        q.do("owner of another's", os.chown, "root's", USER, -1)
        q.do("times of another's", os.utime, "root's", (1, 2))
        q.do("times of another's to now", os.utime, "root's")
        q.do("give away", os.chown, "mine", 0, -1)
        q.do("to a group of mine", os.chown, "mine", -1, OTHER_GROUP)
        q.do("to another group", os.chown, "mine", -1, 0)
        q.do("mode of mine", os.chmod, "mine", 0o6755)
        q.note("mode then", oct(os.stat("mine").st_mode))
        q.do("unlink in a sticky folder", os.unlink, "sticky/root's")
        q.do("rename in a sticky folder", os.rename, "sticky/root's", "sticky/x")
        write("sticky/mine")
        q.do("unlink mine in a sticky folder", os.unlink, "sticky/mine")
        write("group/f")
        os.mkdir("group/d")
        q.note("of the folder's group", [(os.stat(n).st_uid, os.stat(n).st_gid, oct(os.stat(n).st_mode))
                                         for n in ("group/f", "group/d")])

    p.elsewhere(user, USER, GROUP, [OTHER_GROUP])
    for name, change in (("chown", lambda n: os.chown(n, USER, GROUP)), ("a user's write", overwrite),
                         ("a user's truncation", lambda n: os.truncate(n, 1))):
        write(name, b"text")
        os.chmod(name, 0o6777)
        if name == "chown":
            change(name)
        else:
            p.as_user(lambda q, n=name, c=change: q.do(f"{n} of a set-id file", c, n))
        p.note(f"set-id after {name}", oct(os.stat(name).st_mode))


def overwrite(name):
    with opened(name, os.O_WRONLY) as fd:
        return os.write(fd, b"x")


class Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_int64), ("nanoseconds", ctypes.c_int64)]


NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2


def set_times(path, access, change):
    return checked(LIBC.utimensat(AT_FDCWD, os.fsencode(path), (Timespec * 2)(Timespec(*access), Timespec(*change)), 0))


@case
def times(p):
    write("f", b"x")
    os.symlink("f", "l")

    def both(path):
        return (os.lstat(path).st_atime_ns, os.lstat(path).st_mtime_ns)

    for ns in (0, 1, 999_999_999, 1_700_000_000_123_456_789, -1_500_000_000, 4_102_444_800_000_000_001):
        p.do(f"set {ns}", lambda n=ns: os.utime("f", ns=(n, n + 1)))
        p.note(f"read {ns}", both("f"))
    p.do("omit one", set_times, "f", (5, 6), (0, OMIT))
    p.note("one is omitted", both("f"))
    p.do("now", set_times, "f", (0, OMIT), (0, NOW))
    p.note("now is later", (both("f")[0], both("f")[1] > 1_700_000_000 * 10**9))
    p.do("no such fraction", set_times, "f", (0, 10**9), (0, 0))
    os.utime("l", ns=(7, 8), follow_symlinks=False)
    p.note("of a link", both("l"))
    p.note("of its file", both("f")[0])
    os.mkdir("d")

    def changes(what, path, call):
        os.utime(path, (1, 1))
        before = os.stat(path)
        call()
        after = os.stat(path)
        p.note(f"{what} counts as a change", (after.st_mtime_ns != before.st_mtime_ns, after.st_ctime_ns >= before.st_ctime_ns))

    changes("a write", "f", lambda: write("f", b"y"))
    changes("a truncation", "f", lambda: os.truncate("f", 100))
    changes("a truncation to the same size", "f", lambda: os.truncate("f", 100))
    changes("a mode", "f", lambda: os.chmod("f", 0o600))
    changes("a link", "f", lambda: os.link("f", "g"))
    changes("a rename", "f", lambda: (os.rename("f", "h"), os.rename("h", "f")))
    changes("a read", "f", lambda: read("f"))
    changes("a new name", "d", lambda: write("d/x"))
    changes("a name that goes", "d", lambda: os.unlink("d/x"))
    changes("a name that comes", "d", lambda: os.rename("g", "d/g"))


@case
def attributes(p):
    write("f", b"x", 0o666)
    os.mkdir("d")
    os.symlink("f", "l")
    for name in ("f", "d", "l"):
        p.do(f"set {name}", os.setxattr, name, "user.a", b"one", follow_symlinks=False)
        p.do(f"get {name}", os.getxattr, name, "user.a", follow_symlinks=False)
        p.do(f"list {name}", lambda n=name: sorted(os.listxattr(n, follow_symlinks=False)))
        p.do(f"remove {name}", os.removexattr, name, "user.a", follow_symlinks=False)
        p.do(f"get what is gone {name}", os.getxattr, name, "user.a", follow_symlinks=False)
        p.do(f"remove what is gone {name}", os.removexattr, name, "user.a", follow_symlinks=False)
    p.do("replace nothing", os.setxattr, "f", "user.a", b"x", os.XATTR_REPLACE)
    p.do("create", os.setxattr, "f", "user.a", b"x", os.XATTR_CREATE)
    p.do("create again", os.setxattr, "f", "user.a", b"y", os.XATTR_CREATE)
    p.do("replace", os.setxattr, "f", "user.a", b"z", os.XATTR_REPLACE)
    p.do("get", os.getxattr, "f", "user.a")
    for what, size in (("nothing", 0), ("4 KiB", 4096), ("60 KiB", 60 << 10), ("64 KiB", 64 << 10), ("more", (64 << 10) + 1)):
        p.do(f"value of {what}", os.setxattr, "f", "user.v", bytes(size))
        p.do(f"size of {what}", lambda: len(os.getxattr("f", "user.v")))
    p.do("bytes", lambda: (os.setxattr("f", "user.b", bytes(range(256))), os.getxattr("f", "user.b") == bytes(range(256)))[1])
    p.do("a name of 255", os.setxattr, "f", "user." + "n" * 250, b"x")
    p.do("a name of 256", os.setxattr, "f", "user." + "n" * 251, b"x")
    p.do("no name", os.setxattr, "f", "user.", b"x")
    p.do("no space of names", os.setxattr, "f", "plain", b"x")
    p.do("trusted", os.setxattr, "f", "trusted.mine", b"t")
    p.do("trusted there", os.getxattr, "f", "trusted.mine")
    p.do("security", os.setxattr, "f", "security.mine", b"s")
    p.do("all", lambda: sorted(os.listxattr("f")))
    p.do("an access list", os.setxattr, "f", "system.posix_acl_access", bytes.fromhex(
        "02000000" "01000600ffffffff" "0200070049ee0000" "04000400ffffffff" "10000700ffffffff" "20000400ffffffff"))

    def user(q):
        q.do("a user's", os.setxattr, "f", "user.u", b"u")
        q.do("a user sees his", lambda: sorted(n for n in os.listxattr("f") if n.startswith("user.")))
        q.do("a user sees of root's", lambda: sorted(n for n in os.listxattr("f") if n.startswith("trusted.")))
        q.do("a user's trusted", os.setxattr, "f", "trusted.u", b"u")
        q.do("a user reads trusted", os.getxattr, "f", "trusted.mine")
        q.do("a user's security", os.setxattr, "f", "security.u", b"u")
        q.do("on what is not his to write", os.setxattr, "d", "user.u", b"u")

    p.as_user(user)


# ---- Locks ----

@case
def locks(p):
    write("f", bytes(100))
    fd = os.open("f", os.O_RDWR)

    def attempt(what, kind, length=0, start=0, call=fcntl.lockf):
        def other(q):
            with opened("f") as mine:
                arguments = (length, start) if call is fcntl.lockf else ()
                q.do(what, call, mine, kind | fcntl.LOCK_NB, *arguments)
        p.elsewhere(other)

    fcntl.lockf(fd, fcntl.LOCK_EX, 10, 20)
    attempt("beside", fcntl.LOCK_EX, 20, 0)
    attempt("behind", fcntl.LOCK_EX, 0, 30)
    attempt("the same", fcntl.LOCK_EX, 10, 20)
    attempt("the last byte", fcntl.LOCK_SH, 1, 29)
    fcntl.lockf(fd, fcntl.LOCK_UN, 2, 24)
    attempt("in the gap", fcntl.LOCK_EX, 2, 24)
    attempt("before the gap", fcntl.LOCK_EX, 1, 23)
    fcntl.lockf(fd, fcntl.LOCK_SH, 10, 20)
    attempt("both read", fcntl.LOCK_SH, 10, 20)
    attempt("one reads", fcntl.LOCK_EX, 10, 20)
    os.close(os.open("f", os.O_RDONLY))
    attempt("after any close", fcntl.LOCK_EX)
    p.do("taken for a while", fcntl.lockf, fd, fcntl.LOCK_EX)
    fcntl.lockf(fd, fcntl.LOCK_UN)
    p.elsewhere(lambda q: fcntl.lockf(fd, fcntl.LOCK_EX))
    attempt("after its owner's end", fcntl.LOCK_EX)
    p.do("a whole-file lock", fcntl.flock, fd, fcntl.LOCK_EX)
    attempt("the same whole file", fcntl.LOCK_EX, call=fcntl.flock)
    p.do("shared now", fcntl.flock, fd, fcntl.LOCK_SH)
    attempt("a shared one beside it", fcntl.LOCK_SH, call=fcntl.flock)
    os.close(fd)
    attempt("after its close", fcntl.LOCK_EX, call=fcntl.flock)
    with opened("f", os.O_RDONLY) as reading, opened("f", os.O_WRONLY) as writing:
        p.do("a write lock on what is read", fcntl.lockf, reading, fcntl.LOCK_EX | fcntl.LOCK_NB)
        p.do("a read lock on what is written", fcntl.lockf, writing, fcntl.LOCK_SH | fcntl.LOCK_NB)


def outcomes(folder):
    """{operation: what came of it} in an empty folder, which is full of rests then."""
    top = os.open(".", os.O_RDONLY)
    umask = os.umask(0o022)
    results = {}
    try:
        for function in CASES:
            path = folder / function.__name__
            path.mkdir()
            os.chdir(path)
            probe = Probe(function.__name__.replace("_", " "))
            function(probe)
            results.update(probe.results)
    finally:
        os.umask(umask)
        os.fchdir(top)
        os.close(top)
    return results
