"""What is asked of the C library for a process of our own."""

from __future__ import annotations

import subprocess
import sys

import pytest

# A fault for every page of 4 kB that comes anew, with half a MB freed and taken again 200 times.
FAULTS = """
import resource
from ssimrdo.machine import keep_memory
if {kept}:
    keep_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(200):
    one, other = bytearray(b"1" * 2_000_000), bytearray(b"1" * 500_000)
    del one, other
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*, kept):
    command = [sys.executable, "-c", FAULTS.format(kept=kept)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="it asks glibc")
def test_freed_memory_is_used_again():
    assert faults(kept=True) < faults(kept=False) / 10
