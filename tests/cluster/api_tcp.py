#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""The API over TCP with mutual TLS: who is let in, with which role to what, and who is sent away; certificates that change while
blockd runs; names of requests; the record of changes. Certificates are certtool's."""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import sys
import time
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import node as cluster
from api import refused, require, require_equal, require_error
from certificates import Authority, Client

ROLES = ("admin", "node", "csi", "metrics")


def log_of(node):
    return (node.folder / "blockd.log").read_text(errors="replace")


def log_has(node, text):
    cluster.wait_until(f"the log says \"{text}\"", lambda: text in log_of(node))


def install(node, authority, server):
    """Puts the files where blockd looks for them; each in one step, the certificate last."""
    folder = node.state / "pki"
    folder.mkdir(parents=True, exist_ok=True)
    for source, name in ((authority.cert, "ca-cert.pem"), (authority.list, "ca-crl.pem"), (server.key, "node-key.pem"),
                         (server.cert, "node-cert.pem")):
        shutil.copy(source, folder / f"{name}.new")
        os.rename(folder / f"{name}.new", folder / name)


def listens(node, host="127.0.0.1"):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        return probe.connect_ex((host, node.api_port)) == 0


def late_certificates(node, authority, server):
    """blockd runs without any; it listens as soon as they are there."""
    require(not listens(node), "somebody listens before there is a certificate")
    log_has(node, "API over TLS: it waits for certificates, which gluster-block cluster init makes")
    install(node, authority, server)
    node.reload()
    for host in ("127.0.0.1", "::1"):
        cluster.wait_until(f"blockd listens on {host}", lambda h=host: listens(node, h))


def roles(node, clients):
    """Every row of the table with every role, as the document says; what is not allowed says what it takes."""
    document = node.get("/v1/openapi.json")
    for path, item in document["paths"].items():
        concrete = path.replace("{", "").replace("}", "")
        for method, operation in item.items():
            allowed = operation["x-roles"]
            require("admin" in allowed, f"{method} {path} is not for admin")
            for role in ROLES:
                status, body = clients[role].request(method.upper(), concrete, b"{" if method != "get" else None)
                denied = status == 403 and body["error"]["code"] == "permission_denied"
                require_equal(denied, role not in allowed, f"{method} {concrete} is denied to {role} ({status}: {body})")
                if denied:
                    text = body["error"]["message"]
                    require(f"the role {role}" in text and f"takes the role {' or '.join(w for w in allowed)}" in text, text)
    for path in ("/metrics", "/healthz", "/readyz", "/v1/version"):
        require_equal(clients["metrics"].request("GET", path)[0], 200, f"{path} for metrics")
    require_equal({path for path, item in document["paths"].items() if "metrics" in item.get("get", {}).get("x-roles", [])},
                  {"/metrics", "/healthz", "/readyz", "/v1/version", "/v1/cluster/authority"}, "what metrics may read")
    require_equal({path for path, item in document["paths"].items() for operation in item.values() if "none" in operation["x-roles"]},
                  {"/v1/cluster/authority", "/v1/cluster/join"}, "what strangers may call")
    require_error(clients["csi"].request("POST", "/v1/volumes", {"name": "v"}), 403, "permission_denied",
                  "csi has the role csi, and POST /v1/volumes takes the role admin", "a csi driver making a volume")
    # What is there is told to those who belong to the cluster only.
    require_equal(clients["metrics"].request("GET", "/v1/nothing")[0], 404, "an unknown path")
    require_equal(clients["metrics"].request("PUT", "/v1/volumes")[0], 405, "an unknown method")


def strangers(node, authority, other):
    """Wrong certificates and none: a status, the API's form, and a line in the log."""
    time.sleep(1)  # the log takes so many lines about strangers in a second

    def sent_away(certificate, status, code, part, path="/v1/volumes", method="GET"):
        client = Client(authority, certificate, node.api_port)
        found, headers, body = client.reply(method, path)
        require_error((found, body), status, code, part, f"{method} {path} with {certificate and certificate.cert.name}")
        require_equal(headers["X-Request-Id"], body["error"]["details"]["request_id"], "the request's name")
        # To guess again takes another handshake.
        require_equal(headers.get("Connection") == "close", part in ("mallory", "late", "early"), f"{part} is cut off")
        log_has(node, headers["X-Request-Id"])
        time.sleep(0.25)

    sent_away(None, 401, "unauthenticated", "no client certificate")
    sent_away(None, 401, "unauthenticated", "no client certificate", "/v1/nothing", "POST")
    sent_away(None, 401, "unauthenticated", "no client certificate", "/healthz")
    sent_away(other.make("mallory", "admin"), 403, "permission_denied", "mallory")
    sent_away(authority.make("late", "admin", first=-5, last=-1), 401, "unauthenticated", "late")
    sent_away(authority.make("early", "admin", first=2, last=5), 401, "unauthenticated", "early")
    sent_away(authority.make("odd", "king"), 403, "permission_denied", "odd")
    sent_away(authority.make("plain"), 403, "permission_denied", "plain")
    sent_away(authority.make("plain2"), 403, "permission_denied", "plain2", "/healthz")


def not_tls(node):
    """Clients that do not speak TLS, that say nothing, or that break off: the others are served meanwhile."""
    with socket.create_connection(("127.0.0.1", node.api_port)) as plain:
        plain.settimeout(cluster.PATIENCE)
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        reply = b""
        try:
            while part := plain.recv(4096):
                reply += part
        except ConnectionResetError:
            pass
        require(reply.startswith(b"HTTP/1.1 400") and b"speaks TLS only" in reply, f"plain HTTP gets {reply}")
        body = json.loads(reply.partition(b"\r\n\r\n")[2])
        require_equal(body["error"]["code"], "invalid_argument", "the code for plain HTTP")
    log_has(node, "refused 127.0.0.1: it speaks no TLS")
    for noise in (b"\0" * 500, b"\x16\x03\x01\xff\xff" + b"A" * 2000, os.urandom(300), b"SSH-2.0-x\r\n", b"\x16"):
        with socket.create_connection(("127.0.0.1", node.api_port)) as client:
            client.sendall(noise)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    try:
        with socket.create_connection(("127.0.0.1", node.api_port)) as client, old.wrap_socket(client):
            raise AssertionError("TLS 1.1 is served")
    except (ssl.SSLError, ConnectionResetError):
        pass


def ended(client):
    """Has the server closed the connection?"""
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def slow_clients(node, admin):
    """One address gets so many connections and no more; silent clients are cut off, and one whose request never ends, however
    alive it is. Others are served meanwhile."""
    limit = node.settings["api"]["connections-per-address"]
    time.sleep(1)  # the log takes so many lines about strangers in a second
    plain = socket.create_connection(("127.0.0.1", node.api_port))
    slow = admin.context.wrap_socket(plain, server_hostname="127.0.0.1")
    slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    held = [socket.create_connection(("127.0.0.1", node.api_port)) for _ in range(limit + 5)]
    log_has(node, "refused 127.0.0.1: it has too many connections already")
    require_equal(Client(admin.authority, admin.certificate, node.api_port, "::1").request("GET", "/healthz")[0], 200, "::1 meanwhile")
    require_equal(node.request("GET", "/healthz")[0], 200, "the unix socket meanwhile")

    def slow_is_cut_off():
        try:
            slow.sendall(b"x")
        except OSError:
            return True
        return False
    cluster.wait_until("a request that never ends is cut off", slow_is_cut_off)
    cluster.wait_until("silent clients are cut off", lambda: all(map(ended, held)))
    log_has(node, "refused 127.0.0.1: it made no request in time")
    require_equal(admin.request("GET", "/healthz")[0], 200, "a client that came later")
    for client in (slow, *held):
        client.close()


def require_status(client, status, what, path, **keywords):
    """A server that has heard enough answers and hangs up: a client that is still sending may not see the answer."""
    def answer():
        with contextlib.suppress(OSError):
            return client.request("GET", path, **keywords)[0]
        return None
    require_equal(cluster.wait_until(f"an answer to {what}", answer), status, what)


def limits(node, admin):
    """What is too large is refused in the API's form or by a status, and what is odd is an error, as on the unix socket."""
    require_error(admin.request("POST", "/v1/blocks", b" " * (300 << 10)), 413, "out_of_range", "larger than", "a large body")
    require_status(admin, 414, "a long path", "/v1/" + "x" * 100000)
    require_status(admin, 431, "a long header", "/healthz", headers={"X-Long": "x" * 60000})
    require_error(admin.request("POST", "/v1/blocks", b"{"), 400, "invalid_argument", "no JSON", "half an object")
    require_error(admin.request("GET", "/v1/volumes/%00"), 400, "invalid_argument", "", "a NUL")


def too_often(node, authority):
    """One certificate may ask so often; another one is not slowed down by it."""
    node.configure({"api": {"rate": 5}})
    starts = log_of(node).count("serves node")
    node.reload()
    cluster.wait_until("blockd starts anew", lambda: log_of(node).count("serves node") > starts)
    node.wait_ready()
    cluster.wait_until("it listens", lambda: listens(node))
    busy, calm = (Client(authority, authority.make(name, "csi"), node.api_port) for name in ("busy", "calm"))
    answers = [busy.request("GET", "/v1/volumes") for _ in range(30)]
    require_equal(answers[0][0], 200, "the first request")
    over = [answer for answer in answers if answer[0] == 429]
    require(over, f"30 requests in a row: {[answer[0] for answer in answers]}")
    require_error(over[0], 429, "resource_exhausted", "more than 5 requests a second", "a request too many")
    require_equal(calm.request("GET", "/v1/volumes")[0], 200, "another certificate's request")
    cluster.wait_until("it may ask again", lambda: busy.request("GET", "/v1/volumes")[0] == 200)
    node.configure({"api": {"rate": 500}})
    node.restart()
    cluster.wait_until("it listens", lambda: listens(node))


def names(node, admin):
    """X-Request-Id: a sane one is taken, another is replaced; it is in the answer, in errors, in the log."""
    _, headers, _ = admin.reply("GET", "/healthz", headers={"X-Request-Id": "my-name.1_2"})
    require_equal(headers["X-Request-Id"], "my-name.1_2", "a sane name")
    for odd in ("", "a b", "x" * 65, "ä".encode().decode("latin-1"), "a\"b"):
        _, headers, body = admin.reply("GET", "/v1/nothing", headers={"X-Request-Id": odd})
        require(headers["X-Request-Id"] != odd and len(headers["X-Request-Id"]) == 36, f"{odd!r} became {headers['X-Request-Id']}")
        require_equal(body["error"]["details"]["request_id"], headers["X-Request-Id"], "the name in an error")
    admin.request("DELETE", "/v1/jobs/none", headers={"X-Request-Id": "find-me"})
    log_has(node, "DELETE /v1/jobs/none by admin admin at 127.0.0.1")
    log_has(node, "find-me")
    seen = node.request("GET", "/v1/nothing")[1]["error"]["details"]["request_id"]
    require_equal(len(seen), 36, "the name of a request on the unix socket")


def records(node):
    path = node.logs / "audit.log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def audit(node, clients):
    """Changes are recorded with who, what and its end; reads are not; a file that was moved away is made anew."""
    clients["admin"].request("PATCH", "/v1/nodes/node1", {"zone": "z1"}, headers={"X-Request-Id": "audit-1"})
    node.patch("/v1/nodes/node1", {"zone": "z2"})
    clients["csi"].request("PATCH", "/v1/nodes/node1", {"zone": "z3"}, headers={"X-Request-Id": "audit-2"})
    clients["admin"].request("GET", "/v1/nodes/node1", headers={"X-Request-Id": "audit-3"})
    clients["admin"].request("DELETE", "/v1/volumes/none", headers={"X-Request-Id": "audit-4"})
    found = {record["id"]: record for record in records(node)}
    first = found["audit-1"]
    require_equal((first["who"]["by"], first["who"]["name"], first["who"]["role"], first["who"]["address"]),
                  ("certificate", "admin", "admin", "127.0.0.1"), "who")
    require_equal((first["method"], first["path"], first["object"], first["request"], first["status"], first["node"]),
                  ("PATCH", "/v1/nodes/node1", "nodes/node1", {"zone": "z1"}, first["status"], "node1"), "what")
    require(first["status"] in (200, 202) and first["revision"] > 0 and first["time"].endswith("Z"), f"the end of it: {first}")
    local = [record for record in records(node) if record.get("request") == {"zone": "z2"}]
    require_equal((local[0]["who"]["by"], local[0]["who"]["uid"], local[0]["who"]["user"], local[0]["who"]["pid"]),
                  ("socket", 0, "root", os.getpid()), "who was on the socket")
    require_equal((found["audit-2"]["status"], found["audit-2"]["code"]), (403, "permission_denied"), "a refused change")
    require("audit-3" not in found, "a read is recorded")
    require_equal(found["audit-4"]["code"], "not_found", "a change of nothing")
    require_equal(os.stat(node.logs / "audit.log").st_mode & 0o777, 0o600, "the mode of the record")
    os.rename(node.logs / "audit.log", node.logs / "audit.log.1")
    node.reload()
    cluster.wait_until("the record is made anew", (node.logs / "audit.log").exists)
    node.patch("/v1/nodes/node1", {"zone": "z4"})
    require_equal([record["request"] for record in records(node)], [{"zone": "z4"}], "the new record")


def revoked(node, authority, server, clients):
    """A certificate is revoked while its owner watches: the stream ends, and no request is served any more."""
    certificate = authority.make("leaver", "admin")
    leaver = Client(authority, certificate, node.api_port)
    connection = leaver.connection()
    connection.request("GET", "/v1/volumes?watch=1")
    stream = connection.getresponse()
    require_equal(stream.status, 200, "a watch")
    kept = clients["admin"].connection()
    kept.request("GET", "/v1/volumes?watch=1")
    going_on = kept.getresponse()
    authority.revoke(certificate)
    install(node, authority, server)
    node.reload()
    require_equal(stream.read(), b"", "the stream of a revoked certificate")
    require_error(leaver.request("GET", "/v1/volumes"), 401, "unauthenticated", "leaver", "a revoked certificate")
    require_equal(clients["admin"].request("GET", "/v1/volumes")[0], 200, "another certificate")
    require(not going_on.closed, "another's stream has ended")
    kept.close()
    connection.close()


def renewed(node, authority):
    """The server's certificate is renewed: the next connection sees the new one, without a restart."""
    def serial():
        context = ssl.create_default_context(cafile=str(authority.cert))
        with socket.create_connection(("127.0.0.1", node.api_port)) as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as client:
            return client.getpeercert()["serialNumber"]
    before = serial()
    install(node, authority, authority.server("renewed"))
    cluster.wait_until("the new certificate is shown", lambda: serial() != before)  # no SIGHUP: it looks by itself
    # Half of a pair is not taken over.
    good = serial()
    shutil.copy(authority.key, node.state / "pki" / "node-key.pem")
    node.reload()
    log_has(node, "API over TLS: TLS cannot use the certificate and its key")
    require_equal(serial(), good, "the certificate shown while the files do not belong together")
    install(node, authority, authority.server("repaired"))
    node.reload()
    cluster.wait_until("the pair is taken over", lambda: serial() != good)


def curl(node, authority, certificate):
    """A client that is not Python's, over IPv6."""
    done = subprocess.run(["curl", "-sS", "--cacert", authority.cert, "--cert", certificate.cert, "--key", certificate.key,
                           f"https://[::1]:{node.api_port}/v1/version"], capture_output=True, text=True, timeout=60)
    require(done.returncode == 0 and json.loads(done.stdout)["api"] == "v1", f"curl: {done}")


def main():
    cluster.require_root()
    cluster.require_programs("certtool", "curl")
    with cluster.Node() as node:
        node.terminate()
        node.configure({"api": {"listen": f"127.0.0.1:{node.api_port},[::1]:{node.api_port}", "connections-per-address": 20}})
        node.start()
        authority = Authority(node.folder / "ca")
        server = authority.server()
        certificates = {role: authority.make(role, role) for role in ROLES}
        clients = {role: Client(authority, certificates[role], node.api_port) for role in ROLES}
        admin = clients["admin"]
        admin.authority, admin.certificate = authority, certificates["admin"]
        late_certificates(node, authority, server)
        curl(node, authority, certificates["admin"])
        roles(node, clients)
        strangers(node, authority, Authority(node.folder / "other", "another authority"))
        names(node, admin)
        audit(node, clients)
        limits(node, admin)
        not_tls(node)
        revoked(node, authority, server, clients)
        renewed(node, authority)
        slow_clients(node, admin)
        too_often(node, authority)


if __name__ == "__main__":
    main()
