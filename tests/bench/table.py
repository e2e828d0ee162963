# SPDX-License-Identifier: GPL-2.0-or-later OR LGPL-3.0-or-later
"""What was measured: a line each on the terminal, and all of it in a file."""

import json
import os
import pathlib
import time

MIB = 1 << 20


class Table:
    """A ratio above 1 is in our favour. Without a peer a line is a figure of ours alone, and has no ratio."""

    def __init__(self):
        self.rows = []

    def head(self):
        print(f"  {'case':<40} {'ours':>10} {'peer':>10} {'unit':<9} {'ratio':>6}  peer", flush=True)

    def add(self, case, ours, peer, peer_name, unit, lower_is_better=False):
        over, under = (peer, ours) if lower_is_better else (ours, peer)
        ratio = over / under if under else float("inf")
        self.rows.append({"case": case, "ours": round(ours, 3), "peer": round(peer, 3), "peer_name": peer_name,
                          "unit": unit, "ratio": round(ratio, 3)})
        print(f"  {case:<40} {ours:>10.1f} {peer:>10.1f} {unit:<9} {ratio:>6.2f}  {peer_name}", flush=True)

    def note(self, case, ours, unit):
        self.rows.append({"case": case, "ours": round(ours, 3), "unit": unit})
        print(f"  {case:<40} {ours:>10.1f} {'':>10} {unit}", flush=True)

    def write(self, path):
        path.write_text(json.dumps(self.rows, indent=1) + "\n")


# ---- Processes ----

def processor_seconds(pid):
    """Of all threads of the process, in user mode and in the kernel."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid):
    """Mebibytes of memory that the process holds."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} is gone")


def timed(work):
    began = time.monotonic()
    result = work()
    return time.monotonic() - began, result
