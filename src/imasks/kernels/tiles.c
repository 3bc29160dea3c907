/* The convolutions of conv.c in bfloat16, for processors that multiply tiles of matrices (AMX).
 *
 * One instruction multiplies a tile of 16 rows of up to 32 elements by one of up to 16 columns, 8192
 * products in 16 cycles. Of the eight tiles four to six keep sums here. Arguments and layouts are
 * those of conv.h.
 *
 * Forward (and back to the input, with the weights turned): rows are pixels. Their elements are the
 * channels of neighbouring pixels, which lie side by side in memory: a tile's rows overlap, and
 * the three taps of a row of the kernel are one product at 8 channels. Images are copied for that,
 * with a pixel of zeros on every side. Where they are narrower than a tile, it goes on into the
 * next row, and what is computed for the zeros is left out.
 * Back to the weights: rows are the input channels of three image rows, elements are pixels. x is
 * turned to channels x pixels for that; the next tap of a row is the same memory a pixel further.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "threads.h"

#if defined(__linux__) && defined(__AMX_BF16__) && defined(__AVX512BF16__) && \
    defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "scratch.h"

#define INLINE static inline __attribute__((always_inline))
#define ROWS 16             /* of a tile, at most */
#define MOST 32             /* elements of a row */
#define FORWARD (96 * 1024) /* bytes of the second-level cache that are filled at once, */
#define BACK (256 * 1024)   /* and on the way back to the weights */

/* The system has to allow it: eight kilobytes more are saved with every thread. */
int tiles_ready(void)
{
    enum { REQUEST = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
}

#define ZERO(t) __asm__ volatile("tilezero %%tmm" #t ::: "memory")
#define LOAD(t, from, step)                                                                        \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t ::"r"(from), "r"((long)(step)) : "memory")
#define SAVE(t, to, step)                                                                          \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" ::"r"(to), "r"((long)(step)) : "memory")
#define ADD(sum, a, b)                                                                             \
    __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #sum ::: "memory")

/* The first `sums` tiles hold m x n sums, the next `left` the left factor, m x k, and the rest the
 * right one, k / 2 rows of n pairs. */
static void configure(int sums, int left, long m, long k, long n)
{
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } shape = {.palette = 1};
    for (int t = 0; t < 8; t++) {
        const int right = t >= sums + left;
        shape.bytes[t] = t >= sums && !right ? 2 * k : 4 * n;
        shape.rows[t] = right ? k / 2 : m;
    }
    __asm__ volatile("ldtilecfg %0" ::"m"(shape) : "memory");
}

INLINE void release(void) { __asm__ volatile("tilerelease" ::: "memory"); }

static long least(long a, long b) { return a < b ? a : b; }
static long rounded_up(long a, long to) { return (a + to - 1) / to * to; }

/* 16 rows of 16 elements of 32 bits become columns. */
INLINE void turn_16(__m512i r[16])
{
    __m512i a[16];
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int k = 0; k < 2; k++) { /* lane l of r[i + j]: column 4 l + j of rows i to i + 3 */
            r[i + 2 * k] = _mm512_unpacklo_epi64(a[i + k], a[i + k + 2]);
            r[i + 2 * k + 1] = _mm512_unpackhi_epi64(a[i + k], a[i + k + 2]);
        }
    for (int j = 0; j < 4; j++) {
        const __m512i low = _mm512_shuffle_i32x4(r[j], r[4 + j], 0x88);
        const __m512i high = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0x88);
        const __m512i low_odd = _mm512_shuffle_i32x4(r[j], r[4 + j], 0xdd);
        const __m512i high_odd = _mm512_shuffle_i32x4(r[8 + j], r[12 + j], 0xdd);
        a[j] = _mm512_shuffle_i32x4(low, high, 0x88);
        a[8 + j] = _mm512_shuffle_i32x4(low, high, 0xdd);
        a[4 + j] = _mm512_shuffle_i32x4(low_odd, high_odd, 0x88);
        a[12 + j] = _mm512_shuffle_i32x4(low_odd, high_odd, 0xdd);
    }
    for (int i = 0; i < 16; i++)
        r[i] = a[i];
}

/* -- forward ------------------------------------------------------------------------------- */

struct product {
    const uint16_t *x;                 /* the first pixel's elements */
    long step;                         /* bytes from pixel to pixel */
    long lines, line;                  /* rows of the kernel, and elements from one to the next */
    long pieces, k;                    /* tiles of a row of the kernel, and their elements */
    const uint32_t *packed;            /* output channels' block x row x piece: a tile */
    long co, n;                        /* output channels, and those of a block */
    const float *bias, *scale, *shift; /* or NULL; scale and shift are applied last */
    int relu;
    uint16_t *out;
    long high, wide, across; /* of `across` pixels of each row the first `wide` are wanted, */
    long period;             /* and of as many rows all but the last */
};

struct finish {
    __m512 bias, lowest, scale, shift; /* of the block's channels, those of 8 twice */
};

INLINE __m512 channels_of(const struct product *p, const float *values, long block, float otherwise)
{
    if (!values)
        return _mm512_set1_ps(otherwise);
    if (p->n == 16)
        return _mm512_loadu_ps(values + block * 16);
    const __m256 half = _mm256_loadu_ps(values + block * 8);
    return _mm512_castpd_ps(_mm512_broadcast_f64x4(_mm256_castps_pd(half)));
}

INLINE struct finish finish_of(const struct product *p, long block)
{
    return (struct finish){channels_of(p, p->bias, block, 0),
                           _mm512_set1_ps(p->relu ? 0 : -__builtin_inff()),
                           channels_of(p, p->scale, block, 1), channels_of(p, p->shift, block, 0)};
}

INLINE __m256i finished(const struct finish *f, __m512 v)
{
    /* max gives its second factor where one is no number: a diverged network must show */
    v = _mm512_max_ps(f->lowest, _mm512_add_ps(v, f->bias));
    return (__m256i)_mm512_cvtneps_pbh(_mm512_fmadd_ps(v, f->scale, f->shift));
}

/* Where a tile's pixels lie: the first one in x and in `out`, and whether all are wanted. */
struct place {
    long x, out;
    int whole;
};

/* The places of tiles of `rows` pixels that cover all wanted ones; returns how many there are, some
 * of which overlap and compute the same there. */
static long place_tiles(const struct product *p, int rows, struct place *to)
{
    const struct place *start = to;
    if (p->wide >= rows)
        for (long y = 0; y < p->high; y++)
            for (long x = 0; x < p->wide; x += rows) {
                const long from = least(x, p->wide - rows);
                *to++ = (struct place){y * p->across + from, y * p->wide + from, 1};
            }
    else
        for (long at = 0; at < p->high * p->across; at += rows) {
            const long y = at / p->across, x = least(at % p->across, p->wide);
            const long before = y - y / p->period; /* wanted rows */
            *to++ = (struct place){at, before * p->wide + ((y + 1) % p->period ? x : 0), 0};
        }
    return to - start;
}

/* The sums of a tile become output pixels. */
INLINE void finish(const struct product *p, const struct finish *f, const float *sums,
                   const struct place *at, long block, int rows)
{
    uint16_t *to = p->out + at->out * p->co + block * p->n;
    if (at->whole && rows == ROWS) {
        if (p->co == 8)
            for (int row = 0; row < ROWS; row += 2)
                _mm256_storeu_si256((void *)(to + row * 8),
                                    finished(f, _mm512_load_ps(sums + row * 8)));
        else if (p->n == 16)
            for (int row = 0; row < ROWS; row++)
                _mm256_storeu_si256((void *)(to + row * p->co),
                                    finished(f, _mm512_load_ps(sums + row * 16)));
        else
            for (int row = 0; row < ROWS; row += 2) {
                const __m256i two = finished(f, _mm512_load_ps(sums + row * 8));
                _mm_storeu_si128((void *)(to + row * p->co), _mm256_castsi256_si128(two));
                _mm_storeu_si128((void *)(to + (row + 1) * p->co),
                                 _mm256_extracti128_si256(two, 1));
            }
        return;
    }
    const __mmask16 there = p->n == 8 ? 0xff : 0xffff;
    long y = at->x / p->across, x = at->x % p->across;
    for (int row = 0; row < rows; row++, sums += p->n) {
        if (x < p->wide && y < p->high && (y + 1) % p->period) {
            const __m256i one = finished(f, _mm512_maskz_loadu_ps(there, sums));
            _mm256_mask_storeu_epi16(to, there, one);
            to += p->co;
        }
        if (++x == p->across) {
            x = 0;
            y++;
        }
    }
}

/* Tiles of pixels, at[i], and of a block of output channels. Two blocks of two tiles need fewer loads
 * for as many products, but were a fifth slower. */
#define EACH_PRODUCT(...)                                                                          \
    for (long line = 0; line < p->lines; line++)                                                   \
        for (long piece = 0; piece < p->pieces; piece++, w += size) {                              \
            const uint16_t *x = p->x + line * p->line + piece * p->k;                              \
            __VA_ARGS__                                                                            \
        }
#define X(i) (x + at[i]->x * (p->step / 2))

static void product_1x1(const struct product *p, long block, const struct place *const *at,
                        int rows)
{
    float sums[1][ROWS * ROWS] __attribute__((aligned(64)));
    const long size = p->k / 2 * p->n, step = p->step, right = 4 * p->n;
    const uint32_t *w = p->packed + block * p->lines * p->pieces * size;
    ZERO(0);
    EACH_PRODUCT(LOAD(6, w, right); LOAD(4, X(0), step); ADD(0, 4, 6);)
    SAVE(0, sums[0], right);
    const struct finish f = finish_of(p, block);
    finish(p, &f, sums[0], at[0], block, rows);
}

static void product_4x1(const struct product *p, long block, const struct place *const *at)
{
    float sums[4][ROWS * ROWS] __attribute__((aligned(64)));
    const long size = p->k / 2 * p->n, step = p->step, right = 4 * p->n;
    const uint32_t *w = p->packed + block * p->lines * p->pieces * size;
    ZERO(0);
    ZERO(1);
    ZERO(2);
    ZERO(3);
    EACH_PRODUCT(LOAD(6, w, right); LOAD(4, X(0), step); ADD(0, 4, 6); LOAD(5, X(1), step);
                 ADD(1, 5, 6); LOAD(4, X(2), step); ADD(2, 4, 6); LOAD(5, X(3), step);
                 ADD(3, 5, 6);)
    SAVE(0, sums[0], right);
    SAVE(1, sums[1], right);
    SAVE(2, sums[2], right);
    SAVE(3, sums[3], right);
    const struct finish f = finish_of(p, block);
    for (int i = 0; i < 4; i++)
        finish(p, &f, sums[i], at[i], block, ROWS);
}

/* All output channels of all pixels, in tiles of `rows` of them. Returns 0, or 1 without memory. */
static int multiply(const struct product *p, int rows)
{
    const long blocks = p->co / p->n, most = p->high * (p->across / rows + 1);
    struct place *places = scratch(2, most * sizeof *places);
    if (!places)
        return 1;
    const long count = place_tiles(p, rows, places);
    const struct place *last = places + count - 1;
    configure(4, 2, rows, p->k, p->n);
    for (long block = 0; block < blocks; block++)
        for (const struct place *to = places; to <= last; to += 4) {
            const struct place *at[4];
            for (int i = 0; i < 4; i++)
                at[i] = to + i <= last ? to + i : last;
            if (to == last)
                product_1x1(p, block, at, rows);
            else
                product_4x1(p, block, at);
        }
    release();
    return 0;
}

/* Of 16 pairs of floats, the first in `low`. */
INLINE __m512i pairs(__m512 low, __m512 high)
{
    const __m512i a = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(low));
    const __m512i b = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(high));
    return _mm512_or_si512(a, _mm512_slli_epi32(b, 16));
}

/* Tiles of weights, pairs x output channels: a row of the kernel is `line` elements, the input
 * channels of its taps. */
static void pack(const float *weight, const struct product *p, long line, uint32_t *to)
{
    const __mmask16 there = p->n == 8 ? 0xff : 0xffff;
    const long all = p->lines * line; /* weights of an output channel */
    for (long block = 0; block < p->co; block += p->n, to += all / 2 * p->n)
        for (long at = 0; at < all; at += 32) {
            const long some = least(32, all - at); /* weights, pairs of which are turned */
            const __mmask32 given = (uint32_t)((1ull << some) - 1);
            __m512i r[16];
            for (int o = 0; o < 16; o++) {
                const float *from = weight + (block + o) * all + at;
                r[o] = _mm512_setzero_si512();
                if (o < p->n)
                    r[o] = (__m512i)_mm512_cvtne2ps_pbh(
                        _mm512_maskz_loadu_ps((__mmask16)(given >> 16), from + 16),
                        _mm512_maskz_loadu_ps((__mmask16)given, from));
            }
            turn_16(r);
            for (int j = 0; j < some / 2; j++)
                _mm512_mask_storeu_epi32(to + (at / 2 + j) * p->n, there, r[j]);
        }
}

/* The same from the weights of a convolution from co to ci channels, the other way round. */
static void pack_back(const float *weight, const struct product *p, long ci, uint32_t *to)
{
    const __mmask16 there = p->n == 8 ? 0xff : 0xffff;
    const long taps = p->lines * p->lines, next = taps * p->co;
    for (long block = 0; block < p->co; block += p->n)
        for (long tap = taps - 1; tap >= 0; tap--)
            for (long i = 0; i < ci; i += 2, to += p->n) {
                const float *from = weight + i * next + tap * p->co + block;
                _mm512_mask_storeu_epi32(to, there,
                                         pairs(_mm512_maskz_loadu_ps(there, from),
                                               _mm512_maskz_loadu_ps(there, from + next)));
            }
}

/* Into how many tiles of an even number of elements a row of the kernel is cut. */
static long pieces_of(long line)
{
    long pieces = (line + MOST - 1) / MOST;
    while (line % (2 * pieces))
        pieces++;
    return pieces;
}

int tiles_conv(const uint16_t *x, const float *weight, const float *bias, long n, long h, long w,
               long above, long below, long ci, long co, long side, int back, int relu,
               const float *scale, const float *shift, uint16_t *out)
{
    const long line = side * ci, pieces = pieces_of(line);
    uint32_t *packed = scratch(0, side * line / 2 * co * sizeof *packed);
    if (!packed)
        return 1;
    const struct product base = {
        .step = 2 * ci, .lines = side, .line = (w + 2) * ci, .pieces = pieces, .k = line / pieces,
        .packed = packed, .co = co, .n = co % 16 ? 8 : 16, .bias = bias, .scale = scale,
        .shift = shift, .relu = relu, .wide = w, .across = w + 2};
    if (back)
        pack_back(weight, &base, ci, packed);
    else
        pack(weight, &base, line, packed);
    int failed = 0;
    if (side == 1) {
        const long all = n * h * w, fit = all / 1024, units = fit < 1 ? least(all, 1) : fit;
        PARALLEL_LOOP(all * co)
        for (long unit = 0; unit < units; unit++) {
            const long from = all * unit / units, count = all * (unit + 1) / units - from;
            struct product p = base;
            p.x = x + from * ci;
            p.out = out + from * co;
            p.high = 1;
            p.period = 2;
            p.wide = p.across = count;
            if (multiply(&p, (int)least(count, ROWS)))
                failed = 1;
        }
        return failed;
    }
    /* A band of an image with a row above and below; or several narrow images, one below the other
     * with a row of zeros between them: weights are read once for all then. */
    const long fit = FORWARD / (2 * base.line) - 2, high = fit < 1 ? 1 : fit; /* rows of a band */
    const long bands = (h + high - 1) / high;
    const long some = w < ROWS && bands == 1 ? (high + 1) / (h + 1) : 1; /* images */
    const long groups = (n + some - 1) / some;
    PARALLEL_LOOP(n * h * w * co)
    for (long unit = 0; unit < groups * bands; unit++) {
        const long group = unit / bands, part = unit % bands;
        const long image = n * group / groups, images = n * (group + 1) / groups - image;
        const long y0 = h * part / bands, y1 = h * (part + 1) / bands;
        struct product p = base;
        p.period = y1 - y0 + 1;
        p.high = images * p.period - 1;
        /* And what the last tile reads beyond. */
        uint16_t *to = scratch(1, ((p.high + 2) * p.line + (ROWS + 2) * ci) * sizeof *to);
        if (!to) {
            failed = 1;
            continue;
        }
        p.x = to;
        for (long row = 0; row < p.high + 2; row++, to += p.line) {
            const long before = images > 1 ? row / p.period : 0; /* images */
            const long y = y0 - 1 + row - before * p.period;
            const uint16_t *from = x + ((image + before) * h + y) * w * ci;
            memset(to, 0, ci * sizeof *to);
            memset(to + (w + 1) * ci, 0, ci * sizeof *to);
            if (y >= -above && y < h + below)
                memcpy(to + ci, from, w * ci * sizeof *to);
            else
                memset(to + ci, 0, w * ci * sizeof *to);
        }
        memset(to, 0, (ROWS + 2) * ci * sizeof *to);
        p.out = out + (image * h + y0) * w * co;
        if (multiply(&p, ROWS))
            failed = 1;
    }
    return failed;
}

/* -- back to the weights --------------------------------------------------------------------- */

/* 32 pixels of 8 channels, c channels each, as channels of 32 pixels, `step` elements each. */
INLINE void turn_pixels(const uint16_t *from, long c, uint16_t *to, long step, __mmask32 there)
{
    __m512i r[8], a[8], b[8];
    for (int k = 0; k < 8; k++) {
        const uint16_t *p = from + k * c;
        __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const void *)p));
        v = _mm512_inserti32x4(v, _mm_loadu_si128((const void *)(p + 8 * c)), 1);
        v = _mm512_inserti32x4(v, _mm_loadu_si128((const void *)(p + 16 * c)), 2);
        r[k] = _mm512_inserti32x4(v, _mm_loadu_si128((const void *)(p + 24 * c)), 3);
    }
    for (int k = 0; k < 4; k++) { /* pairs of pixels: channels 0 to 3, 4 to 7 */
        a[k] = _mm512_unpacklo_epi16(r[2 * k], r[2 * k + 1]);
        a[4 + k] = _mm512_unpackhi_epi16(r[2 * k], r[2 * k + 1]);
    }
    for (int half = 0; half < 8; half += 4) { /* four pixels of two channels */
        b[half] = _mm512_unpacklo_epi32(a[half], a[half + 1]);
        b[half + 1] = _mm512_unpackhi_epi32(a[half], a[half + 1]);
        b[half + 2] = _mm512_unpacklo_epi32(a[half + 2], a[half + 3]);
        b[half + 3] = _mm512_unpackhi_epi32(a[half + 2], a[half + 3]);
    }
    for (int half = 0; half < 8; half += 4)
        for (int two = 0; two < 2; two++) {
            uint16_t *at = to + (half + 2 * two) * step;
            const __m512i low = b[half + two], high = b[half + two + 2];
            _mm512_mask_storeu_epi16(at, there, _mm512_unpacklo_epi64(low, high));
            _mm512_mask_storeu_epi16(at + step, there, _mm512_unpackhi_epi64(low, high));
        }
}

/* A row of pixels as channels of `step` pixels: `edge` zeros, the row, and zeros. */
static void turn_row(const uint16_t *from, long w, long c, long edge, uint16_t *to, long step)
{
    uint16_t last[MOST * 8];
    const long rest = w % MOST, whole = w - rest;
    for (long i = 0; i < c; i += 8) {
        uint16_t *row = to + i * step;
        for (int k = 0; k < 8; k++) {
            memset(row + k * step, 0, edge * sizeof *row);
            memset(row + k * step + edge + w, 0, (step - edge - w) * sizeof *row);
        }
        for (long p = 0; p < whole; p += MOST)
            turn_pixels(from + p * c + i, c, row + edge + p, step, 0xffffffff);
        if (rest) {
            for (long p = 0; p < rest; p++)
                memcpy(last + 8 * p, from + (whole + p) * c + i, 8 * sizeof *last);
            turn_pixels(last, 8, row + edge + whole, step, (1u << rest) - 1);
        }
    }
}

/* A row of pixels as `pairs` pairs of pixels x channels, zeros after the row. */
static void pair_row(const uint16_t *from, long w, long c, long pairs, uint32_t *to)
{
    for (long j = 0; j < pairs; j++, from += 2 * c, to += c)
        for (long i = 0; i < c; i += 16) {
            const __mmask16 there = c - i < 16 ? 0xff : 0xffff;
            const __mmask16 low = 2 * j < w ? there : 0, high = 2 * j + 1 < w ? there : 0;
            const __m512i a = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(low, from + i));
            const __m512i b = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(high, from + c + i));
            const __m512i both = _mm512_or_si512(a, _mm512_slli_epi32(b, 16));
            _mm512_mask_storeu_epi32(to + i, there, both);
        }
}

/* What gradients by weights are summed from. */
struct sums_of {
    const uint16_t *x;      /* band x row x channel: `step` pixels */
    const uint32_t *g;      /* band x row x pair of pixels x output channel */
    long bands, rows, high; /* rows of a band of g, and of one of x */
    long step, pairs;       /* pixels of a row of x, pairs of one of g */
    long chunks, k;         /* a row is cut into, and their pixels */
    long ci, co, n;         /* channels, output channels, and those of a block */
    long tiles;             /* of 16 rows of the kernel and their input channels; so many, */
    long same, down;        /* `same`, are of one place in x, the next ones `down` pixels further */
    float *dw;              /* column of the kernel x tile x output channel */
};

/* The tiles of m x n sums and their places in memory. */
#define EACH_SUM(DO)                                                                               \
    DO(0, to, right);                                                                              \
    if (n > 1)                                                                                     \
        DO(1, next, right);                                                                        \
    if (m > 1)                                                                                     \
        DO(2, to + below, right);                                                                  \
    if (m > 1 && n > 1)                                                                            \
        DO(3, next + below, right);                                                                \
    if (m > 2)                                                                                     \
        DO(4, to + 2 * below, right);                                                              \
    if (m > 2 && n > 1)                                                                            \
        DO(5, next + 2 * below, right);

/* Sums for m tiles from `first` on, n blocks of output channels from `block` on. */
INLINE void add_up(const struct sums_of *s, long first, long block, const int m, const int n)
{
    const long across = 2 * s->step, right = 4 * s->co, below = ROWS * s->co;
    float *to = s->dw + first * below + block * s->n, *next = to + s->n;
    long at[3]; /* in x: the column of the kernel is that many pixels to the right */
    for (int i = 0; i < m; i++) {
        const long tile = (first + i) % s->tiles;
        at[i] = (first + i) / s->tiles + tile / s->same * s->down + tile % s->same * ROWS * s->step;
    }
    EACH_SUM(LOAD)
    for (long band = 0; band < s->bands; band++)
        for (long row = 0; row < s->rows; row++) {
            const uint16_t *x = s->x + (band * s->high + row) * s->ci * s->step;
            const uint32_t *g = s->g + (band * s->rows + row) * s->pairs * s->co + block * s->n;
            for (long chunk = 0; chunk < s->chunks; chunk++, x += s->k, g += s->k / 2 * s->co) {
                LOAD(7, g, right);
                LOAD(6, x + at[0], across);
                ADD(0, 6, 7);
                if (n > 1) {
                    LOAD(7, g + s->n, right);
                    ADD(1, 6, 7);
                }
                if (m > 1) {
                    LOAD(6, x + at[1], across);
                    if (n > 1) {
                        ADD(3, 6, 7);
                        LOAD(7, g, right);
                    }
                    ADD(2, 6, 7);
                }
                if (m > 2) {
                    LOAD(6, x + at[2], across);
                    ADD(4, 6, 7);
                    if (n > 1) {
                        LOAD(7, g + s->n, right);
                        ADD(5, 6, 7);
                    }
                }
            }
        }
    EACH_SUM(SAVE)
}

/* The same for all output channels. */
#define ALL_OUT(m)                                                                                 \
    static void add_up_##m(const struct sums_of *s, long i)                                        \
    {                                                                                              \
        const long blocks = s->co / s->n;                                                          \
        long block = 0;                                                                            \
        for (; block + 2 <= blocks; block += 2)                                                    \
            add_up(s, i, block, m, 2);                                                             \
        if (block < blocks)                                                                        \
            add_up(s, i, block, m, 1);                                                             \
    }
ALL_OUT(1)
ALL_OUT(2)
ALL_OUT(3)

/* Input x output becomes output x input, `step` elements from one to the next. */
static void turn_weights(const float *from, long ci, long co, float *to, long step)
{
    for (long o = 0; o < co; o += 16)
        for (long i = 0; i < ci; i += 16) {
            const __mmask16 outs = co - o < 16 ? 0xff : 0xffff, ins = ci - i < 16 ? 0xff : 0xffff;
            __m512i r[16];
            for (int k = 0; k < 16; k++)
                r[k] = _mm512_maskz_loadu_epi32(i + k < ci ? outs : 0, from + (i + k) * co + o);
            turn_16(r);
            for (int k = 0; k < 16 && o + k < co; k++)
                _mm512_mask_storeu_epi32(to + (o + k) * step + i, ins, r[k]);
        }
}

/* An image with `before` rows and columns of zeros before it, and as many rows and `pitch` pixels a
 * row in all. Returns the copy, or NULL without memory. */
static uint16_t *framed(const uint16_t *from, long h, long w, long c, long before, long pitch)
{
    const long size = (h + 2 * before) * pitch * c;
    uint16_t *copy = scratch(3, size * sizeof *copy);
    if (!copy)
        return NULL;
    memset(copy, 0, size * sizeof *copy);
    for (long y = 0; y < h; y++)
        memcpy(copy + ((y + before) * pitch + before) * c, from + y * w * c, w * c * sizeof *copy);
    return copy;
}

int tiles_conv_weights(const uint16_t *x, const uint16_t *g, long n, long h, long w, long above,
                       long below, long ci, long co, long side, float *by)
{
    const long all_pixels = n * h * w, length = all_pixels % 64 ? 32 : 64;
    if (side == 1)
        above = below = 0; /* nothing there is seen */
    if (side == 1 && all_pixels % length == 0) { /* pixels may be seen as rows of any length */
        n = 1;
        h = all_pixels / length;
        w = length;
    }
    /* Rows much shorter than a tile's leave most of it empty. Narrow images are one long row, with
     * zeros between their own: then all taps are the same memory some pixels further. */
    const int narrow = side == 3 && w <= ROWS && h <= MOST && ci % ROWS == 0 && !above && !below;
    const long pitch = w + 2, wide = narrow ? h * pitch : w; /* pixels of a row of g */
    const long edge = narrow ? 0 : side / 2, chunks = (wide + MOST - 1) / MOST;
    const long k = rounded_up((wide + chunks - 1) / chunks, 2);
    long step = rounded_up(chunks * k + (narrow ? 2 * pitch + 2 : 2 * edge), 8);
    step += step % 512 ? 0 : 8; /* else rows fall into few places of the cache */
    const long pairs = chunks * k / 2, tiles = (side * ci + ROWS - 1) / ROWS;
    const long row_size = 2 * step * ci + 4 * pairs * co, all_rows = narrow ? 1 : h;
    const long fit = BACK / 2 / row_size;
    const long least_parts = fit > 1 ? (all_rows + fit - 1) / fit : all_rows;
    const long rows = (all_rows + least_parts - 1) / least_parts; /* of a band; the last may have */
    const long parts = (all_rows + rows - 1) / rows;              /* some more than its image */
    const long high = rows + 2 * edge, all = n * parts;
    long group = BACK / (row_size * high);
    group = group < 1 ? 1 : least(group, all);
    uint16_t *xs = scratch(0, ((group * high * ci) + ROWS) * step * sizeof *xs);
    uint32_t *gs = scratch(1, group * rows * pairs * co * sizeof *gs);
    const long dw_size = tiles * ROWS * co;
    float *dw = scratch(2, side * dw_size * sizeof *dw); /* column x row, input x output */
    if (!xs || !gs || !dw)
        return 1;
    memset(dw, 0, side * dw_size * sizeof *dw);
    int failed = 0;
    for (long first = 0; first < all; first += group) {
        const long bands = least(group, all - first);
        PARALLEL_LOOP(bands * rows * wide * (ci + co))
        for (long line = 0; line < bands * high; line++) {
            const long band = line / high, part = (first + band) % parts;
            const long image = (first + band) / parts, row = line % high - edge;
            const long y = part * rows + row;
            uint16_t *to = xs + line * ci * step;
            uint32_t *pair = gs + (band * rows + row) * pairs * co;
            const uint16_t *shown = x + (image * h + y) * w * ci;
            const uint16_t *grad = g + (image * h + y) * w * co;
            if (narrow) {
                shown = framed(shown, h, w, ci, 1, pitch);
                if (shown)
                    turn_row(shown, (h + 2) * pitch, ci, 0, to, step);
                grad = framed(grad, h, w, co, 0, pitch);
                if (grad)
                    pair_row(grad, wide, co, pairs, pair);
                if (!shown || !grad)
                    failed = 1;
                continue;
            }
            if (y < -above || y >= h + below)
                memset(to, 0, ci * step * sizeof *to);
            else
                turn_row(shown, w, ci, edge, to, step);
            if (row < 0 || row >= rows)
                continue;
            if (y < h)
                pair_row(grad, w, co, pairs, pair);
            else
                memset(pair, 0, pairs * co * sizeof *pair);
        }
        const long units = (side * tiles + 2) / 3;
        PARALLEL_LOOP(bands * rows * w * side * side * (ci + co))
        for (long unit = 0; unit < units; unit++) {
            const long from = side * tiles * unit / units;
            const long count = side * tiles * (unit + 1) / units - from;
            const struct sums_of s = {
                .x = xs, .g = gs, .bands = bands, .rows = rows, .high = high,
                .step = step, .pairs = pairs, .chunks = chunks, .k = k, .ci = ci, .co = co,
                .n = co % 16 ? 8 : 16, .tiles = tiles, .same = narrow ? ci / ROWS : tiles,
                .down = pitch, .dw = dw};
            configure(6, 1, ROWS, k, s.n);
            if (count == 3)
                add_up_3(&s, from);
            else if (count == 2)
                add_up_2(&s, from);
            else
                add_up_1(&s, from);
            release();
        }
    }
    for (long down = 0; down < side; down++)
        for (long right = 0; right < side; right++, by += ci)
            turn_weights(dw + right * dw_size + down * ci * co, ci, co, by, side * side * ci);
    return failed;
}

#else
int tiles_ready(void) { return 0; }
/* Never called: their absence would keep the whole library from being loaded. */
int tiles_conv(void) { return 1; }
int tiles_conv_weights(void) { return 1; }
#endif
