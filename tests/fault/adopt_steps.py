#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 300
"""blockd dies between two steps of an adoption, or of the writing of a manifest: run again, all is as it was."""

import pathlib
import shutil
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import node as cluster
import steps
import traces
from faults import require

BLOCKS = 110  # more records than one transaction of an adoption takes


def identities(node):
    return {f"{kind} {item['name']}": item["uid"] for kind in ("devices", "volumes", "blocks", "exports")
            for item in node.items(f"/v1/{kind}")}


def healthy(node, what):
    report = node.cli("examine", "--json")
    require(not report["findings"], f"{what}: {report['findings']}")
    faults.require_nothing_leaked(node, what)


def lose_machine(node):
    node.stop()
    shutil.rmtree(node.state)
    shutil.rmtree(node.run)


def died(node, what):
    status = node.wait_died()
    require(status == -signal.SIGKILL, f"{what}: blockd ended with {status}:\n{node.log_tail()}")


def wait_ready(node):
    node.wait_volume("v")
    for kind, phase in (("blocks", "ready"), ("exports", "live")):
        cluster.wait_until(f"the {kind} are {phase}", lambda kind=kind, phase=phase: all(
            item["status"]["phase"] == phase for item in node.items(f"/v1/{kind}")))


def adopt_dying(node, point, before):
    words = ("device", "adopt", "--apply", node.folder / "images" / "d1.img")
    lose_machine(node)
    node.start(BLOCKD_FAULT=point)
    # The command line goes on trying: it is ended with the daemon that it waits for.
    answer = None
    try:
        answer = node.request("POST", "/v1/devices/adopt", {"paths": [str(words[3])], "apply": True})
    except OSError:
        pass
    require(answer is None, f"the adoption never came by {point}: {answer}")
    died(node, point)
    node.start()
    left = [folder for folder in traces.mounts(node.run)]
    require(not left, f"dead at {point}, and a look is left mounted: {left}")
    if not point.startswith(("adopt.after-end", "adopt.after-look")):
        told = node.cli_run("examine").stdout
        require("adoption-open" in told, f"dead at {point}, and the examination says {told}")
    node.cli(*words)
    wait_ready(node)
    require(identities(node) == before, f"dead at {point}, the adoption made something else")
    healthy(node, f"adopted after a death at {point}")


def write_dying(node, point):
    """A manifest is written whole at a start, and appended to after a change."""
    node.terminate()
    node.start(wait=False, BLOCKD_FAULT=point)
    if point.startswith("manifest.after-append"):
        node.wait_ready()
        node.get("/v1/examine")  # it waits until the manifest is whole
        steps.Request("POST", "/v1/blocks", {"volume": "v", "name": "late", "size": "1MiB"}).send(node)
    died(node, point)
    node.start()
    if point.startswith("manifest.after-append"):
        wait_ready(node)
        node.delete_block("v/late")
    healthy(node, f"after a death at {point}")


def main():
    cluster.require_root()
    points = {point for point in steps.points_in_sources() if point.split(".")[0] in ("adopt", "manifest")}
    cases = sorted(points) + ["adopt.after-records:2"]
    with cluster.Node() as node:
        node.single("v", "512MiB")
        for number in range(BLOCKS):
            node.create_block(f"v/b{number}", "1MiB", export=number % 20 == 0)
        before = identities(node)
        healthy(node, "before all")
        for point in cases:
            if point.startswith("adopt."):
                adopt_dying(node, point, before)
            else:
                write_dying(node, point)
            print(f"ok {point}", flush=True)


if __name__ == "__main__":
    main()
