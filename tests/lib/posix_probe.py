# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""How the cases of posix_calls note what came of their calls."""

import contextlib
import ctypes
import errno
import json
import os
import traceback

USER, GROUP, OTHER_GROUP = 61001, 61002, 61003  # nobody has them: numbers are all that files know
LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100
KIB = 1 << 10

CASES = []


def case(function):
    CASES.append(function)
    return function


class Probe:
    """Calls and what came of them, in the order in which they were made."""

    def __init__(self, name):
        self.name, self.results = name, {}

    def note(self, what, value):
        key = f"{self.name}: {what}"
        if key in self.results:
            raise RuntimeError(f"two operations are called {key}")
        self.results[key] = repr(value)

    def do(self, what, call, *arguments, **keywords):
        """The call's result; None when it is refused, whose errno is the outcome then."""
        try:
            value = call(*arguments, **keywords)
        except OSError as error:
            key = f"{self.name}: {what}"
            if key in self.results:
                raise RuntimeError(f"two operations are called {key}") from error
            self.results[key] = errno.errorcode[error.errno]
            return None
        self.note(what, value)
        return value

    def fd(self, what, path, flags, mode=0o666):
        """As do(), for a descriptor, whose number means nothing."""
        numbers = []
        self.do(what, lambda: numbers.append(os.open(path, flags, mode)))
        return numbers[0] if numbers else None

    def opens(self, what, path, flags, mode=0o666):
        fd = self.fd(what, path, flags, mode)
        if fd is not None:
            os.close(fd)

    def elsewhere(self, function, uid=0, gid=0, groups=()):
        """function(probe) in another process, which may be another user's; its outcomes are among these."""
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            status = 1
            with contextlib.suppress(BaseException):
                try:
                    os.setgroups(groups)
                    os.setresgid(gid, gid, gid)
                    os.setresuid(uid, uid, uid)
                    probe = Probe(self.name)
                    function(probe)
                    with open(writing, "w") as file:
                        json.dump(probe.results, file)
                    status = 0
                except BaseException:
                    traceback.print_exc()
            os._exit(status)
        os.close(writing)
        with open(reading) as file:
            text = file.read()
        if os.waitpid(pid, 0)[1] != 0:
            raise AssertionError(f"{self.name}: the other process failed")
        both = self.results.keys() & json.loads(text).keys()
        if both:
            raise RuntimeError(f"two operations are called {both}")
        self.results.update(json.loads(text))

    def as_user(self, function):
        self.elsewhere(function, USER, GROUP)


def checked(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def write(path, data=b"", mode=None):
    with open(path, "wb") as file:
        file.write(data)
    if mode is not None:
        os.chmod(path, mode)


def read(path):
    with open(path, "rb") as file:
        return file.read()


@contextlib.contextmanager
def opened(path, flags=os.O_RDWR):
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)
