# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""What programs do with owners, modes, times and extended attributes. See posix_calls."""

import ctypes
import os

from posix_probe import AT_FDCWD, GROUP, LIBC, OTHER_GROUP, USER, case, checked, opened, read, write


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
