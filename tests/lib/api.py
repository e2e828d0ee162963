# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""What the API tests have in common: refusals in their wire form, streams, and NBD handles."""

import json
import socket

import node as cluster

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def require(condition, text):
    if not condition:
        raise AssertionError(text)


def require_equal(found, wanted, what):
    if found != wanted:
        raise AssertionError(f"{what} is {found!r}, not {wanted!r}")


def wait_equal(find, wanted, what):
    """find() becomes what is wanted, soon."""
    found = []

    def equal():
        found[:] = [find()]
        return found[0] == wanted
    try:
        cluster.wait_until(what, equal)
    except AssertionError:
        require_equal(found[0], wanted, what)


def export_phases(node):
    return {export["status"]["phase"] for export in node.items("/v1/exports")}


def require_error(reply, status, code, part, what):
    """`reply` is (status, body) of a call that must have been refused in the API's form, with `part` in the message."""
    found, body = reply
    if found != status:
        raise AssertionError(f"{what}: status {found}, not {status}: {body}")
    if not isinstance(body, dict) or set(body) != {"error"} or set(body["error"]) != {"code", "message", "details"}:
        raise AssertionError(f"{what}: not the form of an error: {body}")
    error = body["error"]
    if error["code"] != code or part not in error["message"]:
        raise AssertionError(f"{what}: {error}, and {code} with \"{part}\" was expected")
    if not isinstance(error["details"].get("errno"), int) or error["details"]["errno"] <= 0:
        raise AssertionError(f"{what}: no errno in {error}")


def refused(node, method, path, body, status, code, part="", **keywords):
    require_error(node.request(method, path, body, **keywords), status, code, part, f"{method} {path[:120]} {str(body)[:120]}")


def raw(node, data, limit=1 << 20):
    """What the socket answers to these bytes, until it closes or a whole answer is there."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(node.socket))
        client.sendall(data)
        reply = b""
        while len(reply) < limit:
            head, separator, rest = reply.partition(b"\r\n\r\n")
            length = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            if separator and length and len(rest) >= length[0]:
                break
            part = client.recv(65536)
            if not part:
                break
            reply += part
    return reply


def raw_reply(node, data):
    """(status, headers, decoded body) of raw()."""
    head, _, body = raw(node, data).partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines[1:]}
    return int(lines[0].split()[1]), headers, json.loads(body) if body and "json" in headers.get("content-type", "") else body


class Stream:
    """GET of a path with ?watch=1: objects as they come."""

    def __init__(self, node, path, receive_buffer=None):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(str(node.socket))
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        while self.file.readline() not in (b"\r\n", b""):
            pass
        self.left = b""

    def __iter__(self):
        return self

    def __next__(self):
        """The next change; the end of the stream ends the iteration."""
        while b"\n" not in self.left:
            size = self.file.readline().strip()
            if not size or int(size, 16) == 0:
                raise StopIteration
            self.left += self.file.read(int(size, 16))
            self.file.readline()
        line, _, self.left = self.left.partition(b"\n")
        return json.loads(line)

    def until(self, condition):
        """Changes up to the first for which the condition holds, that one included."""
        found = []
        for change in self:
            found.append(change)
            if condition(change):
                return found
        raise AssertionError(f"the stream ended after {found[-3:]}")

    def close(self):
        self.file.close()
        self.socket.close()


def open_nbd(uri):
    import nbd
    handle = nbd.NBD()
    handle.set_strict_mode(0)
    handle.connect_uri(uri)
    return handle


def open_nbd_soon(uri):
    """After bricks were away: the engine's clients connect to one that came back every three seconds only."""
    import nbd

    def attempt():
        try:
            return open_nbd(uri)
        except nbd.Error:
            return None
    return cluster.wait_until(f"{uri} is served", attempt)
