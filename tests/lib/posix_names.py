# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""What programs do with names: rename, link, remove, list. See posix_calls."""

import errno
import os
import socket
import stat

from posix_probe import AT_FDCWD, GROUP, LIBC, USER, case, checked, opened, read, write

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
