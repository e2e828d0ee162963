# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""A client that writes numbered records to a block over NBD, and knows afterwards what must be there.

    with Load(uri, rng) as load:
        ...break something...
        load.wait_progress()
    load.verify(uri)

A record is 4096 bytes of eight sectors, each with the record's place, its number and a checksum of its own, so that an
old, a torn and a foreign sector are told apart. Of every place the load remembers the last write that it may rely on and
those that came after it: a read must find one of these in each sector.
"""

import collections
import errno
import os
import struct
import threading
import time
import zlib

import nbd

import node as cluster

RECORD, SECTOR = 4096, 512
MAGIC = b"blockd-1"
HEADER = struct.Struct(">8sQQI")  # magic, slot, number, sector
LONGEST = 16  # records in one request
SENT, DONE, STABLE = range(3)  # what became of a write: nothing is known, it was answered, it is on stable storage

Failure = collections.namedtuple("Failure", "when command number")


def sectors_of(slot, number):
    """The record's bytes."""
    parts = []
    for sector in range(RECORD // SECTOR):
        head = HEADER.pack(MAGIC, slot, number, sector)
        body = head + (number * 8 + sector).to_bytes(8, "big") * ((SECTOR - len(head) - 4) // 8)
        body += bytes(SECTOR - 4 - len(body))
        parts.append(body + zlib.crc32(body).to_bytes(4, "big"))
    return b"".join(parts)


def numbers_of(slot, data):
    """The number in each sector of a record; 0 where nothing was ever written. Raises for what is no record's sector."""
    found = []
    for sector in range(RECORD // SECTOR):
        part = bytes(data[sector * SECTOR:(sector + 1) * SECTOR])
        if not any(part):
            found.append(0)
            continue
        magic, place, number, index = HEADER.unpack_from(part)
        if magic != MAGIC or zlib.crc32(part[:-4]).to_bytes(4, "big") != part[-4:]:
            raise AssertionError(f"slot {slot}, sector {sector}: damaged: {part[:32].hex()}")
        if (place, index) != (slot, sector):
            raise AssertionError(f"slot {slot}, sector {sector}: holds sector {index} of slot {place}")
        found.append(number)
    return found


class Load(threading.Thread):
    """Runs from start() (or `with`) to stop().

    promise   "answered": a write counts from its answer on; "stable": from the answer of its FUA or of a flush on
    reconnect the connection may break: it is made again, and what was under way may or may not have happened
    tolerate  numbers of errors that commands may be answered with; others end the load
    reads     the part of the commands that read
    """

    def __init__(self, uri, rng, slots=2048, depth=8, promise="answered", reconnect=False, tolerate=(), reads=0.25):
        super().__init__(daemon=True)
        self.reads = reads
        self.uri, self.rng, self.slots, self.depth = uri, rng, slots, depth
        self.promise, self.reconnect, self.tolerate = promise, reconnect, set(tolerate)
        self.history = collections.defaultdict(lambda: [[0, STABLE]])  # by slot: [number, state], the oldest first
        self.busy = set()
        self.unflushed = []  # entries that are DONE
        self.last_number = 0
        self.since_flush = 0
        self.flushing = False
        self.ending = threading.Event()
        self.answered = 0  # commands
        self.written = 0  # of them, writes that succeeded
        self.connections = 0
        self.failures = []
        self.error = None

    # ---- For the test ----

    def __enter__(self):
        self.start()
        cluster.wait_until("the load runs", lambda: self.answered > 0 or self.error)
        return self

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.stop()
        else:
            self.ending.set()
            self.join(timeout=30)

    def stop(self):
        self.ending.set()
        self.join(timeout=2 * cluster.PATIENCE)
        if self.is_alive():
            raise AssertionError(f"the load hangs with {len(self.busy)} records under way")
        self.check()

    def check(self):
        """Raises what the load ended with."""
        if self.error:
            raise AssertionError(f"the load ended: {self.error}") from self.error

    def wait_progress(self, commands=50, timeout=cluster.PATIENCE):
        goal = self.answered + commands
        self._wait(f"{commands} more commands are answered", lambda: self.answered >= goal, timeout)

    def wait_writes(self, writes=50, timeout=cluster.PATIENCE):
        goal = self.written + writes
        self._wait(f"{writes} more writes succeed", lambda: self.written >= goal, timeout)

    def wait_failures(self, count=1, timeout=cluster.PATIENCE):
        goal = len(self.failures) + count
        self._wait(f"{count} more commands fail", lambda: len(self.failures) >= goal, timeout)

    def wait_connection(self, count, timeout=cluster.PATIENCE):
        self._wait(f"connection {count} is made", lambda: self.connections >= count, timeout)

    def _wait(self, what, condition, timeout):
        def met():
            self.check()
            return condition()
        cluster.wait_until(what, met, timeout)

    def verify(self, uri=None):
        """Reads every record that was ever sent, over a connection of its own."""
        handle = nbd.NBD()
        handle.connect_uri(uri or self.uri)
        for slot in list(self.history):
            self.check_record(slot, handle.pread(RECORD, slot * RECORD))
        handle.shutdown()

    def verify_file(self, path):
        """The same, in a replica's file."""
        with open(path, "rb") as file:
            for slot in list(self.history):
                file.seek(slot * RECORD)
                self.check_record(slot, file.read(RECORD))

    def check_record(self, slot, data):
        history = self.history[slot]
        allowed = {number for number, _ in history}
        for sector, number in enumerate(numbers_of(slot, data)):
            if number not in allowed:
                raise AssertionError(f"slot {slot}, sector {sector}: holds record {number}, which must be one of {history} "
                                     f"({'lost' if number < history[0][0] else 'never sent'})")

    # ---- The thread ----

    def run(self):
        try:
            while not self.ending.is_set():
                self._one_connection()
        except BaseException as error:
            self.error = error

    def _connect(self):
        while not self.ending.is_set():
            handle = nbd.NBD()
            try:
                handle.connect_uri(self.uri)
                self.connections += 1
                return handle
            except nbd.Error:
                if not self.reconnect:
                    raise
                time.sleep(0.05)
        return None

    def _one_connection(self):
        handle = self._connect()
        if not handle:
            return
        self.lost = False
        try:
            while not self.ending.is_set() and not self.lost:
                while not self.lost and handle.aio_in_flight() < self.depth and self._submit(handle):
                    pass
                handle.poll(1000)
            while not self.lost and handle.aio_in_flight():
                handle.poll(1000)
            if not self.lost and self.ending.is_set():
                handle.shutdown()
        except nbd.Error as error:
            if self.error or not self._is_lost(handle):
                raise
            self.lost = error
        if self.error:
            raise self.error
        if self.lost:
            if not self.reconnect:
                raise AssertionError(f"the connection was lost: {self.lost}")
            self._forget_connection()

    @staticmethod
    def _is_lost(handle):
        return handle.aio_is_dead() or handle.aio_is_closed()

    def _forget_connection(self):
        self.busy.clear()
        self.unflushed.clear()
        self.flushing = False
        if self.promise == "stable":  # what the server only answered may have gone with it
            for history in self.history.values():
                for entry in history:
                    entry[1] = SENT if entry[1] == DONE else entry[1]

    def _submit(self, handle):
        if self.since_flush >= 64 and not self.flushing:
            self._flush(handle)
            return True
        count = 1 if self.rng.random() < 0.8 else self.rng.randrange(2, LONGEST + 1)
        first = self.rng.randrange(self.slots - count)
        slots = range(first, first + count)
        if any(slot in self.busy for slot in slots):
            return False
        self.busy.update(slots)
        if self.rng.random() < self.reads:
            self._read(handle, slots)
        else:
            self._write(handle, slots, self.rng.random() < 0.4)
        return True

    def _flush(self, handle):
        entries, self.unflushed = self.unflushed, []
        self.flushing, self.since_flush = True, 0

        def done(number):
            self.flushing = False
            if number:
                self.unflushed += entries
            for slot, entry in entries if not number else ():
                self._settle(slot, entry, STABLE)
        handle.aio_flush(completion=self._completion("flush", done))

    def _write(self, handle, slots, fua):
        entries = []
        for slot in slots:
            self.last_number += 1
            entries.append((slot, [self.last_number, SENT]))
            self.history[slot].append(entries[-1][1])
        data = bytearray(b"".join(sectors_of(slot, entry[0]) for slot, entry in entries))
        self.since_flush += 1

        def done(number):
            self.busy.difference_update(slots)
            self.written += not number
            for slot, entry in entries if not number else ():
                self._settle(slot, entry, STABLE if fua else DONE)
                if not fua:
                    self.unflushed.append((slot, entry))
        handle.aio_pwrite(nbd.Buffer.from_bytearray(data), slots[0] * RECORD,
                          completion=self._completion("write", done), flags=nbd.CMD_FLAG_FUA if fua else 0)

    def _read(self, handle, slots):
        buffer = nbd.Buffer(len(slots) * RECORD)

        def done(number):
            self.busy.difference_update(slots)
            if not number:
                data = buffer.to_bytearray()
                for i, slot in enumerate(slots):
                    self._check_live(slot, data[i * RECORD:(i + 1) * RECORD])
        handle.aio_pread(buffer, slots[0] * RECORD, completion=self._completion("read", done))

    def _check_live(self, slot, data):
        """While the server lives, what was answered must be read, flushed or not."""
        history = self.history[slot]
        last = max((i for i, entry in enumerate(history) if entry[1] != SENT), default=0)
        allowed = {number for number, _ in history[last:]}
        if not set(numbers_of(slot, data)) <= allowed:
            raise AssertionError(f"slot {slot}: a read found {numbers_of(slot, data)}, which must be of {history[last:]}")

    def _settle(self, slot, entry, state):
        entry[1] = max(entry[1], state)
        if self.promise == "answered" or state == STABLE:
            history = self.history[slot]
            if entry in history:
                del history[:history.index(entry)]

    def _completion(self, command, done):
        def completed(number):
            number = getattr(number, "value", number)
            try:
                if number in (errno.ENOTCONN, errno.ESHUTDOWN):
                    self.lost = self.lost or os.strerror(number)
                    return 1
                if number:
                    self.failures.append(Failure(time.monotonic(), command, number))
                    if number not in self.tolerate:
                        raise AssertionError(f"a {command} was answered with {os.strerror(number)}")
                done(number)
                self.answered += 1
            except BaseException as error:  # an exception in a callback is lost otherwise
                self.error = self.error or error
                self.ending.set()
            return 1
        return completed
