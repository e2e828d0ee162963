#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
# timeout: 300
"""Two hundred blocks by twenty parallel clients: none lost, none double, all served; and what idle exports cost."""

import concurrent.futures
import os
import pathlib
import sys
import threading
import time
import uuid

import nbd

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import faults
import node as cluster

CLIENTS, BLOCKS = 20, 200


def parallel(count, work):
    """The results of work(0) ... work(count - 1), run by CLIENTS threads that begin together."""
    gate = threading.Barrier(min(count, CLIENTS))

    def one(index):
        if index < CLIENTS:
            gate.wait(timeout=cluster.PATIENCE)
        return work(index)
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(one, range(count)))


def cost(pid):
    return len(os.listdir(f"/proc/{pid}/task")), len(os.listdir(f"/proc/{pid}/fd"))


def settled_cost(pid):
    """Threads and descriptors, once they stay the same for a second."""
    def same():
        now = cost(pid)
        time.sleep(1)
        return now if cost(pid) == now else None
    return cluster.wait_until("blockd-nbd is idle", same)


def create(node, name, size="1MiB", key=None):
    return node.request("POST", f"/v1/blocks?wait={cluster.PATIENCE}",
                        {"volume": "v", "name": name, "size": size, "hosts": ["node1"]},
                        headers={"Idempotency-Key": key} if key else None)


def delete(node, name):
    return node.request("DELETE", f"/v1/blocks/v/{name}?wait={cluster.PATIENCE}")


def names(node):
    return sorted(block["name"] for block in node.items("/v1/blocks/v"))


def two_hundred(node):
    server = node.nbd_pid()
    before = settled_cost(server)
    began = time.monotonic()
    replies = parallel(BLOCKS, lambda i: create(node, f"b{i}"))
    took = time.monotonic() - began
    bad = [reply for reply in replies if reply[0] != 201]
    faults.require(not bad, f"{len(bad)} creates were not answered with 201, the first with {bad[:1]}")
    faults.require(len({reply[1]["uid"] for reply in replies}) == BLOCKS, "two creates gave the same block")
    faults.require(names(node) == sorted(f"v/b{i}" for i in range(BLOCKS)), f"the list is {names(node)}")
    faults.require_nothing_leaked(node, f"{BLOCKS} blocks")
    # Threads that read the grants end by themselves once they have nothing to do.
    cluster.wait_until(f"idle exports cost blockd-nbd no thread and no descriptor more than {before}",
                       lambda: all(now <= then for now, then in zip(cost(server), before)))
    print(f"{BLOCKS} creates by {CLIENTS} clients in {took:.2f} s, {took / BLOCKS * 1000:.1f} ms each", flush=True)
    return before


def all_open(node, idle):
    def use(index):
        handle = nbd.NBD()
        handle.connect_uri(node.unix_uri(f"v/b{index}"))
        faults.require(handle.get_size() == 1 << 20, f"b{index} has {handle.get_size()} bytes")
        handle.pwrite(f"block {index}".encode().ljust(512), 0, nbd.CMD_FLAG_FUA)
        return handle
    handles = parallel(BLOCKS, use)
    for index, handle in enumerate(handles):
        faults.require(handle.pread(512, 0).strip() == f"block {index}".encode(), f"b{index} holds another's data")
        handle.shutdown()
    # The connection to the hosting volume may stay for a while; what a block cost may not.
    server = node.nbd_pid()
    cluster.wait_until(f"blockd-nbd gives back what {BLOCKS} open blocks took",
                       lambda: all(now < then + BLOCKS // 4 for now, then in zip(cost(server), idle)))


def all_deleted(node):
    replies = parallel(BLOCKS, lambda i: delete(node, f"b{i}"))
    bad = [reply for reply in replies if reply[0] != 200]
    faults.require(not bad, f"{len(bad)} deletes were not answered with 200, the first with {bad[:1]}")
    faults.require(names(node) == [], f"after the deletes there are {names(node)}")
    faults.require_nothing_leaked(node, "after the deletes")


def same_name(node):
    replies = parallel(CLIENTS, lambda i: create(node, "fight"))
    won = [reply for reply in replies if reply[0] == 201]
    lost = [reply for reply in replies if reply[0] == 409 and reply[1]["error"]["code"] == "already_exists"]
    faults.require((len(won), len(lost)) == (1, CLIENTS - 1), f"{CLIENTS} creates of one name: {replies}")
    replies = parallel(CLIENTS, lambda i: delete(node, "fight"))
    faults.require({reply[0] for reply in replies} <= {200, 404}, f"{CLIENTS} deletes of one name: {replies}")
    faults.require(200 in {reply[0] for reply in replies}, f"nobody deleted it: {replies}")
    faults.require_nothing_leaked(node, "a fight for one name")


def same_request(node):
    key = str(uuid.uuid4())
    replies = parallel(CLIENTS, lambda i: create(node, "once", key=key))
    uids = {reply[1].get("uid") for reply in replies if reply[0] == 201}
    faults.require(len(uids) == 1 and all(reply[0] == 201 for reply in replies),
                   f"one request, sent {CLIENTS} times at once, was answered with {replies}")
    faults.require(delete(node, "once")[0] == 200, "it cannot be deleted")


def come_and_go(node, rng):
    """Create, resize, export and delete of few names by many: each answer is one that the moment allows."""
    plan = [[(rng.choice(["create", "delete", "resize", "list"]), f"r{rng.randrange(3)}") for _ in range(15)]
            for _ in range(CLIENTS)]

    def client(index):
        seen = set()
        for word, name in plan[index]:
            if word == "create":
                seen.add((word, create(node, name)[0]))
            elif word == "delete":
                seen.add((word, delete(node, name)[0]))
            elif word == "resize":
                size = f"{1 + index % 4}MiB"
                seen.add((word, node.request("PATCH", f"/v1/blocks/v/{name}?force=1", {"size": size})[0]))
            else:
                seen.add((word, node.request("GET", "/v1/blocks/v")[0]))
        return seen
    seen = set().union(*parallel(CLIENTS, client))
    allowed = {("create", 201), ("create", 409), ("delete", 200), ("delete", 404), ("list", 200),
               ("resize", 200), ("resize", 202), ("resize", 400), ("resize", 404), ("resize", 409)}
    faults.require(seen <= allowed, f"answered: {sorted(seen - allowed)}")
    faults.require_nothing_leaked(node, "blocks that come and go")
    for name in names(node):
        node.delete_block(name)


def main():
    cluster.require_root()
    rng = faults.chance()
    with cluster.Node() as node:
        node.replica3("v", "512MiB")
        same_name(node)
        same_request(node)
        for _ in range(faults.rounds(1)):
            come_and_go(node, rng)
            idle = two_hundred(node)
            all_open(node, idle)
            all_deleted(node)


if __name__ == "__main__":
    main()
