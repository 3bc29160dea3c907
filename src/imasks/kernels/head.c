/* The last layer of a network: a convolution by 1 x 1 in float32, few outputs a pixel.
 *
 * Libraries for products of matrices take several times as long with matrices as thin as these.
 * Channels are multiples of 8, a vector; features lie as pixels x channels.
 */
#include <stdint.h>
#include <string.h>

#include "threads.h"

#define BLOCK 256 /* pixels summed in float */
#define CHUNKS 16 /* shares of the threads; not their number, so that sums do not depend on it */
#define INLINE static inline __attribute__((always_inline))

typedef float v8 __attribute__((vector_size(32)));
typedef float v8_anywhere __attribute__((vector_size(32), aligned(4), may_alias));
typedef uint32_t u8 __attribute__((vector_size(32)));
typedef uint16_t h8 __attribute__((vector_size(16)));
typedef uint16_t h8_anywhere __attribute__((vector_size(16), aligned(2), may_alias));
#if defined(__clang__) || __GNUC__ >= 12
#define MIX(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t i8 __attribute__((vector_size(32)));
#define MIX(a, b, ...) __builtin_shuffle(a, b, (i8){__VA_ARGS__})
#endif

INLINE v8 load_f32(const float *p) { return *(const v8_anywhere *)p; }
INLINE void save_f32(float *p, v8 v) { *(v8_anywhere *)p = v; }
INLINE v8 load_bf16(const uint16_t *p)
{
    return (v8)(__builtin_convertvector(*(const h8_anywhere *)p, u8) << 16);
}
/* To the nearest, ties to even. */
INLINE void save_bf16(uint16_t *p, v8 v)
{
    const u8 bits = (u8)v;
    *(h8_anywhere *)p = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, h8);
}

/* The sums of the elements of eight vectors. */
INLINE v8 sums_of(const v8 a[8])
{
    v8 two[4], four[2];
    for (int i = 0; i < 4; i++)
        two[i] = MIX(a[2 * i], a[2 * i + 1], 0, 8, 2, 10, 4, 12, 6, 14) +
                 MIX(a[2 * i], a[2 * i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    for (int i = 0; i < 2; i++)
        four[i] = MIX(two[2 * i], two[2 * i + 1], 0, 1, 8, 9, 4, 5, 12, 13) +
                  MIX(two[2 * i], two[2 * i + 1], 2, 3, 10, 11, 6, 7, 14, 15);
    return MIX(four[0], four[1], 0, 1, 2, 3, 8, 9, 10, 11) +
           MIX(four[0], four[1], 4, 5, 6, 7, 12, 13, 14, 15);
}

#define T float
#define NAME(x) x##_f32
#include "head.h"
#undef T
#undef NAME

#define T uint16_t
#define NAME(x) x##_bf16
#include "head.h"
