# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Operations of the API that blockd dies in, at each point where its sources say so: what a case is, and its run."""

import http.client
import re
import signal
import subprocess
import uuid

import faults
import node as cluster


def points_in_sources():
    """The names of all points that blockd's sources can die at."""
    lines = subprocess.run(["grep", "-rhoE", r'fault_point\("[^"]+"\)', "blockd"], cwd=cluster.TOP, check=True,
                           capture_output=True, text=True).stdout
    return set(re.findall(r'"([^"]+)"', lines))


class Request:
    """One change, which can be sent again: it carries its Idempotency-Key."""

    def __init__(self, method, path, body=None, gone=False):
        self.method, self.path, self.body, self.gone = method, path, body, gone
        self.key = str(uuid.uuid4())

    def again(self):
        return Request(self.method, self.path, self.body, self.gone)

    def send(self, node):
        """(status, body), or None when blockd died before it answered."""
        mark = "&" if "?" in self.path else "?"
        try:
            return node.request(self.method, f"{self.path}{mark}wait={cluster.PATIENCE}", self.body,
                                timeout=2 * cluster.PATIENCE, headers={"Idempotency-Key": self.key})
        except (OSError, http.client.HTTPException):
            return None

    def must(self, node):
        reply = self.send(node)
        if not reply or reply[0] >= 300:
            raise AssertionError(f"{self.method} {self.path} was answered with {reply}")
        return reply

    def __str__(self):
        return f"{self.method} {self.path}"


class Case:
    """An operation, what must be there before it, and what takes it back."""

    def __init__(self, name, request, before=(), undo=()):
        self.name, self.request, self.before, self.undo = name, request, before, undo

    def prepare(self, node):
        for request in self.before:
            request.again().must(node)

    def take_back(self, node):
        for request in self.undo:
            request.again().must(node)


def identity(reply):
    """What two answers to the same request must have in common."""
    status, body = reply
    return status, body.get("uid"), body.get("spec"), body.get("name")


def die_in(node, point, request, after=1):
    """Runs the request in a blockd that dies at the point, at the latest so many seconds after it answered. False: it did not."""
    node.terminate()
    node.start(wait=False, BLOCKD_FAULT=point)
    try:
        node.wait_ready()
        reply = request.send(node)
    except AssertionError:
        reply = None  # it came by the point in its first pass
    try:
        # What the answer leaves to do is done right after it, or at the latest with the reconciler's next looks.
        status = node.process.wait(timeout=cluster.PATIENCE if not reply else after)
    except subprocess.TimeoutExpired:
        return False
    faults.require(status == -signal.SIGKILL, f"at {point} blockd ended with {status}:\n{node.log_tail()}")
    return True


def run(node, case, point):
    """True: it died there, and all was well again after the next start."""
    what = f"{case.name}, dead at {point}"
    case.prepare(node)
    request = case.request.again()
    died = die_in(node, point, request)
    if not died:
        node.terminate()
    node.start()
    first = request.must(node)
    faults.require_nothing_leaked(node, what)
    second = request.must(node)
    if not request.gone:
        faults.require(identity(first) == identity(second), f"{what}: one key, two answers: {first} and {second}")
    case.take_back(node)
    case.prepare(node)
    case.request.again().must(node)
    faults.require_nothing_leaked(node, f"{what}, the same once more")
    case.take_back(node)
    faults.require_nothing_leaked(node, f"{what}, taken back")
    return died
