"""Label Studio's brush masks: bits of the format rle-pack (thi.ng/umbrella).

A head of 53 bits: 32 of the number of values, 5 of the bits a value less one, four times 4 of the
bits a length may have, less one. Then blocks: one bit says whether one value is repeated, two say
which of the four kinds of length follows, then the length less one, then the value or the values.
The values are the red, green, blue and alpha levels of the image's pixels, row by row; alpha says
where the brush was.

Shape letters: H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from imasks.exchange.source import Bools, Size

CHANNELS = 4
WORD = 8  # bits of a value
LENGTHS = (3, 4, 8, 16)  # bits of the four kinds of length


def encode_brush(pixels: Bools) -> list[int]:
    """Encode bool [H,W]; brushed pixels are 255 in all channels."""
    flat = pixels.ravel()
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = [0, *edges.tolist()]
    lengths = np.diff([*starts, flat.size]) * CHANNELS
    bits = [f"{flat.size * CHANNELS:032b}{WORD - 1:05b}", *(f"{n - 1:04b}" for n in LENGTHS)]
    for start, length in zip(starts, lengths.tolist(), strict=True):
        value = "1" * WORD if flat[start] else "0" * WORD
        left = length
        while left:
            part = min(left, 1 << LENGTHS[-1])
            kind = next(k for k, n in enumerate(LENGTHS) if part <= 1 << n)
            bits.append(f"1{kind:02b}{part - 1:0{LENGTHS[kind]}b}{value}")
            left -= part
    text = "".join(bits)
    packed: list[int] = np.packbits(np.array(list(text), np.uint8)).tolist()
    return packed


def decode_brush(data: Sequence[int], size: Size) -> Bools:
    """Decode the alpha channel, bool [H,W].

    Raises:
        ValueError: the data are no brush mask of this size.
    """
    reader = _Bits(np.array(data, np.uint8))
    total = reader.number(32)
    if total != size[0] * size[1] * CHANNELS:
        raise ValueError(f"{total} values for {size[0]} x {size[1]} pixels of {CHANNELS} channels")
    word = reader.number(5) + 1
    lengths = [reader.number(4) + 1 for _ in range(4)]
    values = np.zeros(total, np.uint8)
    done = 0
    while done < total:
        repeated = reader.number(1)
        end = done + 1 + reader.number(lengths[reader.number(2)])
        if end > total:
            raise ValueError("more values than pixels")
        if repeated:
            values[done:end] = reader.number(word) != 0
        else:
            values[done:end] = reader.words(end - done, word)
        done = end
    alpha: Bools = values.reshape(*size, CHANNELS)[..., -1] > 0
    return alpha


class _Bits:
    """Reads numbers bit by bit, the highest bit first."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self.bits = np.unpackbits(data)
        self.at = 0

    def number(self, count: int) -> int:
        """Read one number of `count` bits."""
        return int("".join(map(str, self._take(count).tolist())), 2)

    def words(self, count: int, bits: int) -> NDArray[np.bool_]:
        """Read `count` numbers of `bits` bits and say which are not 0."""
        found: NDArray[np.bool_] = np.any(self._take(count * bits).reshape(count, bits), axis=1)
        return found

    def _take(self, count: int) -> NDArray[np.uint8]:
        found = self.bits[self.at : self.at + count]
        if len(found) < count:
            raise ValueError("the data end too early")
        self.at += count
        return found
