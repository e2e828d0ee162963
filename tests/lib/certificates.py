# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Certificates that nobody of ours has made, by certtool, and HTTPS calls that show them."""

import datetime
import http.client
import json
import pathlib
import ssl
import subprocess

import node as cluster


def run(*argv):
    subprocess.run(list(map(str, argv)), check=True, capture_output=True, timeout=60)


def moment(days):
    when = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=days)
    return f'"{when:%Y-%m-%d %H:%M:%S} UTC"'


class Certificate:
    def __init__(self, cert, key):
        self.cert, self.key = cert, key


class Authority:
    """An authority of its own in a folder; make() signs, revoke() puts on its list."""

    def __init__(self, folder, name="test authority"):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.cert, self.key, self.list = (self.folder / f"ca-{part}.pem" for part in ("cert", "key", "crl"))
        self.revoked = self.folder / "revoked.pem"
        self.revoked.write_text("")
        (self.folder / "ca.info").write_text(f'cn = "{name}"\nca\ncert_signing_key\ncrl_signing_key\nexpiration_days = 30\n')
        run("certtool", "--generate-privkey", "--key-type=ecdsa", "--outfile", self.key)
        run("certtool", "--generate-self-signed", "--load-privkey", self.key, "--template", self.folder / "ca.info", "--outfile", self.cert)
        self._write_list()

    def _write_list(self):
        (self.folder / "crl.info").write_text("crl_next_update = 30\n")
        given = ["--load-certificate", self.revoked] if self.revoked.read_text() else []
        run("certtool", "--generate-crl", "--load-ca-privkey", self.key, "--load-ca-certificate", self.cert, *given,
            "--template", self.folder / "crl.info", "--outfile", self.list)

    def make(self, name, unit=None, first=-1, last=10, more="tls_www_client"):
        """A certificate whose CN is `name` and whose OU is `unit`, good from `first` to `last` in days from now."""
        cert, key, template = (self.folder / f"{name}-{part}" for part in ("cert.pem", "key.pem", "info"))
        ou = f'unit = "{unit}"\n' if unit else ""
        template.write_text(f'cn = "{name}"\n{ou}signing_key\n{more}\n'
                            f"activation_date = {moment(first)}\nexpiration_date = {moment(last)}\n")
        run("certtool", "--generate-privkey", "--key-type=ecdsa", "--outfile", key)
        run("certtool", "--generate-certificate", "--load-privkey", key, "--load-ca-privkey", self.key, "--load-ca-certificate",
            self.cert, "--template", template, "--outfile", cert)
        return Certificate(cert, key)

    def server(self, name="server", hosts=("127.0.0.1", "::1")):
        return self.make(name, "node", more="tls_www_client\ntls_www_server\n" + "".join(
            f'ip_address = "{h}"\n' if h[0].isdigit() or ":" in h else f'dns_name = "{h}"\n' for h in hosts))

    def revoke(self, certificate):
        self.revoked.write_text(self.revoked.read_text() + certificate.cert.read_text())
        self._write_list()


class Client:
    """Calls over TLS with a certificate (None: without)."""

    def __init__(self, authority, certificate, port, host="127.0.0.1"):
        self.host, self.port = host, port
        self.context = ssl.create_default_context(cafile=str(authority.cert))
        if certificate:
            self.context.load_cert_chain(str(certificate.cert), str(certificate.key))

    def connection(self, timeout=cluster.PATIENCE):
        return http.client.HTTPSConnection(self.host, self.port, timeout=timeout, context=self.context)

    def reply(self, method, path, body=None, headers=None, timeout=cluster.PATIENCE):
        """(status, headers, decoded body)"""
        connection = self.connection(timeout)
        try:
            payload = json.dumps(body) if isinstance(body, (dict, list)) else body
            connection.request(method, path, payload, headers or {})
            reply = connection.getresponse()
            text = reply.read()
            is_json = "json" in (reply.getheader("Content-Type") or "")
            return reply.status, reply.headers, json.loads(text) if is_json and text else text.decode(errors="replace")
        finally:
            connection.close()

    def request(self, method, path, body=None, **keywords):
        status, _, reply = self.reply(method, path, body, **keywords)
        return status, reply
