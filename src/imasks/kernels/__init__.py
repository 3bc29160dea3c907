"""Compiled loops for training on a processor, where plain PyTorch waits for memory.

C sources are compiled on first use; without a compiler everything runs as plain PyTorch, and runs
say so.
"""

from imasks.kernels.build import kernels

__all__ = ["kernels"]
