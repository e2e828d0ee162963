# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""The kernel's NBD client through netlink, as a storage node uses it: requests wait while the server is away.

    with KernelNbd("/run/blockd/nbd.sock", "v/b") as disk:  # disk.path is /dev/nbd0
        ...the server is killed, and comes back...          # a thread gives the kernel a new connection

nbd-client cannot give a device a new connection, which is why this exists. Needs root and the module nbd.
"""

import os
import socket
import struct
import threading

import node as cluster

DEAD_SECONDS = 300  # how long requests wait for a new connection
# What was under way on a connection that broke is sent again only after this time, and what takes longer breaks its connection.
REQUEST_SECONDS = 15

# linux/netlink.h, linux/genetlink.h, linux/nbd-netlink.h
NETLINK_GENERIC, GENL_ID_CTRL, CTRL_CMD_GETFAMILY = 16, 16, 3
CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME, CTRL_ATTR_MCAST_GROUPS, CTRL_ATTR_MCAST_GRP_ID = 1, 2, 7, 2
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1
NLM_F_REQUEST_ACK, NLMSG_ERROR = 5, 2
NLA_F_NESTED, NLA_TYPE_MASK = 0x8000, 0x3fff
CONNECT, DISCONNECT, RECONFIGURE, LINK_DEAD = 1, 2, 3, 4
INDEX, SIZE, BLOCK_SIZE, TIMEOUT, SERVER_FLAGS, SOCKETS, DEAD_TIMEOUT = 1, 2, 3, 4, 5, 7, 8

# The NBD protocol
INIT_MAGIC, OPTION_MAGIC, REPLY_MAGIC = 0x4e42444d41474943, 0x49484156454f5054, 0x3e889045565a9
FIXED_NEWSTYLE, OPT_GO, REP_ACK, REP_INFO, INFO_EXPORT = 1, 7, 1, 3, 0


def attribute(kind, data):
    if isinstance(data, str):
        data = data.encode() + b"\0"
    elif isinstance(data, list):
        kind, data = kind | NLA_F_NESTED, b"".join(data)
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def u32(kind, value):
    return attribute(kind, struct.pack("=I", value))


def u64(kind, value):
    return attribute(kind, struct.pack("=Q", value))


def attributes(data):
    """{kind: bytes} of a message's attributes."""
    found = {}
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & NLA_TYPE_MASK] = data[4:length]
        data = data[length + 3 & ~3:]
    return found


class Netlink:
    def __init__(self):
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC)
        self.socket.bind((0, 0))
        reply = self.call(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, attribute(CTRL_ATTR_FAMILY_NAME, "nbd"))
        self.family = struct.unpack("=H", reply[CTRL_ATTR_FAMILY_ID])[0]
        self.group = next(iter(attributes(reply[CTRL_ATTR_MCAST_GROUPS]).values()))

    def call(self, family, command, *parts):
        """The attributes of the answer; OSError where it is an error."""
        body = struct.pack("=BBH", command, 1, 0) + b"".join(parts)
        self.socket.send(struct.pack("=IHHII", 16 + len(body), family, NLM_F_REQUEST_ACK, 0, 0) + body)
        answer = {}
        while True:
            data = self.socket.recv(65536)
            while data:
                length, kind = struct.unpack_from("=IH", data)
                if kind == NLMSG_ERROR:
                    number = -struct.unpack_from("=i", data, 16)[0]
                    if number:
                        raise OSError(number, f"netlink command {command}: {os.strerror(number)}")
                    return answer
                answer = attributes(data[20:length])
                data = data[length + 3 & ~3:]

    def listen(self):
        """From now on dead_link() hears of connections that broke."""
        group = struct.unpack("=I", attributes(self.group)[CTRL_ATTR_MCAST_GRP_ID])[0]
        self.socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)

    def dead_link(self):
        """Waits; the index of a device that has lost a connection."""
        while True:
            data = self.socket.recv(65536)
            _, kind = struct.unpack_from("=IH", data)
            if kind == self.family and data[16] == LINK_DEAD:
                return struct.unpack("=I", attributes(data[20:])[INDEX])[0]

    def nbd(self, command, *parts):
        return self.call(self.family, command, *parts)


def receive(connection, count):
    data = b""
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise ConnectionResetError("the NBD server closed the connection")
        data += part
    return data


def negotiate(path, export):
    """(socket in transmission, size, flags) of an export behind a unix socket."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(cluster.PATIENCE)
        connection.connect(str(path))
        magic, option, _ = struct.unpack(">QQH", receive(connection, 18))
        assert (magic, option) == (INIT_MAGIC, OPTION_MAGIC)
        name = export.encode()
        connection.sendall(struct.pack(">IQIII", FIXED_NEWSTYLE, OPTION_MAGIC, OPT_GO, 6 + len(name), len(name)) + name + bytes(2))
        size = flags = None
        while True:
            magic, _, reply, length = struct.unpack(">QIII", receive(connection, 20))
            data = receive(connection, length)
            assert magic == REPLY_MAGIC
            if reply == REP_ACK:
                connection.settimeout(None)
                return connection, size, flags
            if reply != REP_INFO:
                raise ConnectionRefusedError(f"export {export}: reply {reply:#x} {data.decode(errors='replace')}")
            if struct.unpack_from(">H", data)[0] == INFO_EXPORT:
                size, flags = struct.unpack_from(">QH", data, 2)
    except BaseException:
        connection.close()
        raise


class KernelNbd:
    def __init__(self, server, export, index=0):
        self.server, self.export, self.index = server, export, index
        self.path = f"/dev/nbd{index}"
        self.netlink = Netlink()
        self.reconnections = 0
        self.ending = False
        events = Netlink()
        events.listen()
        connection, self.size, flags = negotiate(server, export)
        with connection:
            self.netlink.nbd(CONNECT, u32(INDEX, index), u64(SIZE, self.size), u64(BLOCK_SIZE, 4096), u64(SERVER_FLAGS, flags),
                             u64(TIMEOUT, REQUEST_SECONDS), u64(DEAD_TIMEOUT, DEAD_SECONDS), self._sockets(connection))
        threading.Thread(target=self._keep, args=(events,), daemon=True).start()
        cluster.wait_until(f"{self.path} has its size", self._has_size)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.disconnect()

    @staticmethod
    def _sockets(connection):
        return attribute(SOCKETS, [attribute(1, [u32(1, connection.fileno())])])

    def _has_size(self):
        with open(f"/sys/block/nbd{self.index}/size") as file:
            return int(file.read()) * 512 == self.size

    def _keep(self, events):
        while not self.ending:
            if events.dead_link() == self.index and not self.ending:
                cluster.wait_until(f"{self.path} has a new connection", self._reconnect)

    def _reconnect(self):
        try:
            connection, _, _ = negotiate(self.server, self.export)
            with connection:
                self.netlink.nbd(RECONFIGURE, u32(INDEX, self.index), self._sockets(connection))
        except (OSError, AssertionError):
            return self.ending
        self.reconnections += 1
        return True

    def disconnect(self):
        self.ending = True
        self.netlink.nbd(DISCONNECT, u32(INDEX, self.index))
        cluster.wait_until(f"{self.path} is free", lambda: not os.path.exists(f"/sys/block/nbd{self.index}/pid"))
