/* What a training step does between its convolutions, in as few passes over memory as possible.
 *
 * ReLU, batch norm and their gradients are limited by memory traffic. As separate operations they
 * read and write every feature map a dozen times; here it is two passes forward (moments, affine)
 * and two back (grad_moments, grad_affine). See norm_by and norm_grad_by for the formulas.
 *
 * Sums are kept in float for BLOCK rows at most, then in double; gradients by variables of a stage
 * that is computed in portions are added in float.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "threads.h"

#define TILE 64   /* elements of an inner loop: four vectors of 16 floats */
#define BLOCK 256 /* rows summed in float */
#define CHUNKS 16 /* shares of the threads; not their number, so that sums do not depend on it */

#if defined(__clang__)
#define SAME_PLACE TEXT(clang loop vectorize(assume_safety))
#elif defined(__GNUC__)
#define SAME_PLACE TEXT(GCC ivdep)
#else
#define SAME_PLACE
#endif

/* Do with C for c, known to the compiler where it is one of the usual numbers of channels. */
#define CASE(n, do)                                                                                \
    case n: {                                                                                      \
        enum { C = n };                                                                            \
        do;                                                                                        \
        break;                                                                                     \
    }
#define FOR_CHANNELS(c, do)                                                                        \
    switch (c) {                                                                                   \
        CASE(4, do)                                                                                \
        CASE(8, do)                                                                                \
        CASE(12, do)                                                                               \
        CASE(16, do)                                                                               \
        CASE(24, do)                                                                               \
        CASE(32, do)                                                                               \
        CASE(48, do)                                                                               \
        CASE(64, do)                                                                               \
    default: {                                                                                     \
        const long C = c;                                                                          \
        do;                                                                                        \
    }                                                                                              \
    }

struct tiling {
    long rows, tiles, stride; /* rows of tiles * TILE elements, stride elements apart */
    long blocks;              /* of BLOCK rows */
    long done;                /* elements covered; the rest is left to a plain loop */
};

/* Rows hold a whole number of pixels, and of tiles. */
static struct tiling tiling_of(long pixels, long c)
{
    long row = TILE;
    while (row % c)
        row += TILE;
    struct tiling t = {.rows = pixels * c / row, .tiles = row / TILE, .stride = row};
    t.blocks = (t.rows + BLOCK - 1) / BLOCK;
    t.done = t.rows * row;
    return t;
}

static void add_up(const double *sums, long chunks, long n, double *restrict total)
{
    memset(total, 0, n * sizeof *total);
    for (long chunk = 0; chunk < chunks; chunk++)
        for (long i = 0; i < n; i++)
            total[i] += sums[chunk * n + i];
}

static inline float float_of(uint16_t v)
{
    const uint32_t bits = (uint32_t)v << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* To the nearest, ties to even. */
static inline uint16_t bfloat_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/* A stage in one call, see whole.h: what stays the same from step to step. */
struct stage {
    long n, h, w;  /* images and their pixels */
    long some;     /* images at once, */
    long rows;     /* or rows of one */
    long high;     /* rows that a window holds */
    long count;    /* of convolutions */
    long tiles;    /* whether tiles.c makes them, else conv.c */
    long given;    /* channels of x: the first convolution may take more, with zeros */
    long shapes[]; /* of each: channels in, channels out, side of the kernel */
};

/* One portion after another: n images beginning with `from`, rows y0 to y1 of them. */
#define FOR_PORTIONS(s)                                                                            \
    for (long from = 0, n; n = least((s)->some, (s)->n - from), from < (s)->n; from += (s)->some)  \
        for (long y0 = 0, y1; y1 = least(y0 + (s)->rows, (s)->h), y0 < (s)->h; y0 = y1)

static long least(long a, long b) { return a < b ? a : b; }

/* How many rows convolution i must have made (-1: of x) for y rows of what the last one makes. */
static long needed(const struct stage *s, long i, long y)
{
    for (long k = i + 1; k < s->count && y > 0; k++)
        y += s->shapes[3 * k + 2] / 2;
    return least(y, s->h);
}

/* The same of gradients by what convolution i made, for y rows of that by x, or, if none is wanted,
 * by what the first one made. */
static long needed_back(const struct stage *s, long i, int by_x, long y)
{
    for (long k = by_x ? 0 : 1; k <= i && y > 0; k++)
        y += s->shapes[3 * k + 2] / 2;
    return least(y, s->h);
}

/* Bytes of features of c channels, such that what follows begins with a line of the cache. */
static size_t room(long pixels, long c, size_t element)
{
    return (pixels * c * element + 63) / 64 * 64;
}

/* Weights of `rows` taps of c channels with zeros up to `wide` channels, and the other way round. */
static void widen(const float *from, long rows, long c, long wide, float *to)
{
    memset(to, 0, rows * wide * sizeof *to);
    for (long i = 0; i < rows; i++)
        memcpy(to + i * wide, from + i * c, c * sizeof *to);
}

static void narrow(const float *from, long rows, long c, long wide, float *to)
{
    for (long i = 0; i < rows; i++)
        memcpy(to + i * c, from + i * wide, c * sizeof *to);
}

#define T float
#define NAME(x) x##_f32
#define LOAD(v) (v)
#define STORE(v) (v)
#define CONV conv_f32
#define CONV_WEIGHTS conv_weights_f32
#include "stage.h"
#include "whole.h"
#undef T
#undef NAME
#undef LOAD
#undef STORE
#undef CONV
#undef CONV_WEIGHTS

#define T uint16_t
#define NAME(x) x##_bf16
#define LOAD(v) float_of(v)
#define STORE(v) bfloat_of(v)
#define CONV (s->tiles ? tiles_conv : conv_bf16)
#define CONV_WEIGHTS (s->tiles ? tiles_conv_weights : conv_weights_bf16)
int tiles_conv(const T *, const float *, const float *, long, long, long, long, long, long, long,
               long, int, int, const float *, const float *, T *);
int tiles_conv_weights(const T *, const T *, long, long, long, long, long, long, long, long,
                       float *);
#include "stage.h"
#include "whole.h"
