#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 400
"""Test suites and programs that nobody here wrote, on a mounted share beside XFS: CPython's own tests of files, stress-ng's
of file systems, git, rsync and tar. What fails on the share and not on XFS must be listed here, with its reason."""

import os
import pathlib
import re
import subprocess
import sys
import threading
import xml.etree.ElementTree as xml

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import shares
from api import require, require_equal
from node import Node, require_programs, require_root, skip
from shares_posix import local_folder

PYTHON = "/usr/bin/python3"  # Debian's, whose tests are a package
PYTHON_TESTS = ("test_posix test_fcntl test_mmap test_largefile test_shutil test_tempfile test_dbm_dumb test_fileio test_file test_genericpath "
                "test_posixpath test_stat test_unicode_file test_filecmp").split()

# test: (its outcomes on a share, why); all others have the outcome that they have on XFS
CHANGED = "replicate notes that a write has ended in an attribute of the file, so that its change may be later than its modification"
PYTHON_KNOWN = {
    "test_genericpath.TestGenericTest.test_filetime": (("ok", "failed"), CHANGED),
    "test_posixpath.PosixCommonTest.test_filetime": (("ok", "failed"), CHANGED),
}
STRESSORS = ("access chattr chdir chmod chown dentry dir dirdeep dirmany dup fallocate fcntl file-ioctl filename flock fpunch fstat getdent "
             "handle hdd inode-flags iomix lease link locka lockf lockofd mknod open rename symlink sync-file touch utime xattr").split()
STRESS_SECONDS = 6


# ---- CPython ----

def python_outcomes(folder, report):
    """{test: ok, failed or skipped}"""
    folder.mkdir()
    done = subprocess.run([PYTHON, "-m", "test", "--tempdir", folder, "--junit-xml", report, "--timeout", "200", *PYTHON_TESTS], cwd=folder,
                          env={**os.environ, "TMPDIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"},
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if not report.exists():
        raise AssertionError(f"CPython's tests on {folder}: {done.stdout[-3000:]}")
    outcomes = {}
    for case in xml.parse(report).getroot().iter("testcase"):
        bad = case.find("failure") is not None or case.find("error") is not None
        name = re.sub(r"^test\.", "", case.get("name"))
        outcomes[name] = "failed" if bad else "skipped" if case.find("skipped") is not None else "ok"
    return outcomes


def compare(local, share):
    """What differs otherwise than listed, and what is listed and can be so no more."""
    def allowed(name):
        return PYTHON_KNOWN[name][0] if name in PYTHON_KNOWN else (local.get(name, "not run"),)
    return [f"{name}: {share.get(name, 'not run')} on the share, {local.get(name, 'not run')} on XFS"
            for name in sorted(local.keys() | share.keys() | PYTHON_KNOWN.keys()) if share.get(name, "not run") not in allowed(name)]


def python_suite(node, local, share):
    outcomes = {}
    threads = [threading.Thread(target=lambda n=name, f=folder: outcomes.update({n: python_outcomes(f / "python", node.folder / f"{n}.xml")}))
               for name, folder in (("local", local), ("share", share))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    require_equal(set(outcomes), {"local", "share"}, "where CPython's tests ran")
    require(len(outcomes["local"]) > 500, f"only {len(outcomes['local'])} of CPython's tests ran")
    problems = compare(outcomes["local"], outcomes["share"])
    require(not problems, "CPython's tests:\n" + "\n".join(problems))
    print(f"CPython: {len(outcomes['share'])} tests, {len(PYTHON_KNOWN)} known differences", flush=True)


# ---- stress-ng ----

def stress(folder):
    """All at once for a few seconds, each verifying what it does."""
    folder.mkdir()
    words = [word for name in STRESSORS for word in (f"--{name}", "1")]
    done = subprocess.run(["stress-ng", "--temp-path", folder, "--verify", "--timeout", str(STRESS_SECONDS), "--hdd-bytes", "2M", "--fallocate-bytes",
                           "8M", "--iomix-bytes", "8M", "--sync-file-bytes", "8M", "--dentries", "100", "--dirdeep-inodes", "100", *words],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=150)
    said = [line for line in done.stdout.splitlines() if re.search(r" (fail|error|warn):|skipp", line)]
    require(done.returncode == 0 and not said, f"stress-ng ended with {done.returncode}: " + "\n".join(said or [done.stdout[-3000:]]))
    require_equal(os.listdir(folder), [], "what stress-ng left")
    print(f"stress-ng: {len(STRESSORS)} stressors", flush=True)


# ---- Programs ----

def run(*words, **more):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, **more)
    require(done.returncode == 0, f"{' '.join(map(str, words))} ended with {done.returncode}: {done.stdout[-2000:]}")
    return done.stdout


def git(folder):
    """A repository with some history: packed, cloned with and without hard links, merged, checked."""
    folder.mkdir()
    home = {**os.environ, "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a", "GIT_COMMITTER_NAME": "a",
            "GIT_COMMITTER_EMAIL": "a"}

    def do(*words, at="one"):
        return run("git", "-C", folder / at, *words, env=home)

    run("git", "init", "-q", "-b", "main", folder / "one", env=home)
    for turn in range(4):
        for i in range(30):
            (folder / "one" / f"f{i}").write_text(f"{turn} {i}\n" * 50)
        do("add", "-A")
        do("commit", "-q", "-m", f"turn {turn}")
    do("repack", "-q", "-a", "-d")
    do("clone", "-q", ".", "../two")
    do("clone", "-q", "--no-hardlinks", ".", "../three")
    do("mv", "f1", "moved", at="two")
    do("commit", "-q", "-m", "moved", at="two")
    do("fetch", "-q", "../two", "main")
    do("merge", "-q", "FETCH_HEAD")
    do("gc", "-q", "--prune=now")
    require_equal(do("rev-parse", "HEAD"), do("rev-parse", "HEAD", at="two"), "what was merged")
    for clone in ("one", "two", "three"):
        do("fsck", "--full", "--strict", at=clone)
        require_equal(do("status", "--porcelain", at=clone), "", f"changes in {clone}")


def make_tree(top):
    """What rsync and tar are to keep: modes, owners, times, links, holes, attributes and access lists."""
    top.mkdir()
    for i in range(40):
        folder = top / f"d{i % 4}"
        folder.mkdir(exist_ok=True)
        path = folder / f"f{i}"
        path.write_bytes(os.urandom(i * 700))
        os.setxattr(path, "user.number", b"%d" % i)
        os.chown(path, 1000 + i % 3, 100)
        os.chmod(path, 0o600 + i)
    os.link(top / "d0/f0", top / "hard")
    os.symlink("d1/f1", top / "soft")
    os.mkfifo(top / "pipe")
    os.mknod(top / "null", 0o20666, os.makedev(1, 3))
    with open(top / "sparse", "wb") as file:
        file.seek(5 << 20)
        file.write(b"end")
    run("setfacl", "-m", "u:1001:rw,g:1002:r", top / "d1/f1")
    run("setfacl", "-d", "-m", "u:1001:rwx", top / "d2")
    for path in sorted(top.rglob("*"), reverse=True):
        os.utime(path, ns=(10**18, 10**18 + 123456789), follow_symlinks=False)


def require_same(one, two):
    said = run("rsync", "-aHAX", "--checksum", "--delete", "--numeric-ids", "--dry-run", "--itemize-changes", f"{one}/", f"{two}/")
    require(not said, f"{two} is not like {one}:\n{said[:2000]}")


def copies(local, share):
    make_tree(local / "tree")
    run("rsync", "-aHAXS", "--numeric-ids", f"{local}/tree/", f"{share}/tree/")
    require_same(local / "tree", share / "tree")
    require((share / "tree/sparse").stat().st_blocks * 512 < 1 << 20, "a hole was filled")
    attributes = ("--xattrs", "--xattrs-include=user.*", "--acls", "--numeric-owner", "--sparse")
    run("tar", "-C", share / "tree", *attributes, "-cf", share / "tree.tar", ".")
    for where in (share / "untarred", local / "untarred"):
        where.mkdir()
        run("tar", "-C", where, *attributes, "-xpf", share / "tree.tar")
        require_same(local / "tree", where)
    run("cp", "-a", share / "tree", share / "copied")
    require_same(share / "tree", share / "copied")
    run("rm", "-r", share / "copied", share / "untarred")
    require_equal(sorted(os.listdir(share)), ["tree", "tree.tar"], "what is left after the removals")


def main():
    require_root()
    require_programs("glusterfs", "stress-ng", "git", "rsync", "setfacl", "tar")
    if not os.path.exists("/dev/fuse"):
        skip("needs FUSE")
    if subprocess.run([PYTHON, "-c", "import test.libregrtest, test.test_posix"], stderr=subprocess.DEVNULL).returncode:
        skip("CPython's tests are not installed: libpython3.11-testsuite")
    with Node() as node:
        node.replica3("v", "1GiB")
        node.add_device("local", "1GiB")
        shares.create(node, "v/a", "256MiB")
        shares.create(node, "v/b", "256MiB")
        with local_folder(node) as local:
            with shares.mounted(node, "v/a") as share:
                python_suite(node, local, share)
                stress(share / "stress")
                git(share / "git")
                print("git", flush=True)
            with shares.mounted(node, "v/b", "-o", "acl") as share:
                copies(local, share)
                print("rsync and tar", flush=True)


if __name__ == "__main__":
    main()
