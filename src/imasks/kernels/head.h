/* The passes of head.c for one element type; included once for each. */

INLINE void NAME(head_some)(const T *restrict x, long c, const float *restrict weight, float bias,
                            long outputs, float *restrict out, long pixels)
{
    v8 products[8];
    for (long p = 0; p < 8; p++) {
        products[p] = (v8){0};
        if (p < pixels)
            for (long k = 0; k < c; k += 8)
                products[p] += NAME(load)(x + p * c + k) * load_f32(weight + k);
    }
    const v8 sums = sums_of(products) + bias;
    if (outputs == 1 && pixels == 8)
        save_f32(out, sums);
    else
        for (long p = 0; p < pixels; p++)
            out[p * outputs] = sums[p];
}

INLINE void NAME(head_pixels)(const T *restrict x, long pixels, long c,
                              const float *restrict weight, const float *restrict bias,
                              long outputs, float *restrict out)
{
    PARALLEL_LOOP(pixels * c)
    for (long first = 0; first < pixels; first += 8)
        for (long o = 0; o < outputs; o++)
            if (first + 8 <= pixels)
                NAME(head_some)(x + first * c, c, weight + o * c, bias[o], outputs,
                                out + first * outputs + o, 8);
            else
                NAME(head_some)(x + first * c, c, weight + o * c, bias[o], outputs,
                                out + first * outputs + o, pixels - first);
}

/* out = x times the weights, outputs x c, plus a bias. */
void NAME(head)(const T *x, long pixels, long c, const float *weight, const float *bias,
                long outputs, float *out)
{
    if (c == 8)
        NAME(head_pixels)(x, pixels, 8, weight, bias, outputs, out);
    else if (c == 16)
        NAME(head_pixels)(x, pixels, 16, weight, bias, outputs, out);
    else
        NAME(head_pixels)(x, pixels, c, weight, bias, outputs, out);
}

INLINE void NAME(head_grad_pixels)(const float *restrict g, const T *restrict x, long pixels,
                                   long c, const float *restrict weight, long outputs,
                                   T *restrict by_x, float *restrict sums)
{
    for (long p = 0; p < pixels; p++)
        for (long k = 0; k < c; k += 8) {
            v8 by = {0};
            for (long o = 0; o < outputs; o++)
                by += g[p * outputs + o] * load_f32(weight + o * c + k);
            NAME(save)(by_x + p * c + k, by);
        }
    for (long o = 0; o < outputs; o++) {
        for (long k = 0; k < c; k += 8) {
            v8 sum[4] = {{0}}; /* so that additions need not wait for each other */
            long p = 0;
            for (; p + 4 <= pixels; p += 4)
                for (long i = 0; i < 4; i++)
                    sum[i] += g[(p + i) * outputs + o] * NAME(load)(x + (p + i) * c + k);
            for (; p < pixels; p++)
                sum[0] += g[p * outputs + o] * NAME(load)(x + p * c + k);
            save_f32(sums + o * c + k, sum[0] + sum[1] + sum[2] + sum[3]);
        }
        float sum = 0;
        for (long p = 0; p < pixels; p++)
            sum += g[p * outputs + o];
        sums[outputs * c + o] = sum;
    }
}

/* The gradients of head by x, and by weights, then biases: total[outputs * c + outputs]. */
void NAME(head_grad)(const float *g, const T *x, long pixels, long c, const float *weight,
                     long outputs, T *by_x, float *total)
{
    const long count = outputs * (c + 1), blocks = (pixels + BLOCK - 1) / BLOCK;
    const long chunks = blocks < CHUNKS ? blocks : CHUNKS;
    double sums[CHUNKS * count];
    memset(sums, 0, sizeof sums);
    PARALLEL_LOOP(pixels * c)
    for (long chunk = 0; chunk < chunks; chunk++)
        for (long block = blocks * chunk / chunks; block < blocks * (chunk + 1) / chunks; block++) {
            const long first = block * BLOCK;
            const long some = first + BLOCK < pixels ? BLOCK : pixels - first;
            const float *gs = g + first * outputs;
            const T *xs = x + first * c;
            float s[count];
            if (c == 8 && outputs == 1)
                NAME(head_grad_pixels)(gs, xs, some, 8, weight, 1, by_x + first * c, s);
            else if (c == 16 && outputs == 1)
                NAME(head_grad_pixels)(gs, xs, some, 16, weight, 1, by_x + first * c, s);
            else
                NAME(head_grad_pixels)(gs, xs, some, c, weight, outputs, by_x + first * c, s);
            for (long i = 0; i < count; i++)
                sums[chunk * count + i] += s[i];
        }
    for (long i = 0; i < count; i++) {
        double all = 0;
        for (long chunk = 0; chunk < chunks; chunk++)
            all += sums[chunk * count + i];
        total[i] = (float)all;
    }
}
