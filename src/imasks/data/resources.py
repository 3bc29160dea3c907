"""How much memory and how many cores there are."""

import os
from pathlib import Path

# The limit of a control group, version 2 and 1, as a container sees its own.
_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_QUOTAS = (
    (Path("/sys/fs/cgroup/cpu.max"),),
    (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")),
)


def fits_in_memory(size: int, share: float) -> bool:
    """Say whether one process per core, each with `size` bytes, stays below a share of memory."""
    return size * cores() < share * memory()


def memory() -> int:
    """Bytes that this process may use: the machine's memory or a container's limit, if lower.

    8 GiB are assumed where the system does not tell (Windows).
    """
    physical = 8 * 2**30
    if hasattr(os, "sysconf"):
        physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [path.read_text().strip() for path in _LIMITS if path.is_file()]
    return min([physical, *(int(limit) for limit in limits if limit.isdigit())])


def cores() -> int:
    """Cores that this process may use: those of the machine, or what a container is allowed."""
    count = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    quota = _quota()
    return count if quota is None else max(1, min(count, quota))


def _quota() -> int | None:
    """Processor time that a control group may use, in whole cores; None without a limit."""
    for files in _QUOTAS:  # quota and period, in one file or two
        try:
            quota, period = " ".join(path.read_text() for path in files).split()
            allowed = int(quota) / int(period)
        except (OSError, ValueError):  # another version, or "max"
            continue
        return round(allowed) if allowed > 0 else None
    return None
