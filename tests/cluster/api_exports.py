#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Exports, preallocation jobs and metrics by the API, with NBD clients as witnesses."""

import os
import pathlib
import re
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import node as cluster
from api import MIB, export_phases, open_nbd, open_nbd_soon, refused, require, require_equal, wait_equal


def is_refused(uri):
    import nbd
    try:
        open_nbd(uri).shutdown()
        return False
    except nbd.Error:
        return True


def exports(node):
    import nbd
    node.create_block("v/b", "8MiB", export=False)
    require(is_refused(node.unix_uri("v/b")), "a block without an export is served")
    made = node.post("/v1/exports", {"volume": "v", "block": "b"})
    require_equal((made["name"], made["spec"], made["status"]["phase"]), ("node1/v/b", {"protocol": "nbd", "read_only": False}, "live"), "the export")
    require_equal(made["status"]["uri"], f"nbd://127.0.0.1:{node.nbd_port}/v/b", "the export's URI")
    refused(node, "POST", "/v1/exports", {"volume": "v", "block": "b", "node": "127.0.0.1"}, 409, "already_exists", "node1")
    refused(node, "POST", "/v1/exports", {"volume": "v", "block": "b", "protocol": "iscsi"}, 400, "invalid_argument", "nbd")
    require_equal(node.get("/v1/exports/node1/v/b")["uid"], made["uid"], "the export by its name")
    disk = open_nbd(made["status"]["uri"])
    disk.pwrite(b"x" * 4096, 0)
    disk.flush()
    # Nothing cuts clients off unless force says so, and the refusal names them.
    for method, path, body in (("DELETE", "/v1/exports/node1/v/b", None), ("DELETE", "/v1/blocks/v/b", None),
                               ("POST", "/v1/blocks/v/b/rename", {"name": "c"}),
                               ("PATCH", "/v1/volumes/v", {"state": "stopped"})):
        refused(node, method, path, body, 409, "failed_precondition", "v/b by 127.0.0.1:")
    stop = node.cli_run("volume", "stop", "v")
    require(stop.returncode and "use force" in stop.stderr, f"what the command line says: {stop.stderr}")
    disk.pwrite(b"x" * 4096, 4096)
    # By force they are: when the answer is there, no write gets through any more.
    require_equal(node.delete("/v1/exports/node1/v/b?force=1"), {}, "the answer to the delete")
    try:
        disk.pwrite(b"y" * 4096, 0)
        raise SystemError("a client writes through a withdrawn export")
    except nbd.Error:
        pass
    require(is_refused(node.unix_uri("v/b")), "a withdrawn export is served")
    refused(node, "DELETE", "/v1/exports/node1/v/b", None, 404, "not_found", "doesn't exist")

    read_only = node.post("/v1/exports", {"volume": "v", "block": "b", "node": "node1", "read_only": True})
    require_equal(read_only["spec"]["read_only"], True, "read_only")
    disk = open_nbd(node.unix_uri("v/b"))
    require(disk.is_read_only(), "the client is not told that it is read-only")
    require_equal(bytes(disk.pread(4096, 0)), b"x" * 4096, "data by a read-only export")
    for attempt in (lambda: disk.pwrite(b"z" * 512, 0), lambda: disk.trim(4096, 0), lambda: disk.zero(4096, 0)):
        try:
            attempt()
            raise SystemError("a client changed a read-only export")
        except nbd.Error as error:
            require(error.errno == "EPERM", f"a refused write is {error.errno}")
    require_equal(bytes(disk.pread(4096, 0)), b"x" * 4096, "data after refused writes")
    disk.shutdown()
    node.delete_block("v/b")
    require_equal(node.items("/v1/exports"), [], "exports of a deleted block")

    hosts = {"volume": "v", "name": "h", "size": "1MiB"}
    refused(node, "POST", "/v1/blocks", {**hosts, "hosts": ["node1", "127.0.0.1"]}, 400, "invalid_argument", "named twice")
    refused(node, "POST", "/v1/blocks", {**hosts, "hosts": ["10.1.1.1"]}, 404, "not_found", "10.1.1.1 is no node")
    require_equal(node.items("/v1/blocks"), [], "blocks after refused creates")


def shrunk(node):
    """Who was connected before a shrink cannot write beyond the new end, which would make the file grow again."""
    import nbd
    node.create_block("v/k", "8MiB")
    disk = open_nbd(node.unix_uri("v/k"))
    disk.pwrite(b"k" * 4096, 0)
    disk.pwrite(b"k" * 4096, 6 * MIB)
    disk.flush()
    node.request("PATCH", "/v1/blocks/v/k?force=1&wait=60", {"size": 4 * MIB})
    try:
        disk.pwrite(b"z" * 4096, 6 * MIB)
        raise SystemError("a client writes beyond the end of a block that has shrunk")
    except nbd.Error:
        pass
    again = open_nbd_soon(node.unix_uri("v/k"))
    require_equal((again.get_size(), bytes(again.pread(4096, 0))), (4 * MIB, b"k" * 4096), "a block that has shrunk")
    again.pwrite(b"l" * 4096, 4 * MIB - 4096)
    again.shutdown()
    # What was cut off does not come back with the next growth.
    node.request("PATCH", "/v1/blocks/v/k?wait=60", {"size": 8 * MIB})
    again = open_nbd_soon(node.unix_uri("v/k"))
    require_equal((again.get_size(), bytes(again.pread(4096, 6 * MIB))), (8 * MIB, bytes(4096)), "a block that has grown again")
    again.shutdown()
    node.delete_block("v/k")


def answered_when_live(node):
    """Bricks that were away: what is made when they are back is answered when a client can connect to it, however long the
    engine's clients take to find them again."""
    node.create_block("v/first", "4MiB")
    open_nbd(node.unix_uri("v/first")).shutdown()
    bricks = node.brick_pids("v")
    for pid in bricks:
        os.kill(pid, signal.SIGKILL)
    cluster.wait_until("all bricks run again", lambda: not {0, *bricks} & set(node.brick_pids("v")))
    cluster.wait_until("the volume serves", lambda: node.volume_status("v")["phase"] in ("online", "degraded"))
    node.create_block("v/again", "4MiB")
    open_nbd(node.unix_uri("v/again")).shutdown()
    node.create_block("v/plain", "4MiB", export=False)
    made = node.post("/v1/exports", {"volume": "v", "block": "plain"})
    require_equal(made["status"]["phase"], "live", "an export that is answered")
    # Where it is not to be had, the answer says that the request is not done yet.
    os.kill(node.nbd_pid(), signal.SIGSTOP)
    cluster.wait_until("an export is seen as offline", lambda: node.get("/v1/exports/node1/v/again")["status"]["phase"] == "offline")
    status, _ = node.request("POST", "/v1/blocks?wait=1", {"volume": "v", "name": "later", "size": "4MiB", "hosts": ["node1"]})
    os.kill(node.nbd_pid(), signal.SIGCONT)
    require_equal(status, 202, "the status of a create whose export does not answer")
    open_nbd_soon(node.unix_uri("v/later")).shutdown()
    for name in ("first", "again", "plain", "later"):
        node.delete_block(f"v/{name}")


def survives(node):
    """Exports and their clients outlive blockd, and what blockd missed is put right when it starts."""
    for i in range(3):
        node.create_block(f"v/s{i}", "4MiB")
    disk = open_nbd(node.unix_uri("v/s0"))
    disk.pwrite(b"s" * 4096, 0)
    node.kill()
    disk.pwrite(b"t" * 4096, 0)
    grants = node.run / "grants" / "v"
    (grants / "s1.json").unlink()
    (grants / "ghost.json").write_text((grants / "s2.json").read_text().replace('"s2"', '"ghost"'))
    node.start()
    wait_equal(lambda: sorted(f.name for f in grants.iterdir()), ["s0.json", "s1.json", "s2.json"], "the grants after a start")
    wait_equal(lambda: export_phases(node), {"live"}, "the exports after a start")
    require_equal(bytes(disk.pread(4096, 0)), b"t" * 4096, "data through a client that stayed")
    disk.shutdown()
    for i in range(3):
        node.delete_block(f"v/s{i}")


def restarted(node):
    """After its volume's start an export is live when requests get through, and not before."""
    node.create_block("v/l", "4MiB")
    disk = open_nbd(node.unix_uri("v/l"))
    disk.pwrite(b"l" * 4096, 0)
    disk.flush()
    node.patch("/v1/volumes/v?force=1", {"state": "stopped"})
    stopped = cluster.wait_until("the export of a stopped volume is offline", lambda: (
        status := node.get("/v1/exports/node1/v/l")["status"])["phase"] == "offline" and status)
    require("does not reach the bricks" in stopped["error"], f"the reason is: {stopped['error']}")
    node.patch("/v1/volumes/v", {"state": "started"})
    cluster.wait_until("the export is live", lambda: node.get("/v1/exports/node1/v/l")["status"]["phase"] == "live")
    again = open_nbd(node.unix_uri("v/l"))
    require_equal(bytes(again.pread(4096, 0)), b"l" * 4096, "data after the volume's start")
    again.pwrite(b"m" * 4096, 0)
    again.flush()
    again.shutdown()
    disk.shutdown()
    node.delete_block("v/l")


def jobs(node):
    status, made = node.request("POST", "/v1/blocks", {"volume": "v", "name": "full", "size": "64MiB", "prealloc": "full"})
    require_equal(status, 202, "a create with prealloc full")
    block = cluster.wait_until("the block is ready", lambda: (b := node.get("/v1/blocks/v/full"))["status"]["phase"] == "ready" and b)
    require(block["status"]["used"] >= 64 * MIB, f"a preallocated block uses {block['status']['used']} bytes")
    job = node.items("/v1/jobs")[0]
    require_equal((job["spec"], job["status"]["phase"], job["status"]["done"], job["status"]["total"]),
                  ({"kind": "preallocate", "object": "blocks/v/full", "object_uid": block["uid"]}, "succeeded", 64 * MIB, 64 * MIB), "the job")
    require(job["status"]["started"] <= job["status"]["finished"], "the job's times")
    require("job" not in block["status"], "the block names a job that has ended")

    # What it grows by is allocated too.
    require_equal(node.patch("/v1/blocks/v/full", {"size": "96MiB"})["status"]["phase"], "ready", "the phase after growth")
    require(node.get("/v1/blocks/v/full")["status"]["used"] >= 96 * MIB, "what a preallocated block grew by is a hole")
    require_equal(len(node.items("/v1/jobs")), 2, "jobs after growth")
    for job in node.items("/v1/jobs"):
        require_equal(node.delete(f"/v1/jobs/{job['name']}"), {}, "the answer to forgetting a job")
    require_equal(node.items("/v1/jobs"), [], "jobs after they were forgotten")
    node.delete_block("v/full")

    refused(node, "POST", "/v1/blocks", {"volume": "v", "name": "big", "size": node.volume_status("v")["size"] // 512 * 512, "prealloc": "full"},
            507, "resource_exhausted", "too little to allocate")
    require_equal(node.volume_status("v")["provisioned"], 0, "promises after a refused preallocation")


def interrupted_jobs(node):
    """A job that a crash or a full disk interrupts goes on, ends, or says why not; the block follows it."""
    node.restart(BLOCKD_FAULT="job.preallocate.after-step:1")
    node.request("POST", "/v1/blocks", {"volume": "v", "name": "cut", "size": "192MiB", "prealloc": "full", "hosts": ["node1"]})
    node.wait_died()
    node.start()
    cluster.wait_until("the job ends after a crash", lambda: node.get("/v1/blocks/v/cut")["status"]["phase"] == "ready")
    require(node.get("/v1/blocks/v/cut")["status"]["used"] >= 192 * MIB, "a job that was cut short left holes")
    cluster.wait_until("the export follows", lambda: node.get("/v1/exports/node1/v/cut")["status"]["phase"] == "live")
    open_nbd(node.unix_uri("v/cut")).shutdown()
    node.delete_block("v/cut")

    # Stopped before its work: the volume is away. What touches the block is refused, a cancel is not. (The job
    # may have ended before the volume did; there is nothing to cancel then.)
    node.restart(BLOCKD_FAULT="block.create.after-record")
    try:
        node.request("POST", "/v1/blocks", {"volume": "v", "name": "held", "size": "64MiB", "prealloc": "full"})
    except OSError:
        pass
    except Exception as error:
        require("RemoteDisconnected" in type(error).__name__, f"the create ended with {error!r}")
    node.wait_died()
    node.start()
    node.patch("/v1/volumes/v", {"state": "stopped"})
    block = node.get("/v1/blocks/v/held")
    if block["status"]["phase"] != "ready" and node.get(f"/v1/jobs/{block['status']['job']}")["status"]["phase"] != "succeeded":
        refused(node, "POST", "/v1/blocks/v/held/rename", {"name": "other"}, 409, "failed_precondition", "preallocated by job")
        refused(node, "PATCH", "/v1/blocks/v/held", {"size": "128MiB"}, 409, "failed_precondition", "preallocated by job")
        node.delete(f"/v1/jobs/{block['status']['job']}")
    node.patch("/v1/volumes/v", {"state": "started"})
    cluster.wait_until("the block is ready without its job", lambda: node.get("/v1/blocks/v/held")["status"]["phase"] == "ready")
    node.delete_block("v/held")
    for job in node.items("/v1/jobs"):
        node.delete(f"/v1/jobs/{job['name']}")

    # No room: the free space that the check saw is taken away before the job comes to it.
    node.create_block("v/small", "1MiB", export=False)
    node.patch("/v1/volumes/v", {"overcommit": 2})
    node.request("POST", "/v1/blocks", {"volume": "v", "name": "x", "size": "256MiB", "prealloc": "full"})
    node.request("POST", "/v1/blocks", {"volume": "v", "name": "y", "size": "256MiB", "prealloc": "full"})
    ends = lambda: [node.get(f"/v1/blocks/v/{n}")["status"] for n in ("x", "y") if node.request("GET", f"/v1/blocks/v/{n}")[0] == 200]
    statuses = cluster.wait_until("both jobs end", lambda: all(s["phase"] in ("ready", "failed") for s in ends()) and ends())
    failed = [s for s in statuses if s["phase"] == "failed"]
    if len(statuses) == 2:  # both were taken before either had used its space
        require(len(failed) == 1 and "No space" in failed[0]["error"], f"two preallocations beyond the room: {statuses}")
        name = next(n for n in ("x", "y") if node.get(f"/v1/blocks/v/{n}")["status"]["phase"] == "failed")
        job = next(j for j in node.items("/v1/jobs") if j["status"]["phase"] == "failed")
        require("No space" in job["status"]["error"] and job["spec"]["object"] == f"blocks/v/{name}", f"the failed job is {job}")
        cluster.wait_until("the status names the block", lambda: any(f"block v/{name} failed" in p for p in node.get("/v1/status")["problems"]))
        refused(node, "DELETE", f"/v1/jobs/{job['name']}?revision=1", None, 409, "aborted", "revision")
        node.delete(f"/v1/jobs/{job['name']}")
        cluster.wait_until("a block whose failed job was forgotten is served as it is",
                           lambda: node.get(f"/v1/blocks/v/{name}")["status"]["phase"] == "ready")
    for name in ("x", "y", "small"):
        node.request("DELETE", f"/v1/blocks/v/{name}?wait=60")
    require_equal(node.items("/v1/blocks"), [], "deletes on a full volume")


SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)')


def parse_metrics(text):
    """{(name, labels): value} of Prometheus' text format; strict in what a scraper refuses."""
    types, helps, samples, family_done, current = {}, {}, {}, set(), None
    require(text.endswith("\n"), "the last line of the metrics has no end")
    for line in text.splitlines():
        if line.startswith(("# HELP ", "# TYPE ")):
            kind, name, rest = line[2:].split(" ", 2)
            known = helps if kind == "HELP" else types
            require(name not in known, f"two {kind} lines of {name}")
            known[name] = rest
            if name != current:
                require(name not in family_done, f"{name} comes in two places")
                family_done.add(current)
                current = name
            continue
        require(line and not line.startswith("#"), f"a line that is neither sample nor comment: {line!r}")
        match = SAMPLE.fullmatch(line)
        require(match, f"no sample: {line!r}")
        name, labels, value = match.groups()
        family = re.sub(r"_(bucket|sum|count)$", "", name) if types.get(re.sub(r"_(bucket|sum|count)$", "", name)) == "histogram" else name
        require(family == current and family in types and family in helps, f"a sample outside its family: {line!r}")
        key = (name, frozenset(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels or "")))
        require(key not in samples, f"the sample {key} comes twice")
        samples[key] = float(value)
        require(types[family] != "counter" or samples[key] >= 0, f"a negative counter: {line!r}")
    require(set(types.values()) <= {"gauge", "counter", "histogram"}, f"types are {set(types.values())}")
    for (name, labels), value in samples.items():
        if name.endswith("_bucket"):
            rest = {pair for pair in labels if pair[0] != "le"}
            buckets = sorted((float(dict(l)["le"]), v) for (n, l), v in samples.items() if n == name and {p for p in l if p[0] != "le"} == rest)
            require([v for _, v in buckets] == sorted(v for _, v in buckets), f"buckets of {name} fall")
            require_equal(buckets[-1], (float("inf"), samples[(name[:-6] + "count", frozenset(rest))]), f"the last bucket of {name}")
    return samples


def metrics(node):
    node.create_block("v/m", "8MiB")
    value = lambda samples, name, **labels: samples.get((name, frozenset(labels.items())))
    require(value(parse_metrics(node.get("/metrics")), "blockd_nbd_operations_total", volume="v", block="m", operation="write") in (None, 0), "writes of a new block")
    disk = open_nbd_soon(node.unix_uri("v/m"))
    for i in range(7):
        disk.pwrite(b"m" * 4096, i * 4096)
    for i in range(3):
        disk.pread(8192, 0)
    disk.flush()
    samples = parse_metrics(node.get("/metrics"))
    block = {"volume": "v", "block": "m"}
    for operation, count, size in (("write", 7, 7 * 4096), ("read", 3, 3 * 8192), ("flush", 1, None)):
        require_equal(value(samples, "blockd_nbd_operations_total", operation=operation, **block), count, f"operations of {operation}")
        require_equal(value(samples, "blockd_nbd_latency_seconds_count", operation=operation, **block), count, f"latencies of {operation}")
        if size:
            require_equal(value(samples, "blockd_nbd_bytes_total", operation=operation, **block), size, f"bytes of {operation}")
    disk.shutdown()
    for name, labels, wanted in (("blockd_volume_up", {"volume": "v"}, 1), ("blockd_volume_blocks", {"volume": "v"}, 1),
                                 ("blockd_volume_provisioned_bytes", {"volume": "v"}, 8 * MIB), ("blockd_brick_up", {"volume": "v", "node": "node1", "device": "d1"}, 1),
                                 ("blockd_device_ready", {"device": "node1/d1"}, 1), ("blockd_process_running", {"process": "nbd"}, 1),
                                 ("blockd_process_running", {"process": "brick v/node1/d1"}, 1)):
        require_equal(value(samples, name, **labels), wanted, f"{name}{labels}")
    require(value(samples, "blockd_reconcile_total") > 0, "no reconciliation was counted")
    require(value(samples, "blockd_volume_free_bytes", volume="v") < value(samples, "blockd_volume_size_bytes", volume="v"), "free and size of the volume")
    node.delete_block("v/m")


def main():
    cluster.require_root()
    with cluster.Node() as node:
        parse_metrics(node.get("/metrics"))
        node.single("v", "512MiB")
        for part in (exports, answered_when_live, shrunk, survives, restarted, jobs, interrupted_jobs, metrics):
            part(node)
            print(part.__name__, flush=True)


if __name__ == "__main__":
    main()
