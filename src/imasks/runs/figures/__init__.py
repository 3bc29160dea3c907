"""Figures of a run, each a function from plain data to a matplotlib Figure.

``lines``, ``masks`` and the other modules draw; ``sources`` reads from a run what they need;
``write`` keeps the list of all figures and writes those that apply.
"""
