#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""TLS of blockd-nbd: certificates and pre-shared keys, good and bad, what is refused before STARTTLS, and SIGHUP."""
import os
import pathlib
import shutil
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import nbd
from bricks import wait_until
from nbdserver import MIB, Fixture, NbdServer, skip

if not shutil.which("certtool") or not shutil.which("psktool"):
    skip("needs certtool and psktool (gnutls-bin)")


def run(*argv):
    subprocess.run(argv, check=True, capture_output=True, timeout=60)


def authority(folder, name):
    os.makedirs(folder, exist_ok=True)
    key, template, cert = (f"{folder}/{name}-{part}" for part in ("key.pem", "info", "cert.pem"))
    pathlib.Path(template).write_text(f"cn = {name}\nca\ncert_signing_key\nexpiration_days = 10\n", encoding="ascii")
    run("certtool", "--generate-privkey", "--key-type=ecdsa", "--outfile", key)
    run("certtool", "--generate-self-signed", "--load-privkey", key, "--template", template, "--outfile", cert)
    return key, cert


def certificate(folder, name, ca, lines):
    key, template, cert = (f"{folder}/{name}-{part}" for part in ("key.pem", "info", "cert.pem"))
    pathlib.Path(template).write_text(f"cn = {name}\nsigning_key\n{lines}\n", encoding="ascii")
    run("certtool", "--generate-privkey", "--key-type=ecdsa", "--outfile", key)
    run("certtool", "--generate-certificate", "--load-privkey", key, "--load-ca-privkey", ca[0], "--load-ca-certificate",
        ca[1], "--template", template, "--outfile", cert)


def client_folder(folder, name, ca, lines, trusted=None):
    """A folder as libnbd wants it."""
    made = f"{folder}/{name}"
    os.makedirs(made)
    certificate(made, "client", ca, lines)
    shutil.copy((trusted or ca)[1], f"{made}/ca-cert.pem")
    return made


GOOD = "tls_www_client\nexpiration_days = 10"


def connect(server, mode=nbd.TLS_REQUIRE, certificates=None, psk=None, user=None, name="testvol/one"):
    handle = nbd.NBD()
    handle.set_export_name(name)
    handle.set_tls(mode)
    if certificates:
        handle.set_tls_certificates(certificates)
    if psk:
        handle.set_tls_psk_file(psk)
        handle.set_tls_username(user)
    handle.connect_tcp("127.0.0.1", str(server.port))
    return handle


def refused(server, **keywords):
    try:
        handle = connect(server, **keywords)
        handle.pread(512, 0)  # TLS 1.3 tells a client of its bad certificate after the handshake
    except nbd.Error:
        return
    raise AssertionError(f"served {keywords}")


def works(server, **keywords):
    handle = connect(server, **keywords)
    assert handle.get_tls_negotiated()
    data = os.urandom(3 * MIB)
    handle.pwrite(data, 0)
    assert handle.pread(len(data), 0) == data
    # Many at a time, so that both directions are busy.
    buffers = [nbd.Buffer(256 * 1024) for _ in range(32)]
    done = []
    for index, buffer in enumerate(buffers):
        handle.aio_pread(buffer, index * 4096, lambda error: done.append(error) or 1)
    while len(done) < len(buffers):
        handle.poll(-1)
    assert not any(done)
    assert all(buffer.to_bytearray() == data[i * 4096:i * 4096 + 256 * 1024] for i, buffer in enumerate(buffers))
    handle.flush()
    handle.shutdown()


def certificates(fixture, folder):
    ca, other = authority(f"{folder}/ca", "ca"), authority(f"{folder}/other", "other")
    shutil.copy(ca[1], f"{folder}/ca-cert.pem")
    certificate(folder, "server", ca, "dns_name = localhost\nip_address = 127.0.0.1\ntls_www_server\nexpiration_days = 10")
    good = client_folder(folder, "good", ca, GOOD)
    stranger = client_folder(folder, "stranger", other, GOOD, trusted=ca)
    expired = client_folder(folder, "expired", ca, "tls_www_client\nactivation_date = \"2020-01-01 00:00:00 UTC\"\n"
                            "expiration_date = \"2020-02-01 00:00:00 UTC\"")
    purpose = client_folder(folder, "purpose", ca, "tls_www_server\nexpiration_days = 10")
    bare = f"{folder}/bare"
    os.makedirs(bare)
    shutil.copy(ca[1], f"{bare}/ca-cert.pem")

    server = fixture.server
    server.stop()
    server.configure(f"tls = require\ntls-dir = {folder}\n")
    server.start()
    works(server, certificates=good)
    for bad in (stranger, expired, purpose, bare):
        refused(server, certificates=bad)
    nothing_before_starttls(server)
    listed = subprocess.run(["nbdinfo", "--list", f"nbds://127.0.0.1:{server.port}?tls-certificates={good}"],
                            capture_output=True, text=True, timeout=60, check=True).stdout
    assert "testvol/one" in listed, listed
    local = nbd.NBD()
    local.connect_uri(server.unix_uri("one"))  # the unix socket is for this machine: in the clear
    local.shutdown()
    return good, other, server


def nothing_before_starttls(server):
    refused(server, mode=nbd.TLS_DISABLE)
    handle = nbd.NBD()
    handle.set_opt_mode(True)
    handle.connect_tcp("127.0.0.1", str(server.port))
    handle.set_export_name("testvol/one")
    for call in (handle.opt_info, handle.opt_go, lambda: handle.opt_list(lambda name, text: 0),
                 lambda: handle.opt_list_meta_context(lambda name: 0)):
        try:
            call()
        except nbd.Error:
            continue
        raise AssertionError("an option was answered before STARTTLS")
    handle.opt_abort()


def reload(server, folder, good, other):
    """After SIGHUP another authority counts, for connections to come; the one that is there goes on."""
    running = connect(server, certificates=good)
    shutil.copy(other[1], f"{folder}/ca-cert.pem")
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "reloaded" in server.log_text(), "the reload")
    refused(server, certificates=good)
    running.pread(512, 0)
    running.shutdown()
    # Material that cannot be used leaves the old in place.
    pathlib.Path(f"{folder}/ca-cert.pem").write_text("nonsense", encoding="ascii")
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "reload:" in server.log_text(), "the refused reload")
    assert server.process.poll() is None


def keys(fixture, folder):
    os.makedirs(f"{folder}/none", exist_ok=True)
    file, wrong = f"{folder}/keys.psk", f"{folder}/wrong.psk"
    run("psktool", "-u", "alice", "-p", file)
    run("psktool", "-u", "alice", "-p", wrong)
    run("psktool", "-u", "mallory", "-p", wrong)
    server = fixture.server
    server.stop()
    server.configure(f"tls = require\ntls-dir = {folder}/none\npsk-file = {file}\n")
    server.start()
    works(server, psk=file, user="alice")
    refused(server, psk=wrong, user="alice")
    refused(server, psk=wrong, user="mallory")
    secret = pathlib.Path(file).read_text(encoding="ascii").split(":")[1].strip()
    assert secret not in server.log_text(), "a key is in the log"


def allowed_in_the_clear(fixture, folder):
    server = fixture.server
    server.stop()
    server.configure(f"tls = allow\ntls-dir = {folder}/none\npsk-file = {folder}/keys.psk\n")
    server.start()
    works(server, psk=f"{folder}/keys.psk", user="alice")
    connect(server, mode=nbd.TLS_DISABLE).shutdown()


def start_fails(fixture, folder, settings, *words):
    server = NbdServer(f"{folder}/refused", fixture.bricks.client_volfile, settings=settings, start=False)
    done = server.spawn(stderr=subprocess.PIPE)
    text = done.communicate(timeout=30)[1].decode()
    assert done.returncode == 1 and all(word in text for word in words), (done.returncode, text)


with Fixture(count=1) as fixture:
    folder = f"{fixture.folder}/tls"
    os.makedirs(folder)
    fixture.server.grant("one", 16 * MIB)
    good, other, server = certificates(fixture, folder)
    reload(server, folder, good, other)
    keys(fixture, folder)
    allowed_in_the_clear(fixture, folder)
    start_fails(fixture, folder, f"tls = require\ntls-dir = {folder}/none\n", "ca-cert.pem", "psk-file")
    start_fails(fixture, folder, "listen = 0.0.0.0\n", "0.0.0.0", "not loopback", "plain-anywhere")
    start_fails(fixture, folder, f"listen = 0.0.0.0\ntls = require\ntls-dir = {folder}/none\n", "ca-cert.pem")
    start_fails(fixture, folder, f"tls = allow\npsk-file = {folder}/missing\n", "missing")
