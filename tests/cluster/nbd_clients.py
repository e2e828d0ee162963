#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""NBD clients that nobody here wrote, against blockd-nbd on one brick and on three replicas."""
# timeout: 180
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from nbdserver import MIB, Fixture, skip

SIZE = 48 * MIB

for tool in ("nbdinfo", "nbdcopy", "qemu-img", "qemu-io", "fio"):
    if not shutil.which(tool):
        skip(f"needs {tool}")


def run(*argv):
    done = subprocess.run([str(arg) for arg in argv], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{argv} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def info(server):
    listed = json.loads(run("nbdinfo", "--json", "--list", f"nbd://127.0.0.1:{server.port}"))["exports"]
    assert [export["export-name"] for export in listed] == ["testvol/copy", "testvol/fio", "testvol/qemu"], listed
    export = json.loads(run("nbdinfo", "--json", server.uri("copy")))["exports"][0]
    expected = {"export-size": SIZE, "is_read_only": False, "can_cache": True, "can_df": True, "can_fast_zero": True,
                "can_flush": True, "can_fua": True, "can_multi_conn": True, "can_trim": True, "can_zero": True,
                "block_minimum": 512, "contexts": ["base:allocation"]}
    for key, value in expected.items():
        assert export.get(key, export.get(key.replace("block_", "block_size_"))) == value, (key, export)
    assert json.loads(run("nbdinfo", "--map", "--json", server.uri("copy"))) == [
        {"offset": 0, "length": SIZE, "type": 3, "description": "hole,zero"}]
    assert run("nbdinfo", "--size", server.unix_uri("copy")).strip() == str(SIZE)


def copy(server, folder):
    source, back = f"{folder}/source", f"{folder}/back"
    with open(source, "wb") as file:
        file.write(os.urandom(5 * MIB))
        file.seek(20 * MIB)
        file.write(os.urandom(3 * MIB))
        file.truncate(SIZE)
    run("nbdcopy", "--flush", "--connections=4", source, server.uri("copy"))
    run("nbdcopy", "--connections=4", "--requests=32", server.uri("copy"), back)
    assert digest(source) == digest(back)
    run("nbdcopy", "--synchronous", server.unix_uri("copy"), back)
    assert digest(source) == digest(back)
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, server.uri("copy"))
    extents = json.loads(run("nbdinfo", "--map", "--json", server.uri("copy")))
    data = sum(extent["length"] for extent in extents if extent["type"] == 0)
    assert 8 * MIB <= data < SIZE // 2, f"{data} bytes of data in {extents}"
    # Over what is there: zeroes must arrive as zeroes.
    with open(source, "wb") as file:
        file.truncate(SIZE)
    run("nbdcopy", "--flush", source, server.uri("copy"))
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, server.uri("copy"))
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", back, server.uri("copy"))
    run("qemu-img", "compare", "-f", "raw", "-F", "raw", back, server.uri("copy"))


def qemu_io(server):
    uri = server.uri("qemu")
    output = run("qemu-io", "-f", "raw", uri, "-c", "write -P 0xa5 0 1M", "-c", "write -f -P 0x5a 1M 64k",
                 "-c", "read -P 0xa5 0 1M", "-c", "read -P 0x5a 1M 64k", "-c", "write -z 512k 256k",
                 "-c", "read -P 0 512k 256k", "-c", "write -z -u 0 128k", "-c", "read -P 0 0 128k",
                 "-c", "discard 1M 64k", "-c", "read -P 0 1M 64k", "-c", "aio_write -P 0x77 4M 8M", "-c", "aio_flush",
                 "-c", "flush", "-c", "read -P 0x77 4M 8M", "-c", "write -P 1 3M 512", "-c", "read -P 1 3M 512")
    assert "failed" not in output, output


def fio(server, folder):
    for jobs, pattern, block in ((1, "randrw", "4k"), (4, "randwrite", "8k"), (2, "write", "256k")):
        run("fio", "--name=verify", "--ioengine=nbd", f"--uri={server.uri('fio')}", f"--rw={pattern}", f"--bs={block}",
            "--iodepth=16", f"--numjobs={jobs}", f"--size={SIZE // jobs}", f"--offset_increment={SIZE // jobs}",
            "--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--group_reporting", "--fsync=64",
            f"--aux-path={folder}")


for count in (1, 3):
    with Fixture(count=count) as fixture:
        server = fixture.server
        for name in ("copy", "qemu", "fio"):
            server.grant(name, SIZE)
        info(server)
        copy(server, fixture.folder)
        qemu_io(server)
        fio(server, fixture.folder)
        metrics = server.http("GET", "/metrics")[1]
        assert 'blockd_nbd_operations_total{volume="testvol",block="fio",operation="write"}' in metrics, metrics
        assert 'blockd_nbd_errors_total{volume="testvol",block="fio",operation="write"} 0\n' in metrics, metrics
