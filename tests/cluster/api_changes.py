#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""How changes behave under retries, races and waits: idempotency keys, ?revision=, ?wait=, ?watch=, pages, SIGTERM meanwhile."""

import concurrent.futures
import http.client
import os
import pathlib
import signal
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import node as cluster
from api import MIB, Stream, refused, require, require_equal


def keyed(node, method, path, key, body=None):
    return node.request(method, path, body, headers={"Idempotency-Key": key})


def idempotency(node):
    body = {"volume": "v", "name": "i", "size": "1MiB"}
    status, first = keyed(node, "POST", "/v1/blocks?wait=60", "key-1", body)
    require_equal(status, 201, "a create with a key")
    for query in ("?wait=60", "?wait=5", ""):
        status, again = keyed(node, "POST", f"/v1/blocks{query}", "key-1", body)
        require_equal((status, again["uid"]), (201, first["uid"]), "the same create with the same key")
    refused(node, "POST", "/v1/blocks?wait=60", body, 409, "already_exists", headers={"Idempotency-Key": "key-2"})
    refused(node, "POST", "/v1/blocks", {**body, "size": "2MiB"}, 400, "invalid_argument", "used for another request", headers={"Idempotency-Key": "key-1"})
    refused(node, "DELETE", "/v1/blocks/v/i", None, 400, "invalid_argument", "used for another request", headers={"Idempotency-Key": "key-1"})
    for key in ("a/b", "", "ü", "x" * 129, "x" * 300):
        refused(node, "POST", "/v1/blocks", body, 400, "invalid_argument", "Idempotency-Key", headers={"Idempotency-Key": key.encode()})

    status, resized = keyed(node, "PATCH", "/v1/blocks/v/i?wait=60", "grow", {"size": "2MiB"})
    require_equal(status, 200, "a resize with a key")
    status, again = keyed(node, "PATCH", "/v1/blocks/v/i?wait=60", "grow", {"size": "2MiB"})
    require_equal((status, again["generation"]), (200, resized["generation"]), "the same resize again")
    require_equal(keyed(node, "POST", "/v1/blocks/v/i/rename?wait=60", "name", {"name": "j"})[0], 200, "a rename with a key")
    status, again = keyed(node, "POST", "/v1/blocks/v/i/rename?wait=60", "name", {"name": "j"})
    require_equal((status, again["name"], again["uid"]), (200, "v/j", first["uid"]), "the same rename again")

    node.kill()
    node.start()
    status, again = keyed(node, "POST", "/v1/blocks/v/i/rename?wait=60", "name", {"name": "j"})
    require_equal((status, again["name"]), (200, "v/j"), "the same rename after a kill")
    require_equal(keyed(node, "DELETE", "/v1/blocks/v/j?wait=60", "end"), (200, {}), "a delete with a key")
    require_equal(keyed(node, "DELETE", "/v1/blocks/v/j?wait=60", "end"), (200, {}), "the same delete again")
    refused(node, "DELETE", "/v1/blocks/v/j?keep_storage=1&wait=60", None, 400, "invalid_argument", "another request", headers={"Idempotency-Key": "end"})
    # Another block under the old name is not what the key's request made or deleted.
    other = node.create_block("v/j", "1MiB", export=False)
    require_equal(keyed(node, "DELETE", "/v1/blocks/v/j?wait=60", "end"), (200, {}), "an old delete beside a new block")
    require_equal(node.get("/v1/blocks/v/j")["uid"], other["uid"], "the new block after an old delete came again")
    node.delete_block("v/j")

    # One key from many callers at once makes one block, and each of them gets it.
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda _: keyed(node, "POST", "/v1/blocks?wait=60", "crowd", {**body, "name": "crowd"}), range(12)))
    require_equal({(status, reply.get("uid")) for status, reply in replies}, {(201, node.get("/v1/blocks/v/crowd")["uid"])}, "the answers to one key from a crowd")
    # Without a key exactly one wins.
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda _: node.request("POST", "/v1/blocks?wait=60", {**body, "name": "race"})[0], range(12)))
    require_equal(sorted(replies), [201] + [409] * 11, "the answers to twelve creates of one name")
    require_equal(node.volume_status("v")["blocks"], 2, "blocks after the races")
    for name in ("crowd", "race"):
        node.delete_block(f"v/{name}")


def races_with_the_reconciler(node):
    """Changes without a revision never lose against blockd's own writes to the object."""
    def whole_life(i):
        name = f"r{i}"
        steps = [("POST", "/v1/blocks", {"volume": "v", "name": name, "size": "1MiB"}, 202),
                 ("POST", "/v1/exports", {"volume": "v", "block": name}, 202),
                 ("PATCH", f"/v1/blocks/v/{name}", {"size": "2MiB"}, 202),
                 ("POST", f"/v1/blocks/v/{name}/rename", {"name": f"s{i}"}, 202),
                 ("DELETE", f"/v1/blocks/v/s{i}", None, 202)]
        for method, path, body, _ in steps:
            status, reply = node.request(method, path, body)
            require(status in (200, 201, 202), f"{method} {path}: {status} {reply}")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(whole_life, range(48)))
    cluster.wait_until("all blocks of the race are gone", lambda: not node.items("/v1/blocks"))
    require_equal(node.items("/v1/exports"), [], "exports that the race left")
    require_equal((node.volume_status("v")["provisioned"], node.volume_status("v")["blocks"]), (0, 0), "promises that the race left")
    store = pathlib.Path(node.volume_status("v")["bricks"][0]["path"]) / "block-store"
    cluster.wait_until("no file is left", lambda: not any(store.iterdir()))
    require(not list((node.run / "grants").glob("*/*.json")), "the race left grants")


def delete_against_create(node):
    """An export that comes while its block is being deleted goes with it; a block never stays in a volume that is deleted."""
    def one(i):
        node.request("POST", "/v1/blocks?wait=60", {"volume": "v", "name": f"d{i}", "size": "1MiB"})
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            pool.submit(node.request, "POST", "/v1/exports", {"volume": "v", "block": f"d{i}"})
            return pool.submit(node.request, "DELETE", f"/v1/blocks/v/d{i}?wait=60", timeout=120).result()
    for i in range(20):
        require_equal(one(i), (200, {}), "a delete beside a new export")
    require_equal(node.items("/v1/exports"), [], "exports of deleted blocks")

    device = node.add_device("spare")
    for i in range(3):
        node.create_volume("w", "single", ["spare"])
        with concurrent.futures.ThreadPoolExecutor(9) as pool:
            creates = [pool.submit(node.request, "POST", "/v1/blocks?wait=60", {"volume": "w", "name": f"b{k}", "size": "1MiB"}, timeout=120) for k in range(8)]
            deleted = pool.submit(node.request, "DELETE", "/v1/volumes/w?wait=60", timeout=120).result()
            made = [c.result() for c in creates]
        if deleted[0] == 200:
            require(all(status >= 400 for status, _ in made), f"blocks were made in a deleted volume: {made}")
        else:
            require_equal(deleted[1]["error"]["code"], "failed_precondition", "the refusal of the volume's delete")
            for block in node.items("/v1/blocks/w"):
                node.delete_block(block["name"])
            require_equal(node.delete("/v1/volumes/w"), {}, "the volume's delete")
        require_equal(node.items("/v1/blocks"), [], "blocks without a volume")
    node.delete(f"/v1/devices/{device['name']}")


def revisions(node):
    block = node.create_block("v/rev", "1MiB", export=False)
    old = block["revision"]
    grown = node.call("PATCH", f"/v1/blocks/v/rev?revision={old}&wait=60", {"size": "2MiB"})
    require(grown["revision"] > old, "a change did not raise the revision")
    for method, path, body in (("PATCH", "/v1/blocks/v/rev", {"size": "3MiB"}), ("DELETE", "/v1/blocks/v/rev", None),
                               ("POST", "/v1/blocks/v/rev/rename", {"name": "other"}), ("PATCH", "/v1/volumes/v", {"overcommit": 3}),
                               ("DELETE", "/v1/volumes/v", None), ("PATCH", "/v1/nodes/node1", {"zone": "z"}), ("DELETE", "/v1/devices/node1/d1", None)):
        refused(node, method, f"{path}?revision={old}", body, 409, "aborted", "revision")
    require_equal(node.get("/v1/blocks/v/rev")["spec"]["size"], 2 * MIB, "the size after refused changes")
    require_equal(node.get("/v1/volumes/v")["spec"]["overcommit"], 1.0, "the volume's ratio after refused changes")
    # Of many writers with one revision, one wins.
    now = node.get("/v1/blocks/v/rev")["revision"]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        replies = list(pool.map(lambda i: node.request("PATCH", f"/v1/blocks/v/rev?revision={now}&wait=60", {"size": (4 + i) * MIB})[0], range(6)))
    require_equal(sorted(replies), [200] + [409] * 5, "the answers to six changes of one revision")
    now = node.get("/v1/blocks/v/rev")["revision"]
    require_equal(node.request("DELETE", f"/v1/blocks/v/rev?revision={now}&wait=60"), (200, {}), "a delete of the right revision")


def pages(node):
    names = sorted(f"v/p{i}" for i in range(12))
    for name in names:
        node.create_block(name, "1MiB", export=False)
    found, start = [], ""
    while True:
        page = node.items(f"/v1/blocks?limit=5{start}")
        require(len(page) <= 5, f"a page has {len(page)} items")
        found += [item["name"] for item in page]
        if not page:
            break
        start = f"&start={page[-1]['name']}"
    require_equal(found, names, "the items of all pages")
    require_equal([i["name"] for i in node.items("/v1/blocks/v?start=v/p5&limit=2")], ["v/p6", "v/p7"], "a page in the middle")
    require_equal(node.items("/v1/blocks?start=zzz"), [], "what comes after the last name")
    require_equal(len(node.items("/v1/blocks?limit=0")), 12, "a list without limit")


def watching(node):
    """list + watch lose nothing and repeat nothing, whatever happens meanwhile."""
    listed = node.get("/v1/blocks")
    node.create_block("v/before", "1MiB", export=False)
    stream = Stream(node, f"/v1/blocks?watch=1&after={listed['revision']}")
    require_equal(stream.status, 200, "the status of a stream")
    node.create_block("v/during", "1MiB", export=False)
    node.delete_block("v/before")
    changes = stream.until(lambda c: c["type"] == "delete" and c["key"] == "blocks/v/before")
    revisions_seen = [c["revision"] for c in changes]
    require_equal(revisions_seen, sorted(revisions_seen), "the order of the changes")
    require(all(c["revision"] > listed["revision"] for c in changes), "a change that the list had already")
    puts = {c["key"] for c in changes if c["type"] == "put"}
    require_equal(puts, {"blocks/v/before", "blocks/v/during"}, "what was put")
    last = [c for c in changes if c["key"] == "blocks/v/during"][-1]
    require_equal((last["object"]["status"]["phase"], last["object"]["revision"]), ("ready", last["revision"]), "the last state of a block in the stream")
    stream.close()

    # From now on, without a revision; and a prefix sees its own only.
    everything, prefix = Stream(node, "/v1/blocks?watch=1"), Stream(node, "/v1/blocks/other?watch=1")
    node.create_block("v/now", "1MiB", export=False)
    require_equal(next(everything)["key"], "blocks/v/now", "the first change from now on")
    for stream in (everything, prefix):
        stream.close()

    # A reader that does not read is dropped or served, and hurts nobody; one that is gone leaves no thread behind.
    threads = lambda: len(os.listdir(f"/proc/{node.process.pid}/task"))
    before = threads()
    lazy = [Stream(node, "/v1/blocks?watch=1", receive_buffer=4096) for _ in range(20)]
    for size in range(2, 40):
        node.patch("/v1/blocks/v/now", {"size": f"{size}MiB"})
    for stream in lazy:
        stream.close()
    cluster.wait_until("the threads of closed streams end", lambda: threads() <= before + 2)
    for block in node.items("/v1/blocks"):
        node.delete_block(block["name"])


def waiting(node):
    """?wait= ends when the thing is done, when the time is over, or when blockd stops; never before, never later."""
    node.create_block("v/w", "1MiB", export=False)
    node.patch("/v1/volumes/v", {"state": "stopped"})
    begin = time.monotonic()
    status, body = node.request("DELETE", "/v1/blocks/v/w?wait=2")
    took = time.monotonic() - begin
    require_equal((status, body["deleting"]), (202, True), "a wait for what cannot be done now")
    require(1.9 <= took, f"the wait of 2 s ended after {took:.1f} s")
    require_equal(node.request("DELETE", "/v1/blocks/v/w")[0], 202, "no wait")

    replies = {}
    def wait(i):
        replies[i] = node.request("DELETE", "/v1/blocks/v/w?wait=600", timeout=120)
    waiters = [threading.Thread(target=wait, args=(i,)) for i in range(5)]
    for thread in waiters:
        thread.start()
    stream = Stream(node, "/v1/blocks?watch=1")
    cluster.wait_until("the requests wait", lambda: len(os.listdir(f"/proc/{node.process.pid}/task")) > 10)
    time.sleep(0.5)
    require_equal(replies, {}, "answers before anything happened")
    require_equal(node.terminate(), 0, "the exit status of blockd on SIGTERM")
    for thread in waiters:
        thread.join()
    for reply in replies.values():
        require_equal((reply[0], reply[1].get("error", {}).get("code")), (409, "cancelled"), f"the answer to a wait when blockd stops: {reply}")
    require_equal(list(stream), [], "changes in a stream that blockd's end ended")
    stream.close()

    # A stop before the first answer, of a client that came late: an error of the connection, no hang.
    node.start()
    results = []
    def ask():
        try:
            results.append(node.request("DELETE", "/v1/blocks/v/w?wait=600", timeout=120)[0])
        except (OSError, http.client.HTTPException) as error:
            results.append(type(error).__name__)
    late = threading.Thread(target=ask)
    late.start()
    node.process.send_signal(signal.SIGTERM)
    require_equal(node.process.wait(timeout=60), 0, "the exit status of blockd on SIGTERM")
    late.join()
    node.start()
    node.patch("/v1/volumes/v", {"state": "started"})
    cluster.wait_until("what was waited for is done after all", lambda: not node.items("/v1/blocks"))


def main():
    cluster.require_root()
    with cluster.Node() as node:
        node.single("v", "512MiB")
        for part in (idempotency, races_with_the_reconciler, delete_against_create, revisions, pages, watching, waiting):
            begin = time.monotonic()
            part(node)
            print(f"{part.__name__}: {time.monotonic() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main()
