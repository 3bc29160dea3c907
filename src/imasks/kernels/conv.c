/* Convolutions of few channels in bfloat16, for processors with AVX-512 BF16.
 *
 * Features lie as pixels x channels, weights as output x row x column x input, both as PyTorch's
 * channels-last format has them. Channels are multiples of 8, kernels 1 x 1 or 3 x 3 with "same"
 * padding. The instruction under all of it, dpbf16, multiplies pairs of bfloat16 and adds them to
 * float32 sums; so one factor lies as pairs in vectors, and the other is broadcast pair by pair.
 *
 * Forward (and back to the input, with the weights turned): pairs of input channels; a block of
 * pixels and of output channels is summed in registers.
 * Back to the weights: pairs of neighbouring pixels; a block of input and output channels is summed
 * in registers over many rows.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "threads.h"

#if defined(__AVX512BF16__) && defined(__AVX512VL__) && defined(__AVX512BW__)
#include <immintrin.h>

int conv_ready(void) { return 1; }

#define INLINE static inline __attribute__((always_inline))
#define UNROLL TEXT(GCC unroll 16)

/* Memory that a thread keeps from call to call: fresh pages cost more than the sums made in them. */
static void *scratch(int slot, size_t size)
{
    static _Thread_local struct {
        void *memory;
        size_t size;
    } kept[4];
    if (kept[slot].size < size) {
        free(kept[slot].memory);
        kept[slot].memory = malloc(size);
        kept[slot].size = kept[slot].memory ? size : 0;
    }
    return kept[slot].memory;
}

/* One interface for vectors of 16 and of 8 channels. */
typedef __m512 v16;
typedef __m256 v8;
INLINE v16 zero_v16(void) { return _mm512_setzero_ps(); }
INLINE v8 zero_v8(void) { return _mm256_setzero_ps(); }
INLINE v16 load_v16(const float *p) { return _mm512_loadu_ps(p); }
INLINE v8 load_v8(const float *p) { return _mm256_loadu_ps(p); }
INLINE void save_v16(float *p, v16 v) { _mm512_storeu_ps(p, v); }
INLINE void save_v8(float *p, v8 v) { _mm256_storeu_ps(p, v); }
INLINE v16 dot_v16(v16 sum, const uint32_t *vector, const uint32_t *one)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_loadu_si512(vector),
                            (__m512bh)_mm512_set1_epi32((int)*one));
}
INLINE v8 dot_v8(v8 sum, const uint32_t *vector, const uint32_t *one)
{
    return _mm256_dpbf16_ps(sum, (__m256bh)_mm256_loadu_si256((const void *)vector),
                            (__m256bh)_mm256_set1_epi32((int)*one));
}
INLINE void narrow_v16(uint16_t *p, v16 v)
{
    _mm256_storeu_si256((void *)p, (__m256i)_mm512_cvtneps_pbh(v));
}
INLINE void narrow_v8(uint16_t *p, v8 v)
{
    _mm_storeu_si128((void *)p, (__m128i)_mm256_cvtneps_pbh(v));
}
INLINE v16 add_v16(v16 a, v16 b) { return _mm512_add_ps(a, b); }
INLINE v8 add_v8(v8 a, v8 b) { return _mm256_add_ps(a, b); }
INLINE v16 fma_v16(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
INLINE v8 fma_v8(v8 a, v8 b, v8 c) { return _mm256_fmadd_ps(a, b, c); }
/* The second factor is the result where one is no number: a diverged network must show. */
INLINE v16 relu_v16(v16 a) { return _mm512_max_ps(_mm512_setzero_ps(), a); }
INLINE v8 relu_v8(v8 a) { return _mm256_max_ps(_mm256_setzero_ps(), a); }

/* What a row of output pixels is computed from. */
struct row {
    const uint16_t *taps[9];    /* the input of pixel 0 for every tap, in that tap's row */
    const uint32_t *weights;    /* tap x pair of input channels x output channel */
    const float *bias;          /* or NULL */
    const float *scale, *shift; /* applied last, or NULL */
    uint16_t *out;
    long ntaps, ci, co;
    int relu;
};

/* `pixels` pixels from `first` on, `vectors` vectors of output channels from `channel` on. */
#define DEFINE_BLOCK(V, LANES)                                                                     \
    INLINE void block_##V(const struct row *r, long first, long channel, const int pixels,         \
                          const int vectors)                                                       \
    {                                                                                              \
        V sum[16];                                                                                 \
        UNROLL for (int i = 0; i < pixels * vectors; i++) sum[i] = zero_##V();                     \
        const long pairs = r->ci / 2;                                                              \
        const uint32_t *w = r->weights + channel;                                                  \
        for (long tap = 0; tap < r->ntaps; tap++) {                                                \
            const uint32_t *x = (const uint32_t *)r->taps[tap] + first * pairs;                    \
            for (long pair = 0; pair < pairs; pair++, w += r->co)                                  \
                UNROLL for (int p = 0; p < pixels; p++)                                            \
                    UNROLL for (int v = 0; v < vectors; v++)                                       \
                        sum[p * vectors + v] =                                                     \
                            dot_##V(sum[p * vectors + v], w + v * LANES, x + p * pairs + pair);    \
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
            narrow_##V(r->out + (first + p) * r->co + at, total);                                  \
        }                                                                                          \
    }                                                                                              \
    /* A block of 12 sums hides the latency of dpbf16. */                                          \
    INLINE void pixels_##V(const struct row *r, long w, long channel, const int pixels,            \
                           const int vectors)                                                      \
    {                                                                                              \
        long first = 0;                                                                            \
        for (; first + pixels <= w; first += pixels)                                               \
            block_##V(r, first, channel, pixels, vectors);                                         \
        for (; first + 4 <= w; first += 4)                                                         \
            block_##V(r, first, channel, 4, vectors);                                              \
        for (; first < w; first++)                                                                 \
            block_##V(r, first, channel, 1, vectors);                                              \
    }
DEFINE_BLOCK(v16, 16)
DEFINE_BLOCK(v8, 8)

static void compute_row(const struct row *r, long w)
{
    long channel = 0;
    for (; channel + 64 <= r->co; channel += 64)
        pixels_v16(r, w, channel, 4, 4);
    for (; channel + 32 <= r->co; channel += 32)
        pixels_v16(r, w, channel, 8, 2);
    for (; channel + 16 <= r->co; channel += 16)
        pixels_v16(r, w, channel, 16, 1);
    for (; channel < r->co; channel += 8)
        pixels_v8(r, w, channel, 16, 1);
}

static uint32_t pair_of(float low, float high)
{
    const __m128bh both = _mm_cvtneps_pbh(_mm_set_ps(0, 0, high, low));
    return (uint32_t)_mm_cvtsi128_si32((__m128i)both);
}

/* Weights as tap x pair of input channels x output channel, for the way forward. */
static void pack_forward(const float *weight, long co, long ci, long taps, uint32_t *packed)
{
    for (long o = 0; o < co; o++)
        for (long tap = 0; tap < taps; tap++)
            for (long pair = 0; pair < ci / 2; pair++) {
                const float *p = weight + (o * taps + tap) * ci + 2 * pair;
                packed[(tap * (ci / 2) + pair) * co + o] = pair_of(p[0], p[1]);
            }
}

/* Weights as tap (from the last) x pair of output channels x input channel, for the way back. */
static void pack_backward(const float *weight, long co, long ci, long taps, uint32_t *packed)
{
    for (long pair = 0; pair < co / 2; pair++)
        for (long tap = 0; tap < taps; tap++) {
            const float *low = weight + (2 * pair * taps + tap) * ci, *high = low + taps * ci;
            uint32_t *to = packed + ((taps - 1 - tap) * (co / 2) + pair) * ci;
            for (long i = 0; i < ci; i++)
                to[i] = pair_of(low[i], high[i]);
        }
}

/* One convolution of n images of h x w pixels from ci to co channels.
 *
 * x, out: n x h x w x channels, bfloat16. weight: float32, its bias or NULL. side: 1 or 3.
 * back: weight is that of a convolution from co to ci channels whose input's gradient is wanted.
 * relu: out is made nonnegative. scale, shift: applied to it last, a channel each, or NULL.
 * Returns 0, or 1 without memory.
 */
int conv_bf16(const uint16_t *x, const float *weight, const float *bias, long n, long h, long w,
              long ci, long co, long side, int back, int relu, const float *scale,
              const float *shift, uint16_t *out)
{
    const long taps = side * side;
    uint32_t *packed = scratch(0, taps * (ci / 2) * co * sizeof *packed);
    if (!packed)
        return 1;
    if (back)
        pack_backward(weight, ci, co, taps, packed);
    else
        pack_forward(weight, co, ci, taps, packed);
    const struct row base = {
        .weights = packed, .bias = bias, .ntaps = taps, .ci = ci, .co = co, .relu = relu, .scale = scale, .shift = shift};
    int failed = 0;
    if (side == 1) {
        const long all = n * h * w, some = 256;
        PARALLEL_LOOP(all * co)
        for (long first = 0; first < all; first += some) {
            struct row r = base;
            r.taps[0] = x + first * ci;
            r.out = out + first * co;
            compute_row(&r, first + some < all ? some : all - first);
        }
    } else {
        const long bands = h < 16 ? 1 : h / 16; /* shares of an image for the threads */
        const long padded = (w + 2) * ci;
        PARALLEL_LOOP(n * h * w * co)
        for (long band = 0; band < n * bands; band++) {
            const long image = band / bands, part = band % bands;
            const long y0 = h * part / bands, y1 = h * (part + 1) / bands;
            const uint16_t *from = x + image * h * w * ci;
            uint16_t *ring = scratch(1, 3 * padded * sizeof *ring); /* rows y - 1, y, y + 1 */
            if (!ring) {
                failed = 1;
                continue;
            }
            memset(ring, 0, 3 * padded * sizeof *ring);
            for (long y = y0 - 1; y <= y1; y++) {
                uint16_t *slot = ring + (y + 3) % 3 * padded + ci;
                if (y < 0 || y >= h)
                    memset(slot, 0, w * ci * sizeof *slot);
                else
                    memcpy(slot, from + y * w * ci, w * ci * sizeof *slot);
                if (y <= y0)
                    continue;
                struct row r = base; /* of output row y - 1 */
                for (int tap = 0; tap < 9; tap++)
                    r.taps[tap] = ring + (y - 2 + tap / 3 + 3) % 3 * padded + tap % 3 * ci;
                r.out = out + (image * h + y - 1) * w * co;
                compute_row(&r, w);
            }
        }
    }
    return failed;
}

/* Rows as pairs of neighbouring pixels: to[j] = (from[first + 2 j], from[first + 2 j + 1]), zero
 * outside of the row, c channels a pixel. */
static void pair_up(const uint16_t *from, long w, long c, long first, long pairs, uint32_t *to)
{
    const __m128i none = _mm_setzero_si128();
    for (long j = 0; j < pairs; j++, to += c) {
        const long at = first + 2 * j;
        const int has_low = at >= 0 && at < w, has_high = at + 1 >= 0 && at + 1 < w;
        const uint16_t *p = from + at * c, *q = p + c;
        for (long i = 0; i < c; i += 8) {
            const __m128i low = has_low ? _mm_loadu_si128((const void *)(p + i)) : none;
            const __m128i high = has_high ? _mm_loadu_si128((const void *)(q + i)) : none;
            _mm_storeu_si128((void *)(to + i), _mm_unpacklo_epi16(low, high));
            _mm_storeu_si128((void *)(to + i + 4), _mm_unpackhi_epi16(low, high));
        }
    }
}

/* What gradients by weights are summed from. */
struct sums {
    const uint32_t *x, *g; /* pairs of pixels: of the first row */
    long bands, xband, gband, rows, xrow, grow, pairs; /* how many, and how far apart */
    long ci, co;
    float *dw;
    long next_down, next_in; /* in dw, from one row of the kernel, one input channel to the next */
};

/* Sums over rows for 8 input channels and some output channels and rows of the kernel. */
#define DEFINE_SUMS(V, LANES)                                                                      \
    INLINE void sums_##V(const struct sums *s, const int downs, const int vectors)                 \
    {                                                                                              \
        V sum[24];                                                                                 \
        UNROLL for (int d = 0; d < downs; d++) UNROLL for (int i = 0; i < 8; i++)                  \
            UNROLL for (int v = 0; v < vectors; v++) sum[(d * 8 + i) * vectors + v] =              \
                load_##V(s->dw + d * s->next_down + i * s->next_in + v * LANES);                   \
        for (long band = 0; band < s->bands; band++)                                               \
            for (long row = 0; row < s->rows; row++) {                                             \
                const uint32_t *x = s->x + band * s->xband + row * s->xrow;                        \
                const uint32_t *g = s->g + band * s->gband + row * s->grow;                        \
                for (long j = 0; j < s->pairs; j++, x += s->ci, g += s->co)                        \
                    UNROLL for (int d = 0; d < downs; d++) UNROLL for (int i = 0; i < 8; i++)      \
                        UNROLL for (int v = 0; v < vectors; v++)                                   \
                            sum[(d * 8 + i) * vectors + v] =                                       \
                                dot_##V(sum[(d * 8 + i) * vectors + v], g + v * LANES,             \
                                        x + d * s->xrow + i);                                      \
            }                                                                                      \
        UNROLL for (int d = 0; d < downs; d++) UNROLL for (int i = 0; i < 8; i++)                  \
            UNROLL for (int v = 0; v < vectors; v++)                                               \
                save_##V(s->dw + d * s->next_down + i * s->next_in + v * LANES,                    \
                         sum[(d * 8 + i) * vectors + v]);                                          \
    }
DEFINE_SUMS(v16, 16)
DEFINE_SUMS(v8, 8)

/* The gradient by the weights: by[o][row][column][i] from x [n, h, w, ci] and g [n, h, w, co].
 *
 * Returns 0, or 1 without memory.
 */
int conv_weights_bf16(const uint16_t *x, const uint16_t *g, long n, long h, long w, long ci,
                      long co, long side, float *by)
{
    const long taps = side * side, edge = side / 2;
    const long pairs = (w + 1) / 2, xpairs = pairs + 1;
    /* Bands of rows, as many at once as stay in the second-level cache. */
    const long budget = 96 * 1024, row_size = (pairs * co + 2 * xpairs * ci) * 4;
    long rows = budget / row_size;
    rows = rows < 1 ? 1 : rows > h ? h : rows;
    while (h % rows)
        rows--;
    const long all = n * (h / rows);
    long group = budget / (row_size * (rows + 2 * edge));
    group = group < 1 ? 1 : group > all ? all : group;
    const long high = rows + 2 * edge; /* rows of x a band */
    const long xrow = xpairs * ci, grow = pairs * co;
    uint32_t *even = scratch(0, group * high * xrow * sizeof *even);
    uint32_t *odd = scratch(1, group * high * xrow * sizeof *odd);
    uint32_t *gs = scratch(2, group * rows * grow * sizeof *gs);
    float *dw = scratch(3, taps * ci * co * sizeof *dw); /* tap x input x output */
    if (!even || !odd || !gs || !dw)
        return 1;
    memset(dw, 0, taps * ci * co * sizeof *dw);
    for (long first = 0; first < all; first += group) {
        const long bands = first + group < all ? group : all - first;
        PARALLEL_LOOP(bands * rows * w * (ci + co))
        for (long line = 0; line < bands * high; line++) {
            const long band = line / high, part = (first + band) % (h / rows);
            const long image = (first + band) / (h / rows);
            const long y = part * rows + line % high - edge;
            uint32_t *to_even = even + line * xrow, *to_odd = odd + line * xrow;
            if (y < 0 || y >= h) {
                memset(to_even, 0, xrow * sizeof *to_even);
                memset(to_odd, 0, xrow * sizeof *to_odd);
            } else {
                const uint16_t *from = x + (image * h + y) * w * ci;
                pair_up(from, w, ci, -edge, xpairs, to_even);
                if (edge)
                    pair_up(from, w, ci, 1 - edge, xpairs, to_odd);
            }
            const long below = line % high - edge;
            if (below >= 0 && below < rows)
                pair_up(g + (image * h + y) * w * co, w, co, 0, pairs,
                        gs + (band * rows + below) * grow);
        }
        PARALLEL_LOOP(bands * rows * w * taps * (ci + co))
        for (long unit = 0; unit < side * (ci / 8); unit++) {
            const long right = unit / (ci / 8), i = unit % (ci / 8) * 8;
            struct sums s = {.bands = bands, .xband = high * xrow, .gband = rows * grow,
                             .rows = rows, .xrow = xrow, .grow = grow, .pairs = pairs,
                             .ci = ci, .co = co, .next_down = side * ci * co, .next_in = co};
            const uint32_t *top = (right == 1 ? odd : even) + right / 2 * ci + i;
            long o = 0;
            for (; o + 16 <= co; o += o + 32 <= co ? 32 : 16)
                for (long down = 0; down < side; down++) {
                    s.x = top + down * xrow;
                    s.g = gs + o;
                    s.dw = dw + ((down * side + right) * ci + i) * co + o;
                    if (o + 32 <= co)
                        sums_v16(&s, 1, 2);
                    else
                        sums_v16(&s, 1, 1);
                }
            if (o < co) {
                s.x = top;
                s.g = gs + o;
                s.dw = dw + (right * ci + i) * co + o;
                if (side == 3)
                    sums_v8(&s, 3, 1);
                else
                    sums_v8(&s, 1, 1);
            }
        }
    }
    for (long row = 0; row < taps * ci; row++)
        for (long o = 0; o < co; o++)
            by[o * taps * ci + row] = dw[row * co + o];
    return 0;
}
#else
int conv_ready(void) { return 0; }
#endif
