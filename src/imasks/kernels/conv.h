/* The convolutions of conv.c for one element type; included once for each.
 *
 * Features lie as pixels x channels, weights as output x row x column x input, both as PyTorch's
 * channels-last format has them. Channels are multiples of 8, kernels 1 x 1 or 3 x 3 with "same"
 * padding. One factor lies in vectors, as cells of PER elements that are multiplied together; the
 * other is broadcast cell by cell.
 *
 * Forward (and back to the input, with the weights turned): cells of input channels; a block of
 * pixels and of output channels is summed in registers.
 * Back to the weights: cells of neighbouring pixels; a block of input and output channels is summed
 * in registers over many rows.
 */
int NAME(conv_ready)(void) { return 1; }

/* What a row of output pixels is computed from. */
struct NAME(row) {
    const U *taps[9];           /* the input of pixel 0 for every tap, in that tap's row */
    const U *weights;           /* tap x cell of input channels x output channel */
    const float *bias;          /* or NULL */
    const float *scale, *shift; /* applied last, or NULL */
    E *out;
    long ntaps, ci, co;
    int relu;
};

/* `pixels` pixels from `first` on, `vectors` vectors of output channels from `channel` on. */
#define DEFINE_BLOCK(V, LANES)                                                                     \
    INLINE void NAME(block_##V)(const struct NAME(row) *r, long first, long channel,               \
                                const long cells, const int pixels, const int vectors)             \
    {                                                                                              \
        V sum[16];                                                                                 \
        UNROLL for (int i = 0; i < pixels * vectors; i++) sum[i] = zero_##V();                     \
        const U *w = r->weights + channel;                                                         \
        for (long tap = 0; tap < r->ntaps; tap++) {                                                \
            const U *x = r->taps[tap] + first * cells;                                             \
            for (long cell = 0; cell < cells; cell++, w += r->co)                                  \
                UNROLL for (int p = 0; p < pixels; p++)                                            \
                    UNROLL for (int v = 0; v < vectors; v++)                                       \
                        sum[p * vectors + v] =                                                     \
                            NAME(dot_##V)(sum[p * vectors + v], w + v * LANES,                     \
                                          x + p * cells + cell);                                   \
        }                                                                                          \
        UNROLL for (int p = 0; p < pixels; p++) UNROLL for (int v = 0; v < vectors; v++)           \
        {                                                                                          \
            const long at = channel + v * LANES;                                                   \
            V total = sum[p * vectors + v];                                                        \
            if (r->bias)                                                                           \
                total = add_##V(total, load_##V(r->bias + at));                                    \
            if (r->relu)                                                                           \
                total = relu_##V(total);                                                           \
            if (r->scale)                                                                          \
                total = fma_##V(total, load_##V(r->scale + at), load_##V(r->shift + at));          \
            NAME(narrow_##V)(r->out + (first + p) * r->co + at, total);                            \
        }                                                                                          \
    }                                                                                              \
    /* Rows that are narrower than a block, whatever the number of channels. */                    \
    INLINE void NAME(narrow_row_##V)(const struct NAME(row) *r, long w, long channel,              \
                                     const int vectors)                                            \
    {                                                                                              \
        long first = 0;                                                                            \
        for (; first + 4 <= w; first += 4)                                                         \
            NAME(block_##V)(r, first, channel, r->ci / PER, 4, vectors);                           \
        for (; first < w; first++)                                                                 \
            NAME(block_##V)(r, first, channel, r->ci / PER, 1, vectors);                           \
    }                                                                                              \
    static void NAME(narrow_row_1_##V)(const struct NAME(row) *r, long w, long channel)            \
    {                                                                                              \
        NAME(narrow_row_##V)(r, w, channel, 1);                                                    \
    }                                                                                              \
    static void NAME(narrow_row_2_##V)(const struct NAME(row) *r, long w, long channel)            \
    {                                                                                              \
        NAME(narrow_row_##V)(r, w, channel, 2);                                                    \
    }                                                                                              \
    /* A block of 12 sums hides the latency of the instruction. The last block of a row may overlap\
     * the one before, and computes the same there. */                                             \
    INLINE void NAME(pixels_##V)(const struct NAME(row) *r, long w, long channel,                  \
                                 const long cells, const int pixels, const int vectors)            \
    {                                                                                              \
        if (w < pixels) {                                                                          \
            int v = 0;                                                                             \
            for (; v + 2 <= vectors; v += 2)                                                       \
                NAME(narrow_row_2_##V)(r, w, channel + v * LANES);                                 \
            if (v < vectors)                                                                       \
                NAME(narrow_row_1_##V)(r, w, channel + v * LANES);                                 \
            return;                                                                                \
        }                                                                                          \
        for (long first = 0; first < w; first += pixels)                                           \
            NAME(block_##V)(r, first + pixels <= w ? first : w - pixels, channel, cells, pixels,   \
                            vectors);                                                              \
    }
#if WIDE
DEFINE_BLOCK(v16, 16)
#endif
DEFINE_BLOCK(v8, 8)
#undef DEFINE_BLOCK

INLINE void NAME(compute_cells)(const struct NAME(row) *r, long w, const long cells)
{
    long channel = 0;
#if WIDE
    for (; channel + 64 <= r->co; channel += 64)
        NAME(pixels_v16)(r, w, channel, cells, 4, 4);
    for (; channel + 32 <= r->co; channel += 32)
        NAME(pixels_v16)(r, w, channel, cells, 8, 2);
    for (; channel + 16 <= r->co; channel += 16)
        NAME(pixels_v16)(r, w, channel, cells, 16, 1);
#else
    for (; channel + 16 <= r->co; channel += 16)
        NAME(pixels_v8)(r, w, channel, cells, 6, 2);
#endif
    for (; channel < r->co; channel += 8)
        NAME(pixels_v8)(r, w, channel, cells, WIDE ? 16 : 12, 1);
}

/* Where the number of channels is known beforehand, neighbouring pixels have fixed addresses. */
static void NAME(compute_row)(const struct NAME(row) *r, long w)
{
    if (r->ci == 8)
        NAME(compute_cells)(r, w, 8 / PER);
    else if (r->ci == 16)
        NAME(compute_cells)(r, w, 16 / PER);
    else
        NAME(compute_cells)(r, w, r->ci / PER);
}

/* Weights as tap x cell of input channels x output channel, for the way forward. */
static void NAME(pack_forward)(const float *weight, long co, long ci, long taps, U *packed)
{
    for (long o = 0; o < co; o++)
        for (long tap = 0; tap < taps; tap++)
            for (long cell = 0; cell < ci / PER; cell++)
                packed[(tap * (ci / PER) + cell) * co + o] =
                    NAME(cell)(weight + (o * taps + tap) * ci + PER * cell, 1);
}

/* Weights as tap (from the last) x cell of output channels x input channel, for the way back. */
static void NAME(pack_backward)(const float *weight, long co, long ci, long taps, U *packed)
{
    for (long cell = 0; cell < co / PER; cell++)
        for (long tap = 0; tap < taps; tap++) {
            const float *from = weight + (PER * cell * taps + tap) * ci;
            U *to = packed + ((taps - 1 - tap) * (co / PER) + cell) * ci;
            for (long i = 0; i < ci; i++)
                to[i] = NAME(cell)(from + i, taps * ci);
        }
}

/* Cells of neighbouring channels, in a place of their own. */
static void NAME(copy_cells)(const E *from, long cells, U *to)
{
#if SAME
    memcpy(to, from, cells * sizeof *to);
#else
    for (long i = 0; i < cells; i++)
        to[i] = NAME(widen)(from[i]);
#endif
}

/* The same, where they are if they can be used as they are; NULL without memory. */
static const U *NAME(as_cells)(const E *from, long cells)
{
#if SAME
    (void)cells;
    return (const U *)from;
#else
    U *to = scratch(1, cells * sizeof *to);
    if (to)
        NAME(copy_cells)(from, cells, to);
    return to;
#endif
}

/* One convolution of n images of h x w pixels from ci to co channels.
 *
 * x, out: n x h x w x channels. weight: float32, its bias or NULL. side: 1 or 3.
 * above, below: 1 if x goes on by a row there (n is 1), which a kernel of 3 x 3 sees; else 0.
 * back: weight is that of a convolution from co to ci channels whose input's gradient is wanted.
 * relu: out is made nonnegative. scale, shift: applied to it last, a channel each, or NULL.
 * Returns 0, or 1 without memory.
 */
int NAME(conv)(const E *x, const float *weight, const float *bias, long n, long h, long w,
              long above, long below, long ci, long co, long side, int back, int relu,
              const float *scale, const float *shift, E *out)
{
    const long taps = side * side;
    U *packed = scratch(0, taps * (ci / PER) * co * sizeof *packed);
    if (!packed)
        return 1;
    if (back)
        NAME(pack_backward)(weight, ci, co, taps, packed);
    else
        NAME(pack_forward)(weight, co, ci, taps, packed);
    const struct NAME(row) base = {
        .weights = packed, .bias = bias, .ntaps = taps, .ci = ci, .co = co,
        .relu = relu, .scale = scale, .shift = shift};
    int failed = 0;
    const long cells = ci / PER; /* of a pixel */
    if (side == 1) {
        const long all = n * h * w, some = 4096 / ci < 64 ? 64 : 4096 / ci / 64 * 64;
        PARALLEL_LOOP(all * co)
        for (long first = 0; first < all; first += some) {
            const long pixels = first + some < all ? some : all - first;
            struct NAME(row) r = base;
            r.taps[0] = NAME(as_cells)(x + first * ci, pixels * cells);
            r.out = out + first * co;
            if (r.taps[0])
                NAME(compute_row)(&r, pixels);
            else
                failed = 1;
        }
    } else {
        const long bands = h < 16 ? 1 : h / 16; /* shares of an image for the threads */
        const long padded = (w + 2) * cells;
        PARALLEL_LOOP(n * h * w * co)
        for (long band = 0; band < n * bands; band++) {
            const long image = band / bands, part = band % bands;
            const long y0 = h * part / bands, y1 = h * (part + 1) / bands;
            const E *from = x + image * h * w * ci;
            U *ring = scratch(1, 3 * padded * sizeof *ring); /* rows y - 1, y, y + 1 */
            if (!ring) {
                failed = 1;
                continue;
            }
            memset(ring, 0, 3 * padded * sizeof *ring);
            for (long y = y0 - 1; y <= y1; y++) {
                U *slot = ring + (y + 3) % 3 * padded + cells;
                if (y < -above || y >= h + below)
                    memset(slot, 0, w * cells * sizeof *slot);
                else
                    NAME(copy_cells)(from + y * w * ci, w * cells, slot);
                if (y <= y0)
                    continue;
                struct NAME(row) r = base; /* of output row y - 1 */
                for (int tap = 0; tap < 9; tap++)
                    r.taps[tap] = ring + (y - 2 + tap / 3 + 3) % 3 * padded + tap % 3 * cells;
                r.out = out + (image * h + y - 1) * w * co;
                NAME(compute_row)(&r, w);
            }
        }
    }
    return failed;
}

/* A row as cells of neighbouring pixels: to[j] = from[first + PER j] and its right neighbours in
 * the cell, zero outside of the row, c channels a pixel. */
static void NAME(cells)(const E *from, long w, long c, long first, long cells, U *to)
{
    for (long j = 0; j < cells; j++, to += c) {
        const long at = first + PER * j;
        int exists[PER];
        for (int k = 0; k < PER; k++)
            exists[k] = at + k >= 0 && at + k < w;
        for (long i = 0; i < c; i += 8)
            NAME(gather)(from + at * c + i, c, exists, to + i);
    }
}

/* What gradients by weights are summed from. */
struct NAME(sums_of) {
    const U *x, *g; /* cells of pixels: of the first row */
    long bands, xband, gband, rows, xrow, grow, cells; /* how many, and how far apart */
    long ci, co;
    float *dw;
    long next_down, next_in; /* in dw, from one row of the kernel, one input channel to the next */
};

/* Sums over rows for 8 input channels and some output channels and rows of the kernel. */
#define DEFINE_SUMS(V, LANES)                                                                      \
    INLINE void NAME(sums_##V)(const struct NAME(sums_of) *s, const int downs, const int vectors)  \
    {                                                                                              \
        V sum[24];                                                                                 \
        UNROLL for (int d = 0; d < downs; d++) UNROLL for (int i = 0; i < 8; i++)                  \
            UNROLL for (int v = 0; v < vectors; v++) sum[(d * 8 + i) * vectors + v] =              \
                load_##V(s->dw + d * s->next_down + i * s->next_in + v * LANES);                   \
        for (long band = 0; band < s->bands; band++)                                               \
            for (long row = 0; row < s->rows; row++) {                                             \
                const U *x = s->x + band * s->xband + row * s->xrow;                               \
                const U *g = s->g + band * s->gband + row * s->grow;                               \
                for (long j = 0; j < s->cells; j++, x += s->ci, g += s->co)                        \
                    UNROLL for (int d = 0; d < downs; d++) UNROLL for (int i = 0; i < 8; i++)      \
                        UNROLL for (int v = 0; v < vectors; v++)                                   \
                            sum[(d * 8 + i) * vectors + v] =                                       \
                                NAME(dot_##V)(sum[(d * 8 + i) * vectors + v], g + v * LANES,       \
                                        x + d * s->xrow + i);                                      \
            }                                                                                      \
        UNROLL for (int d = 0; d < downs; d++) UNROLL for (int i = 0; i < 8; i++)                  \
            UNROLL for (int v = 0; v < vectors; v++)                                               \
                save_##V(s->dw + d * s->next_down + i * s->next_in + v * LANES,                    \
                         sum[(d * 8 + i) * vectors + v]);                                          \
    }
#if WIDE
DEFINE_SUMS(v16, 16)
#endif
DEFINE_SUMS(v8, 8)
#undef DEFINE_SUMS

/* The gradient by the weights: by[o][row][column][i] from x [n, h, w, ci] and g [n, h, w, co].
 * above, below: as in conv.
 *
 * Returns 0, or 1 without memory.
 */
int NAME(conv_weights)(const E *x, const E *g, long n, long h, long w, long above, long below,
                      long ci, long co, long side, float *by)
{
    const long taps = side * side, edge = side / 2;
    const long cells = (w + PER - 1) / PER, xcells = cells + 2 * edge / PER;
    /* Bands of rows, as many at once as stay in the second-level cache. */
    const long budget = 96 * 1024, row_size = (cells * co + PER * xcells * ci) * sizeof(U);
    const long fit = budget / row_size, least_parts = fit > 1 ? (h + fit - 1) / fit : h;
    const long rows = (h + least_parts - 1) / least_parts; /* of a band; the last may have */
    const long parts = (h + rows - 1) / rows;              /* some more than its image */
    const long all = n * parts;
    long group = budget / (row_size * (rows + 2 * edge));
    group = group < 1 ? 1 : group > all ? all : group;
    const long high = rows + 2 * edge; /* rows of x a band */
    const long xrow = xcells * ci, grow = cells * co;
    U *gs = scratch(0, group * rows * grow * sizeof *gs);
    float *dw = scratch(1, taps * ci * co * sizeof *dw); /* tap x input x output */
    U *xs[PER]; /* cells that begin at the left edge, at the pixel beside it, .. */
    for (int shift = 0; shift < PER; shift++) {
        xs[shift] = scratch(2 + shift, group * high * xrow * sizeof(U));
        if (!xs[shift])
            return 1;
    }
    if (!gs || !dw)
        return 1;
    memset(dw, 0, taps * ci * co * sizeof *dw);
    for (long first = 0; first < all; first += group) {
        const long bands = first + group < all ? group : all - first;
        PARALLEL_LOOP(bands * rows * w * (ci + co))
        for (long line = 0; line < bands * high; line++) {
            const long band = line / high, part = (first + band) % parts;
            const long image = (first + band) / parts, row = line % high - edge;
            const long y = part * rows + row;
            for (int shift = 0; shift < PER && shift <= 2 * edge; shift++) {
                U *to = xs[shift] + line * xrow;
                if (y < -above || y >= h + below)
                    memset(to, 0, xrow * sizeof *to);
                else
                    NAME(cells)(x + (image * h + y) * w * ci, w, ci, shift - edge, xcells, to);
            }
            if (row < 0 || row >= rows)
                continue;
            U *to = gs + (band * rows + row) * grow;
            if (y < h)
                NAME(cells)(g + (image * h + y) * w * co, w, co, 0, cells, to);
            else
                memset(to, 0, grow * sizeof *to);
        }
        PARALLEL_LOOP(bands * rows * w * taps * (ci + co))
        for (long unit = 0; unit < side * (ci / 8); unit++) {
            const long right = unit / (ci / 8), i = unit % (ci / 8) * 8;
            struct NAME(sums_of) s = {.bands = bands, .xband = high * xrow, .gband = rows * grow,
                                      .rows = rows, .xrow = xrow, .grow = grow, .cells = cells,
                                      .ci = ci, .co = co, .next_down = side * ci * co,
                                      .next_in = co};
            const U *top = xs[right % PER] + right / PER * ci + i;
            long o = 0;
#if WIDE
            for (; o + 32 <= co; o += 32)
                for (long down = 0; down < side; down++) {
                    s.x = top + down * xrow;
                    s.g = gs + o;
                    s.dw = dw + ((down * side + right) * ci + i) * co + o;
                    NAME(sums_v16)(&s, 1, 2);
                }
            for (; o + 16 <= co; o += 16) {
                s.x = top;
                s.g = gs + o;
                s.dw = dw + (right * ci + i) * co + o;
                if (side == 3)
                    NAME(sums_v16)(&s, 3, 1);
                else
                    NAME(sums_v16)(&s, 1, 1);
            }
#endif
            for (; o < co; o += 8)
                for (long down = 0; down < side; down += WIDE ? 3 : 1) {
                    s.x = top + down * xrow;
                    s.g = gs + o;
                    s.dw = dw + ((down * side + right) * ci + i) * co + o;
                    if (WIDE && side == 3)
                        NAME(sums_v8)(&s, 3, 1);
                    else
                        NAME(sums_v8)(&s, 1, 1);
                }
        }
    }
    for (long row = 0; row < taps * ci; row++)
        for (long o = 0; o < co; o++)
            by[o * taps * ci + row] = dw[row * co + o];
    return 0;
}
