/* Convolutions of few channels, for processors with AVX-512 or AVX2; see conv.h.
 *
 * The instruction under all of it is the fused multiply-add in float32. Where there is AVX-512
 * BF16, features in bfloat16 are multiplied by dpbf16 instead, which multiplies pairs of them and
 * adds them to float32 sums; elsewhere they are widened as they are copied, and cost half of the
 * memory traffic of float32.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "scratch.h"
#include "threads.h"

#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512BW__)
#define WIDE 1 /* 32 vectors of 16 floats */
#elif defined(__AVX2__) && defined(__FMA__)
#define WIDE 0 /* 16 vectors of 8 */
#endif

#ifdef WIDE
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL TEXT(GCC unroll 16)

/* One interface for vectors of 16 and of 8 channels. */
typedef __m256 v8;
INLINE v8 zero_v8(void) { return _mm256_setzero_ps(); }
INLINE v8 load_v8(const float *p) { return _mm256_loadu_ps(p); }
INLINE void save_v8(float *p, v8 v) { _mm256_storeu_ps(p, v); }
INLINE v8 add_v8(v8 a, v8 b) { return _mm256_add_ps(a, b); }
INLINE v8 fma_v8(v8 a, v8 b, v8 c) { return _mm256_fmadd_ps(a, b, c); }
/* The second factor is the result where one is no number: a diverged network must show. */
INLINE v8 relu_v8(v8 a) { return _mm256_max_ps(_mm256_setzero_ps(), a); }
INLINE v8 dot_v8_f32(v8 sum, const float *vector, const float *one)
{
    return fma_v8(load_v8(vector), _mm256_set1_ps(*one), sum);
}
INLINE void narrow_v8_f32(float *p, v8 v) { save_v8(p, v); }
#if WIDE
typedef __m512 v16;
INLINE v16 zero_v16(void) { return _mm512_setzero_ps(); }
INLINE v16 load_v16(const float *p) { return _mm512_loadu_ps(p); }
INLINE void save_v16(float *p, v16 v) { _mm512_storeu_ps(p, v); }
INLINE v16 add_v16(v16 a, v16 b) { return _mm512_add_ps(a, b); }
INLINE v16 fma_v16(v16 a, v16 b, v16 c) { return _mm512_fmadd_ps(a, b, c); }
INLINE v16 relu_v16(v16 a) { return _mm512_max_ps(_mm512_setzero_ps(), a); }
INLINE v16 dot_v16_f32(v16 sum, const float *vector, const float *one)
{
    return fma_v16(load_v16(vector), _mm512_set1_ps(*one), sum);
}
INLINE void narrow_v16_f32(float *p, v16 v) { save_v16(p, v); }
#endif

INLINE float cell_f32(const float *p, long step)
{
    (void)step;
    return *p;
}
/* 8 channels of the pixels from p on, c channels each, as far as they exist, as cells. */
INLINE void gather_f32(const float *p, long c, const int *exists, float *to)
{
    (void)c;
    save_v8(to, exists[0] ? load_v8(p) : zero_v8());
}

#define E float /* an element */
#define U float /* a cell: as many elements as one instruction multiplies by one vector */
#define PER 1   /* elements of a cell */
#define SAME 1  /* whether elements can be used as cells as they lie in memory */
#define NAME(x) x##_f32
#include "conv.h"
#undef E
#undef U
#undef PER
#undef SAME
#undef NAME
#endif

#if defined(WIDE) && defined(__AVX512BF16__)
INLINE v16 dot_v16_bf16(v16 sum, const uint32_t *vector, const uint32_t *one)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_loadu_si512(vector),
                            (__m512bh)_mm512_set1_epi32((int)*one));
}
INLINE v8 dot_v8_bf16(v8 sum, const uint32_t *vector, const uint32_t *one)
{
    return _mm256_dpbf16_ps(sum, (__m256bh)_mm256_loadu_si256((const void *)vector),
                            (__m256bh)_mm256_set1_epi32((int)*one));
}
INLINE void narrow_v16_bf16(uint16_t *p, v16 v)
{
    _mm256_storeu_si256((void *)p, (__m256i)_mm512_cvtneps_pbh(v));
}
INLINE void narrow_v8_bf16(uint16_t *p, v8 v)
{
    _mm_storeu_si128((void *)p, (__m128i)_mm256_cvtneps_pbh(v));
}
INLINE uint32_t cell_bf16(const float *p, long step)
{
    const __m128bh both = _mm_cvtneps_pbh(_mm_set_ps(0, 0, p[step], p[0]));
    return (uint32_t)_mm_cvtsi128_si32((__m128i)both);
}
INLINE void gather_bf16(const uint16_t *p, long c, const int *exists, uint32_t *to)
{
    const __m128i none = _mm_setzero_si128();
    const __m128i low = exists[0] ? _mm_loadu_si128((const void *)p) : none;
    const __m128i high = exists[1] ? _mm_loadu_si128((const void *)(p + c)) : none;
    _mm_storeu_si128((void *)to, _mm_unpacklo_epi16(low, high));
    _mm_storeu_si128((void *)(to + 4), _mm_unpackhi_epi16(low, high));
}

#define E uint16_t
#define U uint32_t
#define PER 2
#define SAME 1
#define NAME(x) x##_bf16
#include "conv.h"
int conv_pairs(void) { return 1; }

#elif defined(WIDE)
#define dot_v8_bf16 dot_v8_f32
#define dot_v16_bf16 dot_v16_f32
#define cell_bf16 cell_f32
INLINE float widen_bf16(uint16_t v)
{
    const uint32_t bits = (uint32_t)v << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}
/* To the nearest, ties to even; what is no number stays so. */
INLINE void narrow_v8_bf16(uint16_t *p, v8 v)
{
    const __m256i bits = _mm256_castps_si256(v), one = _mm256_set1_epi32(1);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), one);
    __m256i near = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256 number = _mm256_cmp_ps(v, v, _CMP_ORD_Q);
    near = _mm256_blendv_epi8(_mm256_set1_epi32(0x7fc00000), near, _mm256_castps_si256(number));
    near = _mm256_srli_epi32(near, 16);
    const __m128i low = _mm256_castsi256_si128(near), high = _mm256_extracti128_si256(near, 1);
    _mm_storeu_si128((void *)p, _mm_packus_epi32(low, high));
}
INLINE void gather_bf16(const uint16_t *p, long c, const int *exists, float *to)
{
    (void)c;
    v8 v = zero_v8();
    if (exists[0]) {
        const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)p));
        v = _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
    }
    save_v8(to, v);
}
#if WIDE
INLINE void narrow_v16_bf16(uint16_t *p, v16 v)
{
    const __m512i bits = _mm512_castps_si512(v), one = _mm512_set1_epi32(1);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), one);
    __m512i near = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __mmask16 number = _mm512_cmp_ps_mask(v, v, _CMP_ORD_Q);
    near = _mm512_mask_blend_epi32(number, _mm512_set1_epi32(0x7fc00000), near);
    _mm256_storeu_si256((void *)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(near, 16)));
}
#endif

#define E uint16_t
#define U float
#define PER 1
#define SAME 0
#define NAME(x) x##_bf16
#include "conv.h"
int conv_pairs(void) { return 0; }

#else
int conv_ready_f32(void) { return 0; }
int conv_ready_bf16(void) { return 0; }
int conv_pairs(void) { return 0; }
/* Never called: their absence would keep the whole library from being loaded. */
int conv_f32(void) { return 1; }
int conv_bf16(void) { return 1; }
int conv_weights_f32(void) { return 1; }
int conv_weights_bf16(void) { return 1; }
#endif
