/* A whole stage of a network in training, one call forward and one back: convolutions, each but the
 * last with ReLU, then ReLU and batch norm. On small images calls cost as much as the work. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* What stays the same from step to step. */
struct stage {
    long n, h, w;  /* images and their pixels */
    long count;    /* of convolutions */
    long tiles;    /* whether tiles.c makes them, else conv.c */
    long given;    /* channels of x: the first convolution may take more, with zeros */
    long shapes[]; /* of each: channels in, channels out, side of the kernel */
};

/* Bytes of features of c channels, such that what follows begins with a line of the cache. */
static size_t room(const struct stage *s, long c, size_t element)
{
    return (s->n * s->h * s->w * c * element + 63) / 64 * 64;
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
#define CONV conv_f32
#define CONV_WEIGHTS conv_weights_f32
#include "whole.h"
#undef T
#undef NAME
#undef CONV
#undef CONV_WEIGHTS

#define T uint16_t
#define NAME(x) x##_bf16
#define CONV (s->tiles ? tiles_conv : conv_bf16)
#define CONV_WEIGHTS (s->tiles ? tiles_conv_weights : conv_weights_bf16)
int tiles_conv(const T *, const float *, const float *, long, long, long, long, long, long, int,
               int, const float *, const float *, T *);
int tiles_conv_weights(const T *, const T *, long, long, long, long, long, long, float *);
#include "whole.h"
