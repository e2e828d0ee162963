#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""Writes the seeds of fuzz_nbd: small sessions, each after the byte that chooses how they arrive (see fuzz_nbd.c)."""
import pathlib
import struct

FOLDER = pathlib.Path(__file__).resolve().parent / "corpus" / "nbd"


def flags(value=3):
    return struct.pack(">I", value)


def option(number, data=b""):
    return struct.pack(">QII", 0x49484156454F5054, number, len(data)) + data


def name(text):
    return struct.pack(">I", len(text)) + text


def go(text=b"vol/disk", infos=(3,), number=7):
    return option(number, name(text) + struct.pack(f">H{len(infos)}H", len(infos), *infos))


def meta(number, text=b"vol/disk", *queries):
    return option(number, name(text) + struct.pack(">I", len(queries)) + b"".join(name(query) for query in queries))


def request(kind, offset=0, length=512, command_flags=0, data=b""):
    return struct.pack(">IHHQQI", 0x25609513, command_flags, kind, 0x1122334455667788, offset, length) + data


STRUCTURED = option(8)
ALLOCATION = meta(10, b"vol/disk", b"base:allocation")
EVERY = b"".join([request(1, 0, 512, 1, b"w" * 512), request(0), request(3, 0, 0), request(4, 512, 4096, 1), request(5, 0, 8192),
                  request(6, 0, 4096, 2), request(6, 0, 4096, 4), request(6, 0, 4096, 6), request(2, 0, 0)])

SEEDS = {
    "export-name": b"\x00" + flags() + option(1, b"vol/disk") + EVERY,
    "export-name-zeroes": b"\x00" + flags(0) + option(1, b"vol/ro") + request(0),
    "list": b"\x00" + flags() + option(3) + option(2),
    "info": b"\x20" + flags() + go(number=6, infos=(0, 1, 2, 3)) + go(b"vol/none") + go(),
    "go-simple": b"\x40" + flags() + go() + EVERY,
    "go-structured": b"\x00" + flags() + STRUCTURED + ALLOCATION + go() + request(7, 0, 65536) + request(7, 0, 4096, 8)
                     + request(0, 0, 1024, 4) + EVERY,
    "held": b"\x10" + flags() + STRUCTURED + go() + request(0) * 20 + EVERY,
    "held-one": b"\x13" + flags() + go() + request(0, 0, 8192) * 4 + EVERY,
    "metas": b"\x60" + flags() + meta(9) + meta(9, b"vol/disk", b"base:") + STRUCTURED + meta(10, b"vol/ro", b"x:y") + ALLOCATION,
    "tls": b"\x0c" + flags() + go() + option(5) + STRUCTURED + go() + request(0),
    "tls-injected": b"\x04" + flags() + option(5) + option(3),
    "refused-writes": b"\x00" + flags() + go(b"vol/ro") + request(1, 0, 4096, 0, b"x" * 4096) + request(1, 1 << 40, 512, 0, b"y" * 512)
                      + request(0),
    "large-option": b"\x00" + flags() + option(7, bytes(40000)) + go(),
    "malformed": b"\x00" + flags() + option(7, b"\xff\xff\xff\xff") + option(9, bytes(4) + b"\xff" * 4) + option(99) + go()
                 + request(0, 2**64 - 1, 2**32 - 1) + request(9) + b"\x00" * 28,
}

FOLDER.mkdir(parents=True, exist_ok=True)
for title, content in SEEDS.items():
    (FOLDER / title).write_bytes(content)
