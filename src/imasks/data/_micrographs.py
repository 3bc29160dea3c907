"""How the micrographs of the synthetic data are drawn.

A field of view holds cells, which are sharp blobs with a nucleus, and things that are not cells:
anucleate discs (blood cells, bubbles), cells out of focus, specks, fibres. Every object deposits
stain on a few planes; a laboratory says what colour each stain has and whether it absorbs light or
emits it. The laboratories differ so much that a handful of labelled images does not cover them.

Shape letters: H height, W width, S stain planes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imasks.data.files import Bytes

Floats = NDArray[np.float32]
Colour = tuple[float, float, float]

DRAWING = 1  # raise it when the drawing changes, so that data sets on disk are drawn anew
SMALLEST = 32  # pixels a side: the first cell fits
STAINS = 6
BODY, NUCLEUS, RIM, DISC, DUST, MATRIX = range(STAINS)
MARGIN = 16  # pixels drawn beyond the frame: there blurs wrap around, and the frame cuts cells


@dataclass(frozen=True, kw_only=True)
class _Lab:
    """How one laboratory shows the stains: colours are densities per channel (red, green, blue)."""

    glow: bool  # stains emit light on a dark field; otherwise they absorb it from a bright one
    field: Colour
    body: Colour
    nucleus: Colour
    rim: Colour
    disc: Colour
    matrix: Colour
    discs: float = 1.0  # how common the anucleate discs are
    halo: float = 0.0  # phase contrast: a bright fringe around whatever absorbs


_LABS = (
    # haematoxylin and eosin: violet nuclei in pink cytoplasm, red blood cells between them
    _Lab(glow=False, field=(0.96, 0.91, 0.94), body=(0.15, 0.62, 0.30), nucleus=(0.95, 1.30, 0.50),
         rim=(0.20, 0.45, 0.25), disc=(0.12, 0.95, 0.85), matrix=(0.05, 0.26, 0.13)),
    # Giemsa blood smear: few blue cells among many pale pink discs
    _Lab(glow=False, field=(0.97, 0.94, 0.88), body=(0.75, 0.50, 0.12), nucleus=(1.05, 1.50, 0.55),
         rim=(0.35, 0.30, 0.10), disc=(0.14, 0.48, 0.42), matrix=(0.04, 0.05, 0.06), discs=2.5),
    # immunohistochemistry: brown cells, blue discs
    _Lab(glow=False, field=(0.93, 0.94, 0.97), body=(0.30, 0.60, 0.90), nucleus=(0.50, 0.90, 1.30),
         rim=(0.30, 0.60, 0.80), disc=(0.80, 0.45, 0.15), matrix=(0.16, 0.10, 0.04)),
    # two-colour fluorescence: blue nuclei, green cytoplasm
    _Lab(glow=True, field=(0.01, 0.02, 0.05), body=(0.03, 0.55, 0.16), nucleus=(0.20, 0.25, 1.60),
         rim=(0.10, 0.60, 0.15), disc=(0.06, 0.60, 0.20), matrix=(0.01, 0.08, 0.05)),
    # membrane dye: orange rims around dark bodies
    _Lab(glow=True, field=(0.05, 0.02, 0.03), body=(0.32, 0.09, 0.05), nucleus=(0.55, 0.10, 0.50),
         rim=(1.50, 0.62, 0.12), disc=(0.80, 0.28, 0.10), matrix=(0.10, 0.03, 0.06)),
    # a second fluorescence bench: magenta cells, cyan discs
    _Lab(glow=True, field=(0.03, 0.01, 0.06), body=(0.60, 0.06, 0.48), nucleus=(1.20, 0.50, 0.60),
         rim=(0.45, 0.05, 0.60), disc=(0.05, 0.75, 0.85), matrix=(0.08, 0.01, 0.12)),
    # phase contrast: grey on grey, bright fringes
    _Lab(glow=False, field=(0.58, 0.59, 0.58), body=(0.22, 0.22, 0.22), nucleus=(0.38, 0.38, 0.38),
         rim=(0.55, 0.55, 0.55), disc=(0.35, 0.35, 0.35), matrix=(0.10, 0.10, 0.10), halo=0.65),
    # unstained bright field: hardly any contrast
    _Lab(glow=False, field=(0.80, 0.74, 0.60), body=(0.10, 0.12, 0.14), nucleus=(0.20, 0.22, 0.26),
         rim=(0.35, 0.36, 0.36), disc=(0.24, 0.24, 0.22), matrix=(0.06, 0.06, 0.06), halo=0.16),
    # negative of a fluorescence plate: dark teal on paper white
    _Lab(glow=False, field=(0.92, 0.96, 0.93), body=(0.65, 0.28, 0.32), nucleus=(1.80, 0.75, 0.80),
         rim=(0.40, 0.20, 0.22), disc=(0.80, 0.36, 0.40), matrix=(0.12, 0.05, 0.06)),
    # dark field: pale gold outlines on slate
    _Lab(glow=True, field=(0.10, 0.13, 0.17), body=(0.16, 0.15, 0.11), nucleus=(0.45, 0.40, 0.22),
         rim=(0.95, 0.85, 0.50), disc=(0.50, 0.50, 0.45), matrix=(0.06, 0.07, 0.08)),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Outline:
    """A closed curve around a centre: an ellipse whose radius wobbles with low Fourier orders."""

    y: float
    x: float
    radius: float
    stretch: float  # of the first axis; the second shrinks by as much
    angle: float
    wobble: tuple[tuple[float, float], ...]  # amplitude and phase of the orders 2, 3, ...

    def window(self, shape: tuple[int, ...]) -> tuple[slice, slice]:
        """Return the part of the canvas that the object can touch."""
        reach = self.radius * self.stretch * 1.8 + 3
        return (
            slice(max(0, int(self.y - reach)), min(shape[0], int(self.y + reach) + 2)),
            slice(max(0, int(self.x - reach)), min(shape[1], int(self.x + reach) + 2)),
        )

    def depth(self, window: tuple[slice, slice]) -> Floats:
        """Return how far inside the curve each pixel lies, in pixels; negative outside."""
        dy = np.arange(window[0].start, window[0].stop, dtype=np.float32)[:, None] - self.y
        dx = np.arange(window[1].start, window[1].stop, dtype=np.float32)[None, :] - self.x
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        along = (dx * cos + dy * sin) / self.stretch
        across = (dy * cos - dx * sin) * self.stretch
        theta = np.arctan2(across, along)
        rim = np.full_like(theta, 1.0)
        for order, (amplitude, phase) in enumerate(self.wobble, start=2):
            rim += amplitude * np.cos(order * theta + phase)
        return (self.radius * rim - np.hypot(along, across)).astype(np.float32)


def _outline(rng: np.random.Generator, y: float, x: float, radius: float, form: float) -> _Outline:
    """Draw a curve; `form` 0 is a circle, 1 an irregular cell."""
    amplitudes = form * np.array([0.10, 0.08, 0.05, 0.03]) * rng.standard_normal(4)
    phases = rng.uniform(0, 2 * math.pi, 4)
    return _Outline(
        y=y,
        x=x,
        radius=radius,
        stretch=math.exp(form * abs(rng.normal(0, 0.18))),
        angle=rng.uniform(0, math.pi),
        wobble=tuple(zip(np.clip(amplitudes, -0.2, 0.2).tolist(), phases.tolist(), strict=True)),
    )


def _coverage(depth: Floats) -> Floats:
    """Return the share of each pixel inside the curve; one half lies on the curve."""
    cover: Floats = np.clip(depth + 0.5, 0, 1)
    return cover


def _blur(fields: Floats, sigma: Floats | float) -> Floats:
    """Blur `[..., H, W]` with Gaussians of `sigma` pixels (broadcast over the front); wraps."""
    height, width = fields.shape[-2:]
    squares = np.fft.fftfreq(height)[:, None] ** 2 + np.fft.rfftfreq(width)[None, :] ** 2
    kernel = np.exp(-2 * math.pi**2 * np.asarray(sigma)[..., None, None] ** 2 * squares)
    blurred = np.fft.irfft2(np.fft.rfft2(fields) * kernel, s=(height, width))
    return blurred.astype(np.float32)


def _clouds(rng: np.random.Generator, shape: tuple[int, int], sigmas: list[float]) -> Floats:
    """Return one smooth random field `[H, W]` per sigma, each with mean 0 and deviation 1."""
    noise = rng.standard_normal((len(sigmas), *shape), dtype=np.float32)
    fields = _blur(noise, np.array(sigmas, dtype=np.float32))
    fields -= fields.mean((1, 2), keepdims=True)
    fields /= fields.std((1, 2), keepdims=True)
    return fields


def _scatter(
    rng: np.random.Generator, radii: list[float], shape: tuple[int, int], *, clumping: float
) -> list[tuple[float, float] | None]:
    """Place circles so that they touch but hardly overlap; None for those that find no room.

    The first one lies inside the frame, so no image is empty.
    """
    spots: list[tuple[float, float] | None] = []
    placed: list[tuple[float, float, float]] = []
    for radius in radii:
        spots.append(None)
        for _ in range(12):
            inset = MARGIN / 2 if placed else MARGIN + 8
            y, x = rng.uniform(inset, shape[0] - inset), rng.uniform(inset, shape[1] - inset)
            if placed and rng.random() < clumping:
                y, x, other = placed[int(rng.integers(len(placed)))]
                angle = rng.uniform(0, 2 * math.pi)
                y += math.sin(angle) * (radius + other) * 0.95
                x += math.cos(angle) * (radius + other) * 0.95
            inside = 0 < y < shape[0] and 0 < x < shape[1]
            if inside and all(math.hypot(y - v, x - u) > 0.9 * (radius + r) for v, u, r in placed):
                placed.append((y, x, radius))
                spots[-1] = (y, x)
                break
    return spots


def _paint_cell(rng: np.random.Generator, stains: Floats, grain: Floats, cell: _Outline) -> None:
    """Deposit a cell on `stains` `[S, H, W]`: body, rim, and a nucleus with its chromatin."""
    window = cell.window(stains.shape[1:])
    depth = cell.depth(window)
    cover = _coverage(depth)
    fine, coarse = grain[0][window], grain[1][window]
    dome = 0.55 + 0.45 * np.sqrt(np.clip(depth / cell.radius, 0, 1))
    texture = np.clip(1 + rng.uniform(0.1, 0.35) * fine + 0.2 * coarse, 0.25, 2.0)
    stains[BODY][window] += math.exp(rng.normal(0, 0.3)) * cover * dome * texture
    stains[RIM][window] += rng.uniform(0.5, 1.1) * cover * np.exp(-(((depth - 0.8) / 1.1) ** 2))

    size = rng.uniform(0.34, 0.6) * cell.radius
    shift = rng.uniform(0, 0.5) * (cell.radius - size)
    angle = rng.uniform(0, 2 * math.pi)
    y, x = cell.y + shift * math.sin(angle), cell.x + shift * math.cos(angle)
    inside = np.clip(_outline(rng, y, x, size, form=0.7).depth(window) / 1.5 + 0.5, 0, 1)
    chromatin = np.clip(0.9 + rng.uniform(0.1, 0.4) * fine, 0.3, 1.6)
    stains[NUCLEUS][window] += math.exp(rng.normal(0, 0.25)) * cover * inside * chromatin


def _paint_disc(rng: np.random.Generator, stains: Floats, disc: _Outline) -> None:
    """Deposit a smooth disc without a nucleus, paler in the middle like a blood cell."""
    window = disc.window(stains.shape[1:])
    depth = disc.depth(window)
    pallor = 1 - rng.uniform(0.0, 0.6) * np.clip(depth / disc.radius, 0, 1)
    stains[DISC][window] += math.exp(rng.normal(0, 0.25)) * _coverage(depth) * pallor


def _paint_specks(rng: np.random.Generator, stains: Floats, count: int) -> None:
    shape = stains.shape[1:]
    for _ in range(count):
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        speck = _outline(rng, y, x, rng.uniform(0.5, 2.2), form=1)
        window = speck.window(shape)
        stains[DUST][window] += rng.uniform(0.4, 1.4) * _coverage(speck.depth(window))


def _paint_fibres(rng: np.random.Generator, stains: Floats, count: int) -> None:
    height, width = stains.shape[1:]
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    for _ in range(count):
        angle, bend = rng.uniform(0, 2 * math.pi), rng.normal(0, 0.012)
        y, x = rows - rng.uniform(0, height), columns - rng.uniform(0, width)
        along = x * math.cos(angle) + y * math.sin(angle)
        across = y * math.cos(angle) - x * math.sin(angle) - bend * along**2
        thickness = rng.uniform(0.5, 1.3) * np.sqrt(1 + (2 * bend * along) ** 2)
        ends = np.clip((rng.uniform(10, 40) - np.abs(along)) / 4, 0, 1)
        stains[DUST] += rng.uniform(0.3, 0.9) * ends * np.exp(-((across / thickness) ** 2))


def _paint_field(
    rng: np.random.Generator, shape: tuple[int, int], discs: float
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the stain planes `[S, H, W]` of a field of view and which pixels are cell `[H, W]`."""
    area = shape[0] * shape[1] / 128**2
    scale = math.exp(rng.normal(0, 0.22))  # magnification
    grain = _clouds(rng, shape, [0.8, 3.0, 6.0])
    stains = np.zeros((STAINS, *shape), dtype=np.float32)
    ghosts = np.zeros_like(stains)
    mask = np.zeros(shape, dtype=np.bool_)

    cells = 1 + int(rng.poisson(rng.uniform(4, 16) * area / scale))
    others = int(rng.poisson(rng.uniform(0, 9) * discs * area / scale))
    radii = [scale * rng.uniform(5.5, 11.5) for _ in range(cells)]
    radii += [scale * rng.uniform(4, 8.5) for _ in range(others)]
    form = rng.uniform(0.5, 1.3)
    spots = _scatter(rng, radii, shape, clumping=rng.uniform(0, 0.7))
    for number, (radius, spot) in enumerate(zip(radii, spots, strict=True)):
        if spot is None:
            continue
        if number < cells:
            cell = _outline(rng, *spot, radius, form)
            _paint_cell(rng, stains, grain, cell)
            mask[cell.window(shape)] |= cell.depth(cell.window(shape)) > 0
        else:
            _paint_disc(rng, stains, _outline(rng, *spot, radius, form=0.25))
    for _ in range(rng.poisson(rng.uniform(0, 4) * area)):
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        _paint_cell(rng, ghosts, grain, _outline(rng, y, x, scale * rng.uniform(6, 13), form))
    _paint_specks(rng, stains, rng.poisson(rng.uniform(0, 12) * area))
    _paint_fibres(rng, stains, rng.poisson(0.5 * area))
    stains += 1.2 * _blur(ghosts, rng.uniform(2.8, 5))
    stains[MATRIX] += np.clip(0.6 + 0.5 * grain[2] + 0.25 * grain[1] + 0.1 * grain[0], 0, None)
    return stains, mask


def _photograph(rng: np.random.Generator, stains: Floats, lab: _Lab) -> Floats:
    """Return what the laboratory's camera sees of the stains: colours `[H, W, 3]` in 0..1."""
    shape = stains.shape[1:]
    dust = tuple(rng.uniform(0.2, 1.4, 3)) if rng.random() < 0.3 else lab.nucleus
    colours = np.array([lab.body, lab.nucleus, lab.rim, lab.disc, dust, lab.matrix])
    colours *= np.exp(rng.normal(0, 0.18, (STAINS, 1))) * np.exp(rng.normal(0, 0.12, (STAINS, 3)))
    colours *= math.exp(rng.normal(0, 0.3))  # staining strength of the whole slide
    density = np.tensordot(colours.astype(np.float32), stains, axes=(0, 0))
    if lab.halo:
        bulk = stains[[BODY, NUCLEUS, DISC]].sum(0)
        density -= lab.halo * np.clip(_blur(bulk, 2.5) - _blur(bulk, 0.7), 0, None)
    field = np.array(lab.field, dtype=np.float32)[:, None, None]
    light = field + (1 - field) * (1 - np.exp(-density)) if lab.glow else field * np.exp(-density)
    light = _blur(light, rng.uniform(0.4, 1.15))

    y, x = np.meshgrid(np.linspace(-1, 1, shape[0]), np.linspace(-1, 1, shape[1]), indexing="ij")
    angle = rng.uniform(0, 2 * math.pi)
    slope = rng.uniform(0, 0.22) * (x * math.cos(angle) + y * math.sin(angle))
    light = light * (1 + slope) * (1 - rng.uniform(0, 0.28) * (x**2 + y**2))
    if lab.glow:
        light = light + rng.uniform(0, 0.06) * (1 - 0.5 * (x**2 + y**2))  # stray light
    cast = np.exp(rng.normal(0, 0.06, 3)) * math.exp(rng.normal(0, 0.1))
    light = np.clip(light, 1e-3, None) ** cast[:, None, None]
    photons = rng.uniform(250, 2500)
    light += rng.standard_normal(light.shape) * np.sqrt(light / photons)  # shot noise
    light += rng.standard_normal(light.shape) * 0.006  # read-out noise
    return np.clip(light, 0, 1).transpose(1, 2, 0).astype(np.float32)


def draw(
    count: int, size: tuple[int, int], seed: int, stream: int
) -> Iterator[tuple[Bytes, Bytes]]:
    """Yield images uint8 [H,W,3] with masks uint8 [H,W] of 0 and 1, each from its own generator."""
    frame = slice(MARGIN, -MARGIN)
    for number in range(count):
        rng = np.random.default_rng([seed, stream, number])
        lab = _LABS[number % len(_LABS)]
        stains, mask = _paint_field(rng, (size[0] + 2 * MARGIN, size[1] + 2 * MARGIN), lab.discs)
        colours = _photograph(rng, stains, lab)[frame, frame]
        yield np.rint(colours * 255).astype(np.uint8), mask[frame, frame].astype(np.uint8)
