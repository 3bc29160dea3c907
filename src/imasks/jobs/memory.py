"""What a worker does with memory that it has freed."""

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of glibc's mallopt


def keep_freed_memory() -> bool:
    """Keep freed memory for the next allocation, instead of giving it back to the system.

    Every training step allocates and frees the same feature maps. glibc returns large pieces at
    once, and the system has to clear their pages anew. A process that does this stays as large as
    it ever was.

    Returns:
        Whether the C library knows how; others are left as they are.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    done = [mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, 2**31 - 1)]
    return all(done)
