#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""What systemd itself says of the units, sysusers and tmpfiles, and blockd of the sample configuration: nothing.

Programs of this tree that are not installed are replaced by their build, so that only their paths differ.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from node import BUILD, TOP, require_programs

SOURCE = TOP / "systemd"
UNITS = [p for p in sorted(SOURCE.iterdir()) if p.suffix in (".service", ".target", ".slice", ".socket")]


def copy_units(folder):
    """The units with our programs where they are built; a template as an instance too."""
    names = []
    for unit in UNITS:
        text = unit.read_text()
        for program in ("blockd-nbd", "blockd-rebalance", "blockd"):
            text = re.sub(rf"/usr/sbin/{program}(?=\s)", str(BUILD / "bin" / program), text)
        (folder / unit.name).write_text(text)
        names.append(unit.name.replace("@.", "@volume.disk-1."))
    return names


def verify(folder, names):
    environment = dict(os.environ, SYSTEMD_UNIT_PATH=f"{folder}:")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *names], cwd=folder,
                          env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    ours = [line for line in done.stdout.splitlines() if "blockd" in line]
    return done.returncode, ours


def check_units(folder):
    names = copy_units(folder)
    status, lines = verify(folder, names)
    assert status == 0 and not lines, "\n".join(lines) or f"status {status}"

    # It must see what is wrong, or its silence says nothing.
    broken = folder / "blockd.service"
    broken.write_text(broken.read_text().replace("KillMode=process", "KillMode=sometimes"))
    _, lines = verify(folder, ["blockd.service"])
    assert any("kill mode" in line for line in lines), lines


def check_namespace():
    """blockd's mounts must reach the host: settings that give it a mount namespace are refused."""
    forbidden = re.compile(r"^(Private(Tmp|Devices|Mounts|Users)|Protect\w+|ReadWritePaths|ReadOnlyPaths|InaccessiblePaths|"
                           r"BindPaths|BindReadOnlyPaths|TemporaryFileSystem|RootDirectory|MountAPIVFS|DynamicUser|"
                           r"ProcSubset|ExecPaths|NoExecPaths)=", re.MULTILINE)
    for name in ("blockd.service", "blockd-brick@.service"):
        found = forbidden.search((SOURCE / name).read_text())
        assert not found, f"{name}: {found.group(0)}"
    assert "KillMode=process" in (SOURCE / "blockd.service").read_text()


def run(*argv):
    done = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0 and not done.stdout.strip(), f"{argv[0]}: {done.returncode} {done.stdout}"


def check_files(folder):
    root = folder / "root"
    (root / "etc").mkdir(parents=True)
    # tmpfiles looks the groups up in the root that it works on.
    (root / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\nadm:x:4:\n")
    if shutil.which("systemd-sysusers"):
        subprocess.run(["systemd-sysusers", f"--root={root}", SOURCE / "blockd.sysusers"], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert "\nblockd:" in (root / "etc" / "group").read_text()
    if shutil.which("systemd-tmpfiles") and os.geteuid() == 0:
        run("systemd-tmpfiles", "--create", f"--root={root}", SOURCE / "blockd.tmpfiles")
        assert (root / "run" / "blockd").is_dir() and (root / "var" / "log" / "blockd").is_dir()


def check_sample():
    """Every key is shown, with its default: uncommented, the file is a valid configuration."""
    text = re.sub(r"^# (?=[a-z-]+ =(?! \())", "", (SOURCE / "blockd.conf").read_text(), flags=re.MULTILINE)
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(text)
        file.flush()
        done = subprocess.run([BUILD / "bin" / "blockd", "--check-config", "--config", file.name],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout


def main():
    require_programs("systemd-analyze")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        check_units(folder)
        check_files(folder)
    check_namespace()
    check_sample()


main()
