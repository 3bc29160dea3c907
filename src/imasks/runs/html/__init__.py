"""The report as one page that works without a network.

``page`` is what it says, as plain data; ``gather`` reads that from a run, with one module for each
part of the page; ``render`` turns it into HTML. Charts are SVG whose geometry ``charts`` computes.
"""
