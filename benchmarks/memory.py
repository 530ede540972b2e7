"""Peak memory of this process on Linux, which can be set back: unlike ``ru_maxrss``, which a child
inherits.
"""

from __future__ import annotations

from pathlib import Path


def peak(process: int | str = "self") -> int:
    """Most memory that this process has used, or another, in bytes."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def forget_peak() -> int:
    """Set the peak to what is used now, and return that."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak()
