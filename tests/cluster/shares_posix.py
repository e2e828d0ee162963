#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 300
"""A share is a POSIX file system: some hundred operations on a mounted share have the outcomes that they have on XFS,
but for those that are listed here, each with upstream's reason."""

import contextlib
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import posix_calls
import shares
from node import Node, require_programs, require_root, skip

# operation: (its outcome on a share, why); the numbers are GlusterFS 10.3's and Linux 6.1's
NO_FLAGS = "fuse-bridge has no FUSE_RENAME2, and the kernel refuses the flags then"
NO_SHIFT = "the kernel's FUSE hands on no fallocate that moves data"
SET_ID = "storage/posix creates a file as root (it undefines HAVE_SET_FSID) and gives it to its owner by chown, which clears them"
KNOWN = {
    "opening: without a name": ("ENOTSUP", "fuse-bridge has no FUSE_TMPFILE"),
    "opening: mode under 0": ("'0o100777'", SET_ID),
    "opening: mode under 27": ("'0o100750'", SET_ID),
    "opening: mode under 777": ("'0o102000'", SET_ID),
    "renaming: no replace where nothing is": ("EINVAL", NO_FLAGS),
    "renaming: exchange": ("EINVAL", NO_FLAGS),
    "linking: its mode": ("ESTALE", "the kernel sends fchmod without the open file, and by its identity a file without a "
                                    "name is not found"),
    "removing: list where nothing is": ("ESTALE", "a removed folder cannot be opened again by its identity"),
    "names: 25 folders within folders": (("'ENAMETOOLONG'", "'ESTALE'"), "GlusterFS knows files by their whole path, of 4096 bytes at most: "
                                         "which of its layers refuses depends on the path of the bricks"),
    "holes: collapse": ("ENOTSUP", NO_SHIFT),
    "holes: insert": ("ENOTSUP", NO_SHIFT),
    "attributes: a user sees of root's": ("['trusted.mine']", "the list is not filtered by who asks; values are"),
}
PLAIN = {
    "attributes: an access list": ("ENOTSUP", "a mount without -o acl has none"),
}
# With -o acl the kernel leaves permissions to GlusterFS's posix-acl (fuse-bridge drops default_permissions).
OWN_ERRORS = "posix-acl says EACCES where the kernel says EPERM"
KILL = "the kernel clears the bits by a change of mode in the writer's name, which posix-acl grants to the owner alone"
ACL = {
    "special files: a device by a user": ("EPERM", "the kernel asks for the capability before the folder's permissions"),
    "owners: times of another's": ("None", "posix-acl lets whoever may write set any time"),
    "owners: unlink in a sticky folder": ("EACCES", OWN_ERRORS),
    "owners: rename in a sticky folder": ("EACCES", OWN_ERRORS),
    "owners: a user's write of a set-id file": ("EPERM", KILL),
    "owners: set-id after a user's write": ("'0o106777'", KILL),
    "owners: a user's truncation of a set-id file": ("EPERM", KILL),
    "owners: set-id after a user's truncation": ("'0o106777'", KILL),
    "attributes: a user sees of root's": ("['trusted.SGI_ACL_FILE', 'trusted.mine']", "as without, and XFS's own copy"),
}


def compare(local, share, known):
    """What differs otherwise than listed, and what is listed and does not differ."""
    outcomes = {name: (local.get(name, "not done"), share.get(name, "not done")) for name in {**local, **share, **known}}
    def listed(name, otherwise):
        outcome = known.get(name, (otherwise,))[0]
        return outcome if isinstance(outcome, tuple) else (outcome,)
    return [f"{name}: {there} on the share, {here} on XFS; listed: {' or '.join(listed(name, 'nothing'))}"
            for name, (here, there) in outcomes.items() if there not in listed(name, here) or
            (name in known and there == here)]


@contextlib.contextmanager
def local_folder(node):
    """A folder on the XFS of a device, without the restrictions that devices are mounted with."""
    device = next(d for d in node.items("/v1/devices") if d["name"].endswith("/local"))
    point = node.folder / "local"
    point.mkdir()
    subprocess.run(["mount", "--bind", device["status"]["mount"], point], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,exec,nosuid,nodev", point], check=True)
        folder = point / "posix"
        folder.mkdir()
        yield folder
    finally:
        subprocess.run(["umount", point], check=True)


def main():
    require_root()
    require_programs("glusterfs")
    if not os.path.exists("/dev/fuse"):
        skip("needs FUSE")
    with Node() as node:
        node.replica3("v", "1GiB")
        node.add_device("local", "1GiB")
        with local_folder(node) as folder:
            local = posix_calls.outcomes(folder)
        problems = []
        for name, options, more in (("plain", (), PLAIN), ("acl", ("-o", "acl"), ACL)):
            shares.create(node, f"v/{name}", "64MiB")
            known = {**KNOWN, **more}
            with shares.mounted(node, f"v/{name}", *options) as point:
                problems += [f"{name}: {text}" for text in compare(local, posix_calls.outcomes(point), known)]
            print(f"{name}: {len(local)} operations, {len(known)} known differences", flush=True)
        if problems:
            raise AssertionError("\n".join(["other outcomes than on XFS:", *problems]))


if __name__ == "__main__":
    main()
