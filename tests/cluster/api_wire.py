#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""The API's wire form on a node without volumes: errors, bad requests, hostile names, OpenAPI, who may call, one blockd a state."""

import json
import os
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import node as cluster
from api import raw, raw_reply, refused, require, require_equal, require_error

TABLE = (cluster.TOP / "rpc/api.c").read_text()


def errors(node):
    refused(node, "GET", "/v1/nothing", None, 404, "not_found", "/v1/nothing")
    refused(node, "GET", "/", None, 404, "not_found")
    refused(node, "GET", "/v1/volumes/none", None, 404, "not_found", "volume none does not exist")
    refused(node, "GET", "/v1/blocks/v/none", None, 404, "not_found", "block v/none doesn't exist")
    refused(node, "GET", "/v1/blocks/none", None, 404, "not_found", "volume none does not exist")
    for kind, name in (("nodes", "x"), ("devices", "node1/x"), ("exports", "node1/v/b"), ("jobs", "x")):
        refused(node, "GET", f"/v1/{kind}/{name}", None, 404, "not_found", "doesn't exist")
        if kind != "nodes":
            refused(node, "DELETE", f"/v1/{kind}/{name}", None, 404, "not_found", "doesn't exist")
    refused(node, "POST", "/v1/blocks", {"volume": "none", "name": "b", "size": "1GiB"}, 404, "not_found", "volume none does not exist")
    refused(node, "POST", "/v1/exports", {"volume": "none", "block": "b"}, 404, "not_found", "none/b")
    refused(node, "POST", "/v1/exports", {"volume": "v", "block": "b", "node": "10.9.8.7"}, 404, "not_found", "10.9.8.7 is no node")
    refused(node, "POST", "/v1/devices", {"name": "d", "path": "/dev/none"}, 404, "not_found", "/dev/none")
    refused(node, "POST", "/v1/devices", {"name": "d", "path": "/dev/null"}, 400, "invalid_argument", "/dev/null")
    refused(node, "POST", "/v1/devices", {"name": "d", "path": "relative"}, 400, "invalid_argument", "absolute")
    refused(node, "POST", "/v1/devices", {"name": "d", "path": "/tmp/../etc/x"}, 400, "invalid_argument", "plain form")
    refused(node, "POST", "/v1/devices", {"name": "d", "path": "/x", "node": "other"}, 404, "not_found", "other")
    refused(node, "POST", "/v1/volumes", {"name": "v"}, 507, "resource_exhausted", "no device was added yet")
    refused(node, "POST", "/v1/volumes", {"name": "v" * 101}, 400, "invalid_argument", "longer than 100")
    refused(node, "POST", "/v1/volumes", {"name": "v", "template": "single", "devices": ["d1", "d2"]}, 400, "invalid_argument", "takes 1 device")
    refused(node, "POST", "/v1/volumes", {"name": "v", "template": "single", "devices": ["x y"]}, 400, "invalid_argument", "x y")
    refused(node, "PATCH", "/v1/nodes/node1", {"addresses": []}, 400, "invalid_argument", "addresses is empty")
    refused(node, "PATCH", "/v1/nodes/node1", {"addresses": ["somewhere"]}, 400, "invalid_argument", "somewhere")
    refused(node, "PATCH", "/v1/nodes/node1", {"addresses": ["10.0.0.1"]}, 400, "invalid_argument", "configuration")
    refused(node, "PATCH", "/v1/nodes/node1", {"addresses": ["127.0.0.1", "::1", "0:0::1"]}, 400, "invalid_argument", "named twice")
    require_equal(node.patch("/v1/nodes/node1", {"addresses": ["127.0.0.1", "10.0.0.1"], "zone": "z"})["spec"],
                  {"state": "enabled", "addresses": ["127.0.0.1", "10.0.0.1"], "zone": "z"}, "the node's spec")
    require_equal(node.patch("/v1/nodes/node1", {"zone": "none"})["spec"].get("zone"), None, "the zone of a node of no zone")


def methods(node):
    """Every path with every method that it does not have: 405, with the methods that it has."""
    routes = re.findall(r'(?:LIST|GET)(?:_FOR\([A-Z0-9_]+, |\()API_[A-Z_]+, "([^"]+)"', TABLE)
    paths = {}
    for path in routes:
        paths.setdefault(path, set()).add("GET")
    for method, path in re.findall(r'CHANGE\([A-Z_]+, "([A-Z]+)", "([^"]+)"', TABLE):
        paths.setdefault(path, set()).add(method)
    for method, path in re.findall(r'\[API_[A-Z_]+\] = \{API_[A-Z_]+, "([A-Z]+)", "([^"]+)"', TABLE):
        paths.setdefault(path, set()).add(method)
    require(len(paths) >= 20, f"the table of routes was not understood: {paths}")
    for path, known in paths.items():
        concrete = re.sub(r"\{[a-z]+\}", "x", path)
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"} - known:
            status, headers, body = raw_reply(node, f"{method} {concrete} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            require_error((status, body), 405, "unimplemented", f"{method} is not a method", f"{method} {concrete}")
            allowed = {word.strip() for word in headers.get("allow", "").split(",")}
            require_equal(allowed, known | ({"HEAD"} if "GET" in known else set()), f"Allow of {concrete}")
        if "GET" in known:
            head = raw(node, f"HEAD {concrete} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            require(head.partition(b"\r\n\r\n")[2] == b"", f"HEAD {concrete} has a body")
    return paths


def bodies(node):
    create = "/v1/blocks"
    good = {"volume": "v", "name": "b", "size": "1GiB"}
    for text, part in (("", "no JSON"), ("{", "no JSON"), ("[]", "object"), ("null", "no JSON"), ("3", ""), ('"x"', ""),
                       ('{"volume":"v","volume":"w","name":"b","size":1048576}', "duplicate"),
                       ('{"volume":"v\\u0000w","name":"b","size":1048576}', ""), ('{"size":1e999}', ""),
                       ('{"size":99999999999999999999}', ""), ("{" + '"a":[' * 5000 + "]" * 5000 + "}", ""), ("\xff\xfe", "")):
        refused(node, "POST", create, text.encode("latin-1"), 400, "invalid_argument", part)
    for change, part in (({"extra": 1}, "extra"), ({"size": True}, "size"), ({"size": -1}, "size"), ({"size": 1.5}, "size"),
                         ({"size": "1XB"}, "1XB"), ({"size": None}, "size"), ({"size": {}}, "size"),
                         ({"volume": 5}, "volume"), ({"name": []}, "name"), ({"name": ""}, "empty"), ({"name": "a/b"}, "a/b"),
                         ({"name": ".."}, ".."), ({"name": "-x"}, "-x"), ({"name": "x" * 255}, "longer than"), ({"name": "ä"}, "letters"),
                         ({"block_size": "512"}, "block_size"), ({"block_size": 511}, "block_size"), ({"block_size": 8192}, "block_size"),
                         ({"prealloc": "some"}, '"no", "full"'), ({"prealloc": 1}, "prealloc"), ({"hosts": "node1"}, "hosts"),
                         ({"hosts": [1]}, "hosts"), ({"hosts": ["x"] * 65}, "too many"), ({"hosts": [""]}, "hosts"), ({"storage": "x" * 5000}, "storage"),
                         ({"storage": "a\nb"}, "control")):
        refused(node, "POST", create, {**good, **change}, 400, "invalid_argument", part)
    refused(node, "POST", create, {**good, "size": "9EiB"}, 400, "out_of_range", "9EiB")
    for missing in ("volume", "name"):
        refused(node, "POST", create, {k: v for k, v in good.items() if k != missing}, 400, "invalid_argument", f"{missing} is missing")
    refused(node, "POST", "/v1/volumes", {"name": "v", "overcommit": 0}, 400, "invalid_argument", "overcommit")
    refused(node, "POST", "/v1/volumes", {"name": "v", "overcommit": 1001}, 400, "invalid_argument", "overcommit")
    refused(node, "POST", "/v1/volumes", {"name": "v", "overcommit": "2"}, 400, "invalid_argument", "overcommit")
    refused(node, "DELETE", "/v1/volumes/v", {"force": True}, 400, "invalid_argument", "takes no body")
    refused(node, "GET", "/v1/volumes", {"x": 1}, 400, "invalid_argument", "takes no body")
    refused(node, "POST", create, b" " * (300 << 10), 413, "out_of_range", "larger than")
    # A body without a length, in chunks, past the limit.
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    status, _, body = raw_reply(node, b"POST /v1/blocks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 6 + b"0\r\n\r\n")
    require_error((status, body), 413, "out_of_range", "larger than", "a chunked body")


def queries(node):
    for query, part in (("wait=-1", "wait"), ("wait=3601", "wait"), ("wait=abc", "wait"), ("wait=", "wait"), ("wait=1&wait=2", "twice"),
                        ("wait=1e3", "wait"), ("wait=99999999999999999999", "wait"), ("revision=x", "revision"), ("force=maybe", "force"),
                        ("unknown=1", "unknown"), ("limit=1", "limit"), ("%ff=1", "query parameter"), ("wait=%00", "NUL")):
        refused(node, "DELETE", f"/v1/volumes/v?{query}", None, 400, "invalid_argument", part)
    for query, part in (("limit=-1", "limit"), ("limit=100001", "limit"), ("watch=2", "watch"), ("after=x", "after"), ("wait=1", "wait"),
                        ("start=%20", ""), ("start=%ff", "start")):
        refused(node, "GET", f"/v1/blocks?{query}", None, 400, "invalid_argument", part)
    refused(node, "GET", "/v1/status?x=1", None, 400, "invalid_argument", "x")


def hostile_names(node):
    """Whatever a name looks like, the answer is an error in the API's form, and valid JSON."""
    for name in ("%2F", "a%2Fb", "%00", "a%00b", "..", "%2e%2e", ".", "%20", "%zz", "%f", "%", "ä".encode().hex(), "%c3%a4", "%ff", "x" * 300,
                 "%0a", "%1b%5b31m", "a'b", "a\"b", "{volume}", "*", "$(id)", ";", "~", "-rf"):
        for path in (f"/v1/volumes/{name}", f"/v1/blocks/v/{name}", f"/v1/blocks/{name}/b", f"/v1/exports/node1/v/{name}"):
            status, _, body = raw_reply(node, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            require(status in (400, 404), f"GET {path} answers {status}: {body}")
            require_error((status, body), status, "invalid_argument" if status == 400 else "not_found", "", f"GET {path}")
    # Bytes that no URL may have, and messages that would quote them.
    for path in (b"/v1/volumes/\xff\xfe", b"/\xff\xff", b"/v1/\x1b[31m", b"/v1/\xc2\x9b31m", b"/v1/" + "ö".encode() * 150):
        status, _, body = raw_reply(node, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        require(status in (400, 404) and body["error"]["message"].isprintable(), f"GET {path} answers {status} {body}")
    log = (node.folder / "blockd.log").read_bytes()
    require(b"\x1b" not in log and b"\xc2\x9b" not in log, "a control character of a request reached the log")
    status, _, body = raw_reply(node, b"GET /v1/" + b"x" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    require_equal(status, 414, "the answer to a path of 100,000 characters")


def check_schema(document, schema, where):
    """Every reference leads somewhere, and every schema says what it is."""
    if "$ref" in schema:
        prefix, name = schema["$ref"].rsplit("/", 1)
        require(prefix == "#/components/schemas" and name in document["components"]["schemas"], f"{where}: {schema['$ref']} leads nowhere")
        return
    if "anyOf" in schema:
        for i, part in enumerate(schema["anyOf"]):
            check_schema(document, part, f"{where}.anyOf[{i}]")
        return
    require(schema.get("type") in ("object", "array", "string", "integer", "number", "boolean"), f"{where}: type {schema.get('type')}")
    if schema["type"] == "array":
        check_schema(document, schema["items"], f"{where}[]")
    for name, part in schema.get("properties", {}).items():
        check_schema(document, part, f"{where}.{name}")
    require(set(schema.get("required", [])) <= set(schema.get("properties", {})), f"{where} requires what it does not describe")


def openapi(node, paths):
    document = node.get("/v1/openapi.json")
    require(re.fullmatch(r"3\.0\.\d+", document["openapi"]), f"openapi is {document['openapi']}")
    require(document["info"]["title"] and document["info"]["version"], "info is not complete")
    require_equal({path: {m.upper() for m in item} for path, item in document["paths"].items()}, paths, "the paths of openapi.json")
    for name, schema in document["components"]["schemas"].items():
        check_schema(document, schema, name)
    codes = document["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"]["enum"]
    require(len(codes) == len(set(codes)) and {"not_found", "internal", "aborted"} <= set(codes), f"the codes of errors are {codes}")
    ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    require_equal(len(ids), len(set(ids)), "number of different operations")
    sizes = document["components"]["schemas"]["VolumeCreate"]["properties"]
    require_equal((sizes["sets"]["maximum"], sizes["overcommit"]["minimum"], sizes["access"]["maxItems"]), (120, 0.1, 64), "limits")
    made = {path for path, item in document["paths"].items() if "201" in item.get("post", {}).get("responses", {})}
    require_equal(made, {f"/v1/{noun}" for noun in ("devices", "volumes", "blocks", "shares", "exports", "tokens", "certificates")},
                  "where 201 is answered")
    for path, item in document["paths"].items():
        for method, operation in item.items():
            where = f"{method} {path}"
            named = {p["name"] for p in operation["parameters"] if p["in"] == "path" and p["required"]}
            require_equal(named, set(re.findall(r"\{([a-z]+)\}", path)), f"path parameters of {where}")
            keys = [(p["in"], p["name"]) for p in operation["parameters"]]
            require_equal(len(keys), len(set(keys)), f"number of different parameters of {where}")
            for parameter in operation["parameters"]:
                check_schema(document, parameter["schema"], f"{where} {parameter['name']}")
            require("default" in operation["responses"] and len(operation["responses"]) >= 2, f"responses of {where}")
            for response in [*operation["responses"].values(), *([operation["requestBody"]] if "requestBody" in operation else [])]:
                for kind, content in response["content"].items():
                    check_schema(document, content["schema"], f"{where} {kind}")
            if method in ("post", "patch"):
                # A verb on an object may need no words beside its name.
                require("requestBody" in operation or "}/" in path or path in ("/v1/cluster/init", "/v1/certificates/renew"), f"{where} has no body")
                # What changes no object of the store is done when it is answered.
                waits = any(p["name"] == "Idempotency-Key" for p in operation["parameters"])
                require_equal("202" in operation["responses"], waits, f"{where} has a 202")
            require("requestBody" not in operation or method not in ("get", "delete"), f"{where} takes a body")


def small_reads(node):
    require_equal(node.request("GET", "/healthz"), (200, "ok\n"), "/healthz")
    require_equal(node.request("GET", "/readyz")[0], 200, "/readyz")
    version = node.get("/v1/version")
    require(version["api"] == "v1" and re.fullmatch(r"\d+\.\d+\.\d+", version["version"]), f"/v1/version is {version}")
    status = node.get("/v1/status")
    require_equal((status["node"], status["phase"], status["nodes"], status["blocks"]), ("node1", "ok", 1, 0), "/v1/status")
    for kind in ("devices", "volumes", "blocks", "exports", "jobs"):
        require_equal(node.get(f"/v1/{kind}")["items"], [], f"/v1/{kind}")


def web_pages(node):
    """A browser names the page that makes it call: that is refused, and the connection with it."""
    before = node.get("/v1/nodes/node1")["revision"]
    page = b"PATCH /v1/nodes/node1 HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.example\r\nContent-Length: 12\r\n\r\n{\"zone\":\"e\"}"
    status, headers, body = raw_reply(node, page)
    require_error((status, body), 403, "permission_denied", "web pages", "a request of a web page")
    require_equal(headers["connection"].lower(), "close", "Connection")
    require_equal(node.get("/v1/nodes/node1")["revision"], before, "the node's revision")


def whole_token(node):
    """Who gives a whole token where its id is wanted does not write its secret into the log."""
    secret = "ab" * 32
    refused(node, "DELETE", f"/v1/tokens/0011223344556677.{secret}.{secret}", None, 404, "not_found", "no token 0011223344556677")
    refused(node, "GET", f"/v1/tokens/0011223344556677%2e{secret}", None, 405, "unimplemented", "/v1/tokens/0011223344556677")
    for path in (node.folder / "blockd.log", node.logs / "audit.log"):
        require(secret not in path.read_text(errors="replace"), f"a token's secret is in {path}")


def who_may_call(node):
    """Root may; nobody may not, though the folder lets everybody look."""
    os.chmod(node.folder, 0o755)
    script = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(node.socket)!r})"
    done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", script],
                          capture_output=True, text=True)
    require(done.returncode != 0 and "PermissionError" in done.stderr, f"nobody could connect: {done}")
    require_equal(os.stat(node.socket).st_mode & 0o777, 0o600, "the mode of the socket without a group")


def one_blockd(node):
    """A second blockd on the same state says whose it is, and disturbs nothing."""
    other = node.folder / "other.conf"
    other.write_text(node.config.read_text().replace(str(node.run), str(node.folder / "run2")))
    done = subprocess.run([cluster.BUILD / "bin/blockd", "--config", other], capture_output=True, text=True, timeout=60, env=node.environment())
    require(done.returncode == 1 and "is open in another process" in done.stderr, f"a second blockd on one state: {done}")
    other.write_text(node.config.read_text().replace(str(node.state), str(node.folder / "state2")))
    done = subprocess.run([cluster.BUILD / "bin/blockd", "--config", other], capture_output=True, text=True, timeout=60, env=node.environment())
    require(done.returncode == 1 and str(node.socket) in done.stderr, f"a second blockd on one run folder: {done}")
    require_equal(node.request("GET", "/healthz")[0], 200, "/healthz beside a second blockd")


def reload(node):
    """SIGHUP takes a changed file over, in the same process, without a word to clients; it survives a broken file."""
    log = node.folder / "blockd.log"
    good = node.config.read_text()
    node.config.write_text(good + "nonsense\n")
    node.reload()
    cluster.wait_until("a broken configuration is told", lambda: "the configuration stays as it was" in log.read_text(errors="replace"))
    node.config.write_text(good.replace("log-level = debug", "log-level = info"))
    node.reload()
    cluster.wait_until("the reload is told", lambda: f"{node.config} is taken over" in log.read_text(errors="replace"))
    before = log.read_text(errors="replace").count("GET /healthz")
    node.get("/healthz")
    node.request("DELETE", "/v1/jobs/none")
    cluster.wait_until("a change is logged", lambda: "DELETE /v1/jobs/none" in log.read_text(errors="replace"))
    require_equal(log.read_text(errors="replace").count("GET /healthz"), before, "reads in the log at level info")

    text = node.config.read_text()
    node.config.write_text(text.replace(f"state-dir = {node.state}", "state-dir = /nowhere"))
    node.reload()
    cluster.wait_until("what cannot change is refused", lambda: "daemon.state-dir cannot change" in log.read_text(errors="replace"))

    process, server = node.process.pid, node.nbd_pid()
    started = log.read_text(errors="replace").count("serves node")
    node.config.write_text(text.replace("[engine]", "[engine]\nping-timeout = 7") if "[engine]" in text else text + "\n[engine]\nping-timeout = 7\n")
    node.reload()
    cluster.wait_until("blockd starts anew", lambda: log.read_text(errors="replace").count("serves node") > started)
    cluster.wait_until("it is ready", node.ready)
    require(node.process.poll() is None and node.process.pid == process, "blockd is another process after a reload")
    require_equal(node.nbd_pid(), server, "the NBD server after a reload that did not concern it")
    node.config.write_text(node.config.read_text().replace("[nbd]", "[nbd]\nrequests = 64"))
    node.reload()
    cluster.wait_until("the NBD server has the new settings", lambda: node.nbd_pid() not in (None, server))
    cluster.wait_until("it is ready", node.ready)


def main():
    cluster.require_root()
    with cluster.Node() as node:
        small_reads(node)
        openapi(node, methods(node))
        errors(node)
        bodies(node)
        queries(node)
        hostile_names(node)
        web_pages(node)
        whole_token(node)
        who_may_call(node)
        one_blockd(node)
        reload(node)


if __name__ == "__main__":
    main()
