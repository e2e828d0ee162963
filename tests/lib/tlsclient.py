# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Standard clients with TLS: GlusterFS looks for certificates in OpenSSL's folder, so that a test has one of its own; and hostile
certificates, made with openssl."""

import contextlib
import ctypes
import os
import pathlib
import shutil
import subprocess

import volclient
from node import skip

CLONE_NEWNS = 0x20000
SSL = pathlib.Path("/usr/lib/ssl")
SECURE = pathlib.Path("/var/lib/glusterd/secure-access")


def own_files():
    """From here on this process and its children have folders of OpenSSL and of glusterd that nobody else sees."""
    if not shutil.which("openssl"):
        skip("openssl is not installed")
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
        skip(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
    if str(SSL) not in run("openssl", "version", "-d").decode():
        skip(f"OpenSSL's folder is not {SSL}")
    run("mount", "--make-rprivate", "/")
    text = (SSL / "openssl.cnf").read_bytes()
    run("mount", "-t", "tmpfs", "tmpfs", SSL)
    (SSL / "openssl.cnf").write_bytes(text)
    if not SECURE.parent.is_dir():
        run("mount", "-t", "tmpfs", "tmpfs", "/var/lib")
        SECURE.parent.mkdir()
    else:
        run("mount", "-t", "tmpfs", "tmpfs", SECURE.parent)


def run(*argv, **keywords):
    return subprocess.run(list(map(str, argv)), check=True, capture_output=True, timeout=60, **keywords).stdout


class Certificate:
    """Files cert, key, and the authority's that its owner trusts."""

    def __init__(self, cert, key, authority):
        self.cert, self.key, self.authority = map(pathlib.Path, (cert, key, authority))

    def serial(self):
        return run("openssl", "x509", "-noout", "-serial", "-in", self.cert).decode().strip().split("=")[1].lower()

    def use(self):
        """Standard clients show this one."""
        for name, source in (("pem", self.cert), ("key", self.key), ("ca", self.authority)):
            shutil.copy(source, SSL / f"glusterfs.{name}")


def issue(node, name, *options):
    """As `gluster-block certificate issue` makes it."""
    folder = node.folder / f"certificate-{name}"
    node.cli("certificate", "issue", name, folder, *options)
    return Certificate(folder / "client-cert.pem", folder / "client-key.pem", folder / "ca-cert.pem")


def forge(node, label, name, authority=None, start="-1d", end="+10d", key=None):
    """What the node's authority never signs, by its stolen key; or by another authority's (cert, key)."""
    folder = node.folder / f"forged-{label}"
    folder.mkdir()
    trusted = node.state / "pki" / "ca-cert.pem"
    signer = authority or (trusted, node.state / "pki" / "ca-key.pem")
    request, cert = folder / "request.pem", folder / "cert.pem"
    if not key:
        key = folder / "key.pem"
        run("openssl", "ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out", key)
    run("openssl", "req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", request)
    (folder / "index").write_text("")
    (folder / "openssl.cnf").write_text(
        f"[ca]\ndefault_ca=d\n[d]\ndatabase={folder}/index\nnew_certs_dir={folder}\nrand_serial=yes\ndefault_md=sha256\n"
        "policy=p\nunique_subject=no\n[p]\ncommonName=supplied\norganizationalUnitName=optional\n")
    run("openssl", "ca", "-batch", "-config", folder / "openssl.cnf", "-in", request, "-out", cert, "-cert", signer[0],
        "-keyfile", signer[1], "-startdate", moment(start), "-enddate", moment(end), "-notext")
    return Certificate(cert, key, trusted)


def moment(word):
    return run("date", "-u", "-d", word.replace("d", " days"), "+%Y%m%d%H%M%SZ").decode().strip()


def authority(folder, name):
    """(cert, key) of an authority that the cluster does not know."""
    folder.mkdir()
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj",
        f"/CN={name}", "-keyout", folder / "key.pem", "-out", folder / "cert.pem")
    return folder / "cert.pem", folder / "key.pem"


def shown(port, *options):
    """The subject of the certificate that a listener shows; None when it speaks no TLS."""
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *map(str, options)], input=b"",
                          capture_output=True, timeout=60)
    lines = [line.strip() for line in done.stdout.decode(errors="replace").splitlines()]
    return next((line for line in lines if line.startswith("subject=")), None)


def admitted(node, **options):
    """Can a standard client mount the volume and write a file there?"""
    try:
        with volclient.mounted(node, **options) as point:
            (point / "written").write_text("by a standard client")
            return (point / "written").read_text() == "by a standard client"
    except OSError:
        return False


class Logs:
    """What bricks logged since."""

    def __init__(self, node, pattern="brick.*.log"):
        self.files = {path: path.stat().st_size for path in node.logs.glob(pattern)}

    def text(self):
        texts = []
        for path, size in self.files.items():
            with contextlib.suppress(OSError), open(path, errors="replace") as file:
                file.seek(size)
                texts.append(file.read())
        return "\n".join(texts)
