#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Every command and flag that blockd-nbd offers, through libnbd with its own checks switched off where they would hide ours."""
import errno
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
import nbd
from nbdserver import MIB, Fixture

SIZE = 16 * MIB
LAX = nbd.STRICT_COMMANDS * 0  # libnbd checks nothing: the server must


def connect(uri, strict=LAX, context=True, structured=True):
    handle = nbd.NBD()
    if context:
        handle.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    handle.set_request_structured_replies(structured)
    handle.connect_uri(uri)
    handle.set_strict_mode(strict)
    return handle


def refused(number, call, *arguments):
    try:
        call(*arguments)
    except nbd.Error as error:
        assert error.errno == errno.errorcode[number], f"{call}{arguments}: {error}"
        return
    raise AssertionError(f"{call}{arguments} was not refused")


def extents_of(handle, length, offset, flags=0):
    found = []
    handle.block_status(length, offset, lambda context, at, entries, error: found.append((context, at, entries)), flags)
    assert len(found) == 1 and found[0][0] == nbd.CONTEXT_BASE_ALLOCATION and found[0][1] == offset, found
    return list(zip(found[0][2][::2], found[0][2][1::2]))


def reads_and_writes(handle):
    pattern = bytes(range(256)) * 1024
    handle.pwrite(pattern, 0)
    assert handle.pread(len(pattern), 0) == pattern
    assert handle.pread(len(pattern), 0, nbd.CMD_FLAG_DF) == pattern
    handle.pwrite(pattern, MIB, nbd.CMD_FLAG_FUA)
    assert handle.pread(512, MIB + 512) == pattern[512:1024]
    handle.flush()
    handle.cache(SIZE, 0)
    handle.cache(512, SIZE - 512)
    assert handle.pread(4096, SIZE - 4096) == bytes(4096)
    large = bytearray(b"\x5a") * SIZE
    handle.pwrite(large, 0)
    assert handle.pread(SIZE, 0) == large


def chunks(handle):
    seen = []
    handle.pread_structured(8192, 0, lambda data, at, status, error: seen.append((at, len(data), status)))
    assert seen == [(0, 8192, nbd.READ_DATA)], seen


def zeroes_and_trims(handle):
    for flags in (0, nbd.CMD_FLAG_FUA, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_FAST_ZERO, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FUA):
        handle.pwrite(b"\xff" * MIB, 0)
        handle.zero(MIB // 2, 4096, flags)
        data = handle.pread(MIB, 0)
        assert data[:4096] == b"\xff" * 4096 and data[4096 + MIB // 2:] == b"\xff" * (MIB // 2 - 4096)
        assert data[4096:4096 + MIB // 2] == bytes(MIB // 2), f"flags {flags}"
    # Whether allocating is fast, the server cannot know in advance: it must say so, and must not do it.
    handle.pwrite(b"\xff" * 4096, 0)
    refused(errno.ENOTSUP, handle.zero, 4096, 0, nbd.CMD_FLAG_NO_HOLE | nbd.CMD_FLAG_FAST_ZERO)
    assert handle.pread(4096, 0) == b"\xff" * 4096
    for flags in (0, nbd.CMD_FLAG_FUA):
        handle.pwrite(b"\xff" * MIB, 0)
        handle.trim(MIB, 0, flags)
        assert handle.pread(MIB, 0) == bytes(MIB)


def block_status(handle):
    handle.zero(SIZE, 0)
    assert extents_of(handle, SIZE, 0) == [(SIZE, nbd.STATE_HOLE | nbd.STATE_ZERO)]
    handle.pwrite(b"x" * 65536, MIB)
    found = extents_of(handle, SIZE, 0)
    assert found == [(MIB, 3), (65536, 0), (SIZE - MIB - 65536, 3)], found
    assert extents_of(handle, SIZE, 0, nbd.CMD_FLAG_REQ_ONE) == [(MIB, 3)]
    assert extents_of(handle, 4096, MIB + 4096, nbd.CMD_FLAG_REQ_ONE) == [(4096, 0)]
    assert extents_of(handle, 512, SIZE - 512) == [(512, 3)]


def bad_requests(handle):
    data = b"x" * 512
    refused(errno.ENOSPC, handle.pwrite, data, SIZE)
    refused(errno.ENOSPC, handle.pwrite, data + data, SIZE - 512)
    refused(errno.ENOSPC, handle.zero, 1024, SIZE - 512)
    refused(errno.EINVAL, handle.pread, 1024, SIZE - 512)
    refused(errno.EINVAL, handle.pread, 512, (1 << 63) - 512)
    refused(errno.EINVAL, handle.trim, 1024, SIZE - 512)
    refused(errno.EINVAL, handle.cache, 1024, SIZE - 512)
    refused(errno.EINVAL, handle.pread, 100, 0)
    refused(errno.EINVAL, handle.pread, 512, 1)
    refused(errno.EINVAL, handle.pwrite, b"x" * 100, 0)
    refused(errno.EINVAL, handle.zero, 512, 5)
    refused(errno.EINVAL, handle.trim, 0, 0)
    refused(errno.EINVAL, handle.pwrite, data, 0, nbd.CMD_FLAG_DF)
    refused(errno.EINVAL, handle.flush, nbd.CMD_FLAG_REQ_ONE)
    refused(errno.EINVAL, handle.trim, 512, 0, nbd.CMD_FLAG_NO_HOLE)
    handle.pwrite(data, 0)
    assert handle.pread(512, 0) == data, "the connection is in step after every refusal"


def without_structured_replies(uri):
    handle = connect(uri, structured=False)
    assert not handle.get_structured_replies_negotiated() and not handle.can_df()
    handle.pwrite(b"simple" + bytes(506), 0)
    assert handle.pread(6 * 512, 0)[:6] == b"simple"
    refused(errno.EINVAL, handle.pread, 512, SIZE)
    refused(errno.ENOSPC, handle.pwrite, bytes(512), SIZE)
    handle.shutdown()


def without_sizes_agreed(server):
    """EXPORT_NAME: no block size was agreed on, so that any alignment is served; padding with and without NO_ZEROES."""
    for no_zeroes in (True, False):
        handle = nbd.NBD()
        handle.set_handshake_flags(nbd.HANDSHAKE_FLAG_FIXED_NEWSTYLE * 0 + (nbd.HANDSHAKE_FLAG_NO_ZEROES if no_zeroes else 0))
        handle.set_export_name("testvol/one")
        handle.connect_tcp("127.0.0.1", str(server.port))
        assert handle.get_protocol() == "newstyle", handle.get_protocol()
        assert handle.get_size() == SIZE
        handle.set_strict_mode(LAX)
        handle.pwrite(b"odd", 777)
        assert handle.pread(5, 776)[1:4] == b"odd"
        handle.shutdown()


def options(server):
    handle = nbd.NBD()
    handle.set_opt_mode(True)
    handle.connect_tcp("127.0.0.1", str(server.port))
    names = []
    assert handle.opt_list(lambda name, description: names.append(name)) == 3
    assert sorted(names) == ["testvol/large", "testvol/one", "testvol/ro"], names
    for name in ("", "nothing", "testvol/nothing", "no/one", "../one", "testvol/../one", "testvol/one/x", "a/" + "b" * 300):
        handle.set_export_name(name)
        refused(errno.ENOENT, handle.opt_info)
        refused(errno.ENOENT, handle.opt_go)
    handle.set_export_name("testvol/one")
    contexts = []
    for query, expected in ((None, ["base:allocation"]), ("base:", ["base:allocation"]), ("base:allocation",) * 2, ("other:x", [])):
        handle.clear_meta_contexts()
        contexts.clear()
        if query:
            handle.add_meta_context(query)
        handle.opt_list_meta_context(contexts.append)
        assert contexts == ([expected] if isinstance(expected, str) else expected), (query, contexts)
    handle.clear_meta_contexts()
    handle.opt_info()
    assert handle.get_size() == SIZE
    handle.opt_abort()


def read_only(server):
    handle = connect(server.uri("ro"))
    assert handle.is_read_only() and not handle.can_trim() and not handle.can_zero()
    assert handle.pread(512, 0) == bytes(512)
    refused(errno.EPERM, handle.pwrite, bytes(512), 0)
    refused(errno.EPERM, handle.trim, 512, 0)
    refused(errno.EPERM, handle.zero, 512, 0)
    handle.flush()
    handle.shutdown()


def large_blocks(server):
    handle = connect(server.uri("large"))
    assert handle.get_block_size(nbd.SIZE_MINIMUM) == 4096 and handle.get_block_size(nbd.SIZE_PREFERRED) == 4096
    assert handle.get_block_size(nbd.SIZE_MAXIMUM) == 32 * MIB
    refused(errno.EINVAL, handle.pread, 512, 0)
    refused(errno.EINVAL, handle.pwrite, bytes(4096), 512)
    handle.pwrite(b"y" * (32 * MIB), 0)
    assert handle.pread(32 * MIB, 0) == b"y" * (32 * MIB)
    refused(errno.EINVAL, handle.pread, 32 * MIB + 4096, 0)
    handle.zero(64 * MIB, 0)
    assert handle.pread(4096, 32 * MIB - 4096) == bytes(4096)
    handle.shutdown()


def flush_covers_other_connections(server):
    """What multi-conn promises; that it is on disk, only a power cut could show, but both must be the same open file."""
    first, second = connect(server.uri("one")), connect(server.unix_uri("one"))
    assert first.can_multi_conn()
    for turn in range(20):
        first.pwrite(bytes([turn]) * 4096, turn * 4096)
        second.flush()
        assert second.pread(4096, turn * 4096) == bytes([turn]) * 4096
    assert len(server.exports()["testvol/one"]["clients"]) == 2, server.exports()
    first.shutdown()
    second.shutdown()


for count in (1, 3):
    with Fixture(count=count) as fixture:
        server = fixture.server
        server.grant("one", SIZE)
        server.grant("ro", SIZE, read_only=True)
        server.grant("large", 64 * MIB, block_size=4096)
        handle = connect(server.uri("one"))
        for check in (reads_and_writes, chunks, zeroes_and_trims, block_status, bad_requests):
            check(handle)
        handle.shutdown()
        without_structured_replies(server.uri("one"))
        without_sizes_agreed(server)
        options(server)
        read_only(server)
        large_blocks(server)
        flush_covers_other_connections(server)
