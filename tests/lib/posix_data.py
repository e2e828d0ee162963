# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""What programs do with the data of files: open, read, write, sizes, holes, maps, locks. See posix_calls."""

import contextlib
import ctypes
import fcntl
import mmap
import os

from posix_probe import KIB, LIBC, case, checked, opened, read, write


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
