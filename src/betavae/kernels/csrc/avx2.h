/* The AVX-512 intrinsics that float32 code uses, for CPUs with AVX2 and FMA only: 16 floats are two registers of 8.

Each function does what the intrinsic of its name does, for the values that occur here. simd.h includes this file where
the compiler does not target AVX-512. */

#pragma once

typedef struct { __m256 half[2]; } wide_float;
typedef struct { __m256i half[2]; } wide_int;
#define __m512 wide_float
#define __m512i wide_int

#define HALVES(...) { { enum { h = 0 }; __VA_ARGS__ } { enum { h = 1 }; __VA_ARGS__ } }
#define EACH(type, name, arguments, ...)                             \
    INLINE type avx2_##name arguments { type r; HALVES(r.half[h] = __VA_ARGS__;) return r; }

/* All bits of each lane of a half that a mask selects. */
INLINE __m256i avx2_lanes(__mmask16 mask, int h) {
    const __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(mask >> 8 * h), bits), bits);
}

INLINE int avx2_whole(__mmask16 mask) { return __builtin_constant_p(mask) && mask == 0xffff; }

EACH(__m512, setzero_ps, (void), _mm256_setzero_ps())
EACH(__m512, set1_ps, (float x), _mm256_set1_ps(x))
EACH(__m512, loadu_ps, (const void *from), _mm256_loadu_ps((const float *)from + 8 * h))
EACH(__m512, maskz_loadu_ps, (__mmask16 m, const void *from), avx2_whole(m) ? _mm256_loadu_ps((const float *)from + 8 * h)
         : _mm256_maskload_ps((const float *)from + 8 * h, avx2_lanes(m, h)))
EACH(__m512, add_ps, (__m512 a, __m512 b), _mm256_add_ps(a.half[h], b.half[h]))
EACH(__m512, sub_ps, (__m512 a, __m512 b), _mm256_sub_ps(a.half[h], b.half[h]))
EACH(__m512, mul_ps, (__m512 a, __m512 b), _mm256_mul_ps(a.half[h], b.half[h]))
EACH(__m512, div_ps, (__m512 a, __m512 b), _mm256_div_ps(a.half[h], b.half[h]))
EACH(__m512, max_ps, (__m512 a, __m512 b), _mm256_max_ps(a.half[h], b.half[h]))
EACH(__m512, sqrt_ps, (__m512 a), _mm256_sqrt_ps(a.half[h]))
EACH(__m512, abs_ps, (__m512 a), _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.half[h]))
EACH(__m512, fmadd_ps, (__m512 a, __m512 b, __m512 c), _mm256_fmadd_ps(a.half[h], b.half[h], c.half[h]))
EACH(__m512, fnmadd_ps, (__m512 a, __m512 b, __m512 c), _mm256_fnmadd_ps(a.half[h], b.half[h], c.half[h]))
EACH(__m512, nearest_ps, (__m512 a), _mm256_round_ps(a.half[h], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC))
EACH(__m512, castsi512_ps, (__m512i a), _mm256_castsi256_ps(a.half[h]))
EACH(__m512, mask_blend_ps, (__mmask16 m, __m512 a, __m512 b),
     _mm256_blendv_ps(a.half[h], b.half[h], _mm256_castsi256_ps(avx2_lanes(m, h))))
EACH(__m512, gather_ps, (__m512i at, const float *from), _mm256_i32gather_ps(from, at.half[h], 4))

EACH(__m512i, setzero_si512, (void), _mm256_setzero_si256())
EACH(__m512i, set1_epi32, (int x), _mm256_set1_epi32(x))
EACH(__m512i, loadu_si512, (const void *from), _mm256_loadu_si256((const __m256i *)from + h))
EACH(__m512i, maskz_loadu_epi32, (__mmask16 m, const void *from), _mm256_maskload_epi32((const int *)from + 8 * h, avx2_lanes(m, h)))
EACH(__m512i, castps_si512, (__m512 a), _mm256_castps_si256(a.half[h]))
EACH(__m512i, and_si512, (__m512i a, __m512i b), _mm256_and_si256(a.half[h], b.half[h]))
EACH(__m512i, slli_epi32, (__m512i a, int by), _mm256_slli_epi32(a.half[h], by))
EACH(__m512i, mullo_epi32, (__m512i a, __m512i b), _mm256_mullo_epi32(a.half[h], b.half[h]))

INLINE void avx2_storeu_ps(float *to, __m512 a) { HALVES(_mm256_storeu_ps(to + 8 * h, a.half[h]);) }
INLINE void avx2_storeu_si512(void *to, __m512i a) { HALVES(_mm256_storeu_si256((__m256i *)to + h, a.half[h]);) }

INLINE void avx2_mask_storeu_ps(float *to, __mmask16 m, __m512 a) {
    HALVES(if (avx2_whole(m)) _mm256_storeu_ps(to + 8 * h, a.half[h]);
           else _mm256_maskstore_ps(to + 8 * h, avx2_lanes(m, h), a.half[h]);)
}

INLINE void avx2_mask_storeu_epi32(void *to, __mmask16 m, __m512i a) { avx2_mask_storeu_ps(to, m, avx2_castsi512_ps(a)); }
INLINE __m512 avx2_maskz_mov_ps(__mmask16 m, __m512 a) { return avx2_mask_blend_ps(m, avx2_setzero_ps(), a); }

INLINE __m512 avx2_mask_add_ps(__m512 from, __mmask16 m, __m512 a, __m512 b) {
    return avx2_mask_blend_ps(m, from, avx2_add_ps(a, b));
}

EACH(__m512, relu_backward_ps, (__m512 out, __m512 gradient),
     _mm256_and_ps(_mm256_cmp_ps(out.half[h], _mm256_setzero_ps(), _CMP_GT_OQ), gradient.half[h]))
EACH(__m512, load_even_ps, (const float *from),
     _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(_mm256_shuffle_ps(
         _mm256_loadu_ps(from + 16 * h), _mm256_loadu_ps(from + 16 * h + 8), 0x88)), 0xd8)))

INLINE __mmask16 avx2_negative_mask(__m512 a) {
    __m256 below[2];
    HALVES(below[h] = _mm256_cmp_ps(a.half[h], _mm256_setzero_ps(), _CMP_LT_OQ);)
    return (__mmask16)(_mm256_movemask_ps(below[0]) | _mm256_movemask_ps(below[1]) << 8);
}

INLINE float avx2_reduce_add_ps(__m512 a) {
    const __m256 eight = _mm256_add_ps(a.half[0], a.half[1]);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

INLINE __m256 avx2_power_of_2(__m256i whole) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(whole, _mm256_set1_epi32(127)), 23));
}

/* 2 to the power of whole numbers from -252 to 254 times a: in two steps, each of which a float can hold. */
INLINE __m512 avx2_scalef_ps(__m512 a, __m512 power) {
    HALVES(const __m256i whole = _mm256_cvtps_epi32(power.half[h]); const __m256i one = _mm256_srai_epi32(whole, 1);
           const __m256 first = avx2_power_of_2(one); const __m256 second = avx2_power_of_2(_mm256_sub_epi32(whole, one));
           a.half[h] = _mm256_mul_ps(_mm256_mul_ps(a.half[h], first), second);)
    return a;
}

INLINE void avx2_transpose_8(__m256 *r) { /* in place */
    __m256 a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int k = 0; k < 2; k++) {
            b[i + 2 * k] = _mm256_shuffle_ps(a[i + k], a[i + k + 2], 0x44);
            b[i + 2 * k + 1] = _mm256_shuffle_ps(a[i + k], a[i + k + 2], 0xee);
        }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
}

INLINE void avx2_transpose_16(__m512i *rows) { /* in place, a quarter at a time */
    __m256 quarters[2][2][8];
    for (int i = 0; i < 16; i++) HALVES(quarters[i / 8][h][i % 8] = _mm256_castsi256_ps(rows[i].half[h]);)
    for (int i = 0; i < 4; i++) avx2_transpose_8(quarters[i / 2][i % 2]);
    for (int i = 0; i < 16; i++) HALVES(rows[i].half[h] = _mm256_castps_si256(quarters[h][i / 8][i % 8]);)
}

#define _mm512_setzero_ps avx2_setzero_ps
#define _mm512_set1_ps avx2_set1_ps
#define _mm512_loadu_ps avx2_loadu_ps
#define _mm512_load_ps avx2_loadu_ps
#define _mm512_maskz_loadu_ps avx2_maskz_loadu_ps
#define _mm512_storeu_ps avx2_storeu_ps
#define _mm512_mask_storeu_ps avx2_mask_storeu_ps
#define _mm512_add_ps avx2_add_ps
#define _mm512_mask_add_ps avx2_mask_add_ps
#define _mm512_sub_ps avx2_sub_ps
#define _mm512_mul_ps avx2_mul_ps
#define _mm512_div_ps avx2_div_ps
#define _mm512_max_ps avx2_max_ps
#define _mm512_sqrt_ps avx2_sqrt_ps
#define _mm512_abs_ps avx2_abs_ps
#define _mm512_fmadd_ps avx2_fmadd_ps
#define _mm512_fnmadd_ps avx2_fnmadd_ps
#define _mm512_roundscale_ps(a, digits) avx2_nearest_ps(a)
#define _mm512_scalef_ps avx2_scalef_ps
#define _mm512_reduce_add_ps avx2_reduce_add_ps
#define _mm512_maskz_mov_ps avx2_maskz_mov_ps
#define _mm512_mask_blend_ps avx2_mask_blend_ps
#define _mm512_castsi512_ps avx2_castsi512_ps
#define _mm512_i32gather_ps(at, from, scale) avx2_gather_ps(at, from)
#define _mm512_setzero_si512 avx2_setzero_si512
#define _mm512_set1_epi32 avx2_set1_epi32
#define _mm512_loadu_si512 avx2_loadu_si512
#define _mm512_maskz_loadu_epi32 avx2_maskz_loadu_epi32
#define _mm512_storeu_si512 avx2_storeu_si512
#define _mm512_mask_storeu_epi32 avx2_mask_storeu_epi32
#define _mm512_castps_si512 avx2_castps_si512
#define _mm512_and_si512 avx2_and_si512
#define _mm512_slli_epi32 avx2_slli_epi32
#define _mm512_mullo_epi32 avx2_mullo_epi32
