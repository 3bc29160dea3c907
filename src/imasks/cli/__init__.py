"""The command line, one module a group of commands.

Modules that load PyTorch are imported inside the commands, so that help comes at once.
"""

from imasks.cli.commands import app, main

__all__ = ["app", "main"]
