/* What a training step does between its convolutions, in as few passes over memory as possible.
 *
 * ReLU, batch norm and their gradients are limited by memory traffic. As separate operations they
 * read and write every feature map a dozen times; here it is two passes forward (moments, affine)
 * and two back (grad_moments, grad_affine). See imasks/kernels/ops.py for the formulas.
 *
 * Sums are kept in float for BLOCK rows at most, then in double.
 */
#include <math.h>
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

#define T float
#define NAME(x) x##_f32
#define LOAD(v) (v)
#define STORE(v) (v)
#include "stage.h"
#undef T
#undef NAME
#undef LOAD
#undef STORE

#define T uint16_t
#define NAME(x) x##_bf16
#define LOAD(v) float_of(v)
#define STORE(v) bfloat_of(v)
#include "stage.h"
