# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""What programs do with files, operation by operation, in whatever file system a folder is of: outcomes() says what came
of each, so that one file system can be compared with another. Needs root; parts are done as a user without rights."""

import os

# Each adds its cases to the list.
import posix_attributes
import posix_data
import posix_names
from posix_probe import CASES, Probe


def outcomes(folder):
    """{operation: what came of it} in an empty folder, which is full of rests then."""
    top = os.open(".", os.O_RDONLY)
    umask = os.umask(0o022)
    results = {}
    try:
        for function in CASES:
            path = folder / function.__name__
            path.mkdir()
            os.chdir(path)
            probe = Probe(function.__name__.replace("_", " "))
            function(probe)
            results.update(probe.results)
    finally:
        os.umask(umask)
        os.fchdir(top)
        os.close(top)
    return results
