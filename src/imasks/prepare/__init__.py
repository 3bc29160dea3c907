"""From what others publish to a data folder: `imasks prepare`.

`registry` lists what can be prepared, `source` checks what was given, `folder` writes the result so
that it is complete or absent, and each data set has a module of its own.
"""
