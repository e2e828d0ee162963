#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""A cluster's authority, tokens, a node that joins, certificates that are revoked: by the command line, on two nodes; tokens that
are replayed, expired, withdrawn, another's or another cluster's; and a join that is interrupted at each of its steps."""

import json
import os
import pathlib
import re
import shutil
import socket
import sqlite3
import ssl
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import node as cluster
from api import require, require_equal, require_error
from certificates import Authority, Certificate, Client

PROGRAM = cluster.BUILD / "bin/gluster-block"


def run(node, *words, fault=None, text=None):
    """The command line on a node, with its configuration and no option for where blockd is."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("BLOCKD_")}
    clean.update({"HOME": str(node.folder / "home"), **({"BLOCKD_FAULT": fault} if fault else {})})
    return subprocess.run([PROGRAM, "--config", node.config, *map(str, words)], capture_output=True, text=True, timeout=120,
                          input=text or "", env=clean)


def good(node, *words, **keywords):
    done = run(node, *words, **keywords)
    require(done.returncode == 0, f"gluster-block {words}: {done}")
    return json.loads(done.stdout) if "--json" in words else done.stdout


def refused(done, part):
    require(done.returncode not in (0, -9) and part in done.stderr, f"\"{part}\" was expected: {done}")


def token(node, *words):
    return good(node, "cluster", "token", "create", *words, "--json")["token"]


def url(node):
    return f"127.0.0.1:{node.api_port}"


def join(node, first, text, *words, **keywords):
    return run(node, "node", "join", url(first), "--token-file", "-", "--address", "127.0.0.1", "--listen", url(node), *words,
               text=text + "\n", **keywords)


def begin(first):
    """cluster init: once, and again without another effect; an administrator's certificate that works."""
    require_equal(good(first, "cluster", "token", "list", "--json"), {"tokens": []}, "the tokens at first")
    refused(run(first, "cluster", "token", "create"), "gluster-block cluster init")
    said = good(first, "cluster", "init", "--listen", url(first))
    require("SHA-256" in said and "systemctl reload blockd" in said, f"cluster init says {said}")
    again = good(first, "cluster", "init", "--listen", url(first))
    require_equal(re.search("SHA-256 ([0-9a-f]{64})", again)[1], re.search("SHA-256 ([0-9a-f]{64})", said)[1], "the fingerprint, asked twice")
    refused(run(first, "cluster", "init", "--listen", "127.0.0.1:1"), "[api] listen = 127.0.0.1:")
    home = first.folder / "home/.config/blockd"
    require_equal(sorted(os.listdir(home)), ["ca-cert.pem", "client-cert.pem", "client-key.pem", "client.conf"], "the administrator's files")
    require_equal(os.stat(home / "client-key.pem").st_mode & 0o777, 0o600, "the mode of a key")
    first.restart()
    admin = Certificate(home / "client-cert.pem", home / "client-key.pem")
    authority = type("Given", (), {"cert": home / "ca-cert.pem"})
    client = Client(authority, admin, first.api_port)
    cluster.wait_until("it listens", lambda: served(client))
    listed = good(first, "certificate", "list", "--json")["certificates"]
    require_equal(sorted((c["name"], c["role"], c["revoked"]) for c in listed), [("admin", "admin", False), ("node1", "node", False)],
                  "the certificates")
    # The client's configuration that was written lacks only where the cluster is.
    require(run(first, "--endpoint", f"https://{url(first)}", "node", "list").returncode == 0, "a call with the certificate that was issued")
    return client


def served(client):
    try:
        return client.request("GET", "/healthz", timeout=5)[0] == 200
    except OSError:
        return False


def tokens(first):
    made = good(first, "cluster", "token", "create", "--ttl", "120", "--json")
    require(re.fullmatch(r"[0-9a-f]{16}\.[0-9a-f]{64}\.[0-9a-f]{64}", made["token"]), f"a token: {made}")
    listed = good(first, "cluster", "token", "list", "--json")["tokens"]
    require_equal([(t["id"], t["state"]) for t in listed], [(made["id"], "valid")], "the tokens")
    secret = made["token"].split(".")[1]
    for path in (first.state / "store.db", first.state / "store.db-wal", first.logs / "audit.log", first.folder / "blockd.log"):
        require(not path.exists() or secret.encode() not in path.read_bytes(), f"the secret of a token stands in {path}")
    good(first, "cluster", "token", "revoke", made["id"])
    refused(run(first, "cluster", "token", "revoke", made["id"]), "there is no token")
    for ttl in ("59", "604801", "x"):
        require(run(first, "cluster", "token", "create", "--ttl", ttl).returncode != 0, f"a token for {ttl} seconds")
    return made["token"]


def age(first, text):
    """As if the token's time had passed."""
    first.terminate()
    with sqlite3.connect(first.state / "store.db") as store:
        key = "tokens/" + text.split(".")[0]
        tables = [row[0] for row in store.execute("SELECT name FROM sqlite_master WHERE type='table'")]
        name = next(t for t in tables if store.execute(f"SELECT count(*) FROM pragma_table_info('{t}') WHERE name IN ('key','value')").fetchone()[0] == 2
                    and store.execute(f"SELECT count(*) FROM {t} WHERE key = ?", (key,)).fetchone()[0])
        value = json.loads(store.execute(f"SELECT value FROM {name} WHERE key = ?", (key,)).fetchone()[0])
        value["expires"] = "2020-01-01T00:00:00.000Z"
        store.execute(f"UPDATE {name} SET value = ? WHERE key = ?", (json.dumps(value), key))
    first.start()


def bad_tokens(first, second, withdrawn, client):
    """What is no good token says why, and leaves nothing behind on the node."""
    fresh = token(first)
    part = fresh.split(".")
    other = f"{part[0]}.{'0' * 64}.{part[2]}"
    for text, why in (("", "is no join token"), ("x" * 100, "is no join token"), (fresh[:-1], "is no join token"),
                      (withdrawn, "or was withdrawn"), (other, "or was withdrawn"),
                      (f"{part[0]}.{part[1]}.{'1' * 64}", "is not the cluster that the token is for")):
        refused(join(second, first, text), why)
    named = token(first, "--node", "somebody")
    refused(join(second, first, named), "for node somebody only")
    old = token(first)
    age(first, old)
    cluster.wait_until("it listens", lambda: served(client))
    refused(join(second, first, old), "the join token has expired")
    refused(join(second, first, token(first), "--name", "node1"), "there is a node node1")
    refused(join(second, first, fresh, "--name", "a b"), "")
    require(not (second.state / "pki/ca-cert.pem").exists(), "a refused join has left an authority")
    # The API itself: strangers may ask to join, and nothing else.
    stranger = Client(type("Given", (), {"cert": first.folder / "home/.config/blockd/ca-cert.pem"}), None, first.api_port)
    require_error(stranger.request("POST", "/v1/tokens", {}), 401, "unauthenticated", "no client certificate", "a stranger's token")
    body = {"token": fresh, "name": "x", "addresses": ["127.0.0.1"], "request": "no request"}
    require_equal(stranger.request("POST", "/v1/cluster/join", {**body, "token": withdrawn})[0], 403, "a withdrawn token")
    require_equal(stranger.request("POST", "/v1/cluster/join", {**body, "addresses": ["nowhere"]})[0], 400, "no address")
    require_equal(stranger.request("POST", "/v1/cluster/join", {**body, "addresses": []})[0], 400, "no addresses")


def impostor(first, second, folder):
    """A server that is not the cluster's gets no token: it is known by its authority."""
    mallory = Authority(folder / "mallory", "mallory")
    server = mallory.server()
    third = cluster.Node("node3")
    try:
        third.configure({"api": {"listen": url(third), "ca": mallory.cert, "cert": server.cert, "key": server.key, "crl": mallory.list}})
        pki = third.state / "pki"
        pki.mkdir(parents=True)
        shutil.copy(first.state / "pki/ca-cert.pem", pki / "ca-cert.pem")  # it even knows the true one's certificate
        shutil.copy(first.state / "pki/ca-crl.pem", pki / "ca-crl.pem")
        third.start()
        cluster.wait_until("it listens", lambda: "the API is served on" in (third.folder / "blockd.log").read_text(errors="replace"))
        refused(join(second, third, token(first)), "does not show a certificate of the authority")
        require("/v1/cluster/join" not in (third.folder / "blockd.log").read_text(errors="replace"), "the token went to an impostor")
    finally:
        third.terminate()
        third.clean()


def steps(first, second):
    """Interrupted at each step, of the joining side and of the other, the same command ends the join."""
    text = token(first)
    for fault in ("join-request-made", "join-answered", "join-authority-taken"):
        require_equal(join(second, first, text, fault=fault).returncode, -9, f"the end of a join at {fault}")
    def listened():
        return (first.folder / "blockd.log").read_text(errors="replace").count("the API is served on")
    before = listened()
    first.terminate()
    first.start(BLOCKD_FAULT="join-token-used")
    cluster.wait_until("it listens", lambda: listened() > before)
    worker = subprocess.Popen([PROGRAM, "--config", second.config, "node", "join", url(first), "--token", text, "--address", "127.0.0.1",
                               "--listen", url(second)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first.wait_died()
    first.start()
    out, problem = worker.communicate(timeout=120)
    require(worker.returncode == 0 and "joined" in out, f"a join while the other node restarted: {out}{problem}")
    return text


def joined(first, second, used, client):
    """The node serves the API by the cluster's certificates; its token is used up; its key has not left it."""
    require_equal(good(first, "cluster", "token", "list", "--json")["tokens"][0].keys() >= {"id", "state", "expires"}, True, "a token's members")
    states = {t["id"]: (t["state"], t.get("used_by")) for t in good(first, "cluster", "token", "list", "--json")["tokens"]}
    require_equal(states[used.split(".")[0]], ("used", "node2"), "the token that was used")
    audit = (first.logs / "audit.log").read_text()
    records = [record for record in map(json.loads, audit.splitlines()) if record["path"] == "/v1/cluster/join"]
    require_equal([(r["status"], r["who"]["by"], r["request"]["token"], r["request"]["name"]) for r in records][-1],
                  (200, "nobody", "(secret)", "node2"), "the record of a join")
    require(used.split(".")[1] not in audit and "BEGIN" not in audit, "a token, or a file, in the record")
    folder = second.state / "pki"
    require_equal(sorted(os.listdir(folder)), ["ca-bundle.pem", "ca-cert.pem", "ca-crl.pem", "ca-key.pem", "node-cert.pem", "node-key.pem"],
                  "the files of a node")
    for name in ("ca-key.pem", "node-key.pem"):
        require_equal(os.stat(folder / name).st_mode & 0o777, 0o600, f"the mode of {name}")
    require("listen = " + url(second) in second.config.read_text(), "the node's configuration")
    # The token again, from a machine that is not the one that has joined.
    shutil.copytree(folder, second.folder / "kept")
    shutil.rmtree(folder)
    refused(join(second, first, used), "was used already, by node node2")
    shutil.rmtree(folder)
    shutil.copytree(second.folder / "kept", folder)
    # A node of a cluster joins no other one, and its own only as what it is.
    second.start()
    there = Client(type("Given", (), {"cert": folder / "ca-cert.pem"}),
                   Certificate(first.folder / "home/.config/blockd/client-cert.pem", first.folder / "home/.config/blockd/client-key.pem"), second.api_port)
    cluster.wait_until("it listens", lambda: served(there))
    node = Client(type("Given", (), {"cert": folder / "ca-cert.pem"}), Certificate(folder / "node-cert.pem", folder / "node-key.pem"), first.api_port)
    require_equal(node.request("GET", "/v1/nodes")[0], 200, "a node's look at the other")
    require_equal(node.request("POST", "/v1/tokens", {})[0], 403, "a node that makes a token")
    names = {c["name"]: c["role"] for c in good(first, "certificate", "list", "--json")["certificates"]}
    require_equal((names["node1"], names["node2"]), ("node", "node"), "the certificates")


def revoke(first, client):
    """A certificate that is revoked is refused from then on."""
    folder = first.folder / "leaver"
    good(first, "certificate", "issue", "leaver", folder, "--role", "csi")
    leaver = Client(type("Given", (), {"cert": folder / "ca-cert.pem"}), Certificate(folder / "client-cert.pem", folder / "client-key.pem"), first.api_port)
    require_equal(leaver.request("GET", "/v1/volumes")[0], 200, "before it is revoked")
    serial = next(c["serial"] for c in good(first, "certificate", "list", "--json")["certificates"] if c["name"] == "leaver")
    require(f"{serial} of leaver: revoked" in good(first, "certificate", "revoke", serial.upper()), "whose certificate was revoked")
    require_equal(leaver.request("GET", "/v1/volumes")[0], 401, "the first request after it was revoked")
    require("no certificate of that number is known" in good(first, "certificate", "revoke", "00ff"), "a number that nobody has")
    require_equal([c["revoked"] for c in good(first, "certificate", "list", "--json")["certificates"] if c["name"] == "leaver"], [True], "revoked")
    require_equal(client.request("GET", "/v1/volumes")[0], 200, "others")


def sign(first):
    """A request from a file is signed; a certificate with another's key is told before it is tried."""
    folder = first.folder / "signed"
    folder.mkdir()
    key, request = folder / "key.pem", folder / "request.pem"
    subprocess.run(["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x", "-keyout", key,
                    "-out", request], check=True, capture_output=True)
    require("BEGIN CERTIFICATE" in good(first, "certificate", "sign", "app1", "csi", request), "a certificate for a request in a file")
    refused(run(first, "certificate", "sign", "app1", "csi", folder / "none"), "No such file")
    home = first.folder / "home/.config/blockd"
    refused(run(first, "--endpoint", f"https://{url(first)}", "--cert", home / "client-cert.pem", "--key", key, "status"),
            f"{home}/client-cert.pem and {key}: the private key is not the certificate's")


def renew(first):
    """A node signs its own certificate anew, and shows it from then on."""
    def shown():
        with socket.create_connection(("127.0.0.1", first.api_port)) as plain:
            context = ssl.create_default_context(cafile=str(first.state / "pki/ca-cert.pem"))
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
                return connection.getpeercert()["serialNumber"].lower()
    before = shown()
    serial = good(first, "certificate", "renew", "--json")["serial"]
    require(int(serial, 16) != int(before, 16), "a renewed certificate has the same serial number")
    cluster.wait_until("it is shown", lambda: int(shown(), 16) == int(serial, 16))
    require(serial in [c["serial"] for c in good(first, "certificate", "list", "--json")["certificates"]], "it is not recorded")


def main():
    cluster.require_root()
    cluster.require_programs("certtool", "openssl")
    with cluster.Node() as first, cluster.Node("node2") as second:
        second.terminate()
        client = begin(first)
        withdrawn = tokens(first)
        bad_tokens(first, second, withdrawn, client)
        impostor(first, second, second.folder)
        used = steps(first, second)
        joined(first, second, used, client)
        revoke(first, client)
        sign(first)
        renew(first)


if __name__ == "__main__":
    main()
