/* The passes of stage.c for one element type; included once for each.
 *
 * Defined by the includer: T (type of an element), NAME(x) (a name for that type),
 * LOAD(v) (element to float), STORE(v) (float to element).
 *
 * Features lie as pixels x channels (channels last). A pass walks them in rows of TILE elements:
 * several pixels of a layer with few channels, a part of a pixel of one with many. So the inner
 * loops have a fixed length, and the compiler turns them into vector instructions.
 *
 * ReLU is v < 0 ? 0 : v, so that what is no number stays so: a diverged network must show.
 */

/* Sums over pixels of relu(x) - pivot and of its square: total[0..c) and total[c..2c).
 *
 * With a pivot near the mean, squares of large means do not swallow a small variance.
 */
static void NAME(moments)(const T *restrict x, long pixels, long c, const float *restrict pivot,
                          double *restrict total)
{
    const struct tiling t = tiling_of(pixels, c);
    float k[t.tiles * TILE];
    for (long j = 0; j < t.tiles * TILE; j++)
        k[j] = pivot[j % c];
    const long chunks = t.blocks < CHUNKS ? t.blocks : CHUNKS;
    double sums[CHUNKS * 2 * c];
    memset(sums, 0, sizeof sums);
    PARALLEL_LOOP(t.done)
    for (long chunk = 0; chunk < chunks; chunk++) {
        double *restrict sum = sums + chunk * 2 * c;
        for (long block = t.blocks * chunk / chunks; block < t.blocks * (chunk + 1) / chunks;
             block++) {
            const long first = block * BLOCK;
            const long last = first + BLOCK < t.rows ? first + BLOCK : t.rows;
            for (long tile = 0; tile < t.tiles; tile++) {
                const float *restrict tk = k + tile * TILE;
                float s[TILE] = {0}, q[TILE] = {0};
                for (long row = first; row < last; row++) {
                    const T *restrict p = x + row * t.stride + tile * TILE;
                    for (int j = 0; j < TILE; j++) {
                        const float v = LOAD(p[j]);
                        const float r = (v < 0 ? 0 : v) - tk[j];
                        s[j] += r;
                        q[j] += r * r;
                    }
                }
                for (int j = 0; j < TILE; j++) {
                    const long channel = (tile * TILE + j) % c;
                    sum[channel] += s[j];
                    sum[c + channel] += q[j];
                }
            }
        }
    }
    add_up(sums, chunks, 2 * c, total);
    for (long i = t.done; i < pixels * c; i++) {
        const float v = LOAD(x[i]);
        const float r = (v < 0 ? 0 : v) - pivot[i % c];
        total[i % c] += r;
        total[c + i % c] += r * r;
    }
}

/* out = relu(x) * scale + shift, per channel. */
static void NAME(affine)(const T *restrict x, long pixels, long c, const float *restrict scale,
                  const float *restrict shift, T *restrict out)
{
    const struct tiling t = tiling_of(pixels, c);
    float a[t.tiles * TILE], b[t.tiles * TILE];
    for (long j = 0; j < t.tiles * TILE; j++) {
        a[j] = scale[j % c];
        b[j] = shift[j % c];
    }
    PARALLEL_LOOP(t.done)
    for (long row = 0; row < t.rows; row++)
        for (long tile = 0; tile < t.tiles; tile++) {
            const long at = row * t.stride + tile * TILE;
            const float *restrict ta = a + tile * TILE, *restrict tb = b + tile * TILE;
            for (int j = 0; j < TILE; j++) {
                const float v = LOAD(x[at + j]);
                const float r = v < 0 ? 0 : v;
                out[at + j] = STORE(r * ta[j] + tb[j]);
            }
        }
    for (long i = t.done; i < pixels * c; i++) {
        const float v = LOAD(x[i]);
        out[i] = STORE((v < 0 ? 0 : v) * scale[i % c] + shift[i % c]);
    }
}

/* Sums over pixels of the gradient g and of g * (relu(x) - mean): total[0..c), total[c..2c). */
static void NAME(grad_moments)(const T *restrict g, const T *restrict x, long pixels, long c,
                               const float *restrict mean, double *restrict total)
{
    const struct tiling t = tiling_of(pixels, c);
    float k[t.tiles * TILE];
    for (long j = 0; j < t.tiles * TILE; j++)
        k[j] = mean[j % c];
    const long chunks = t.blocks < CHUNKS ? t.blocks : CHUNKS;
    double sums[CHUNKS * 2 * c];
    memset(sums, 0, sizeof sums);
    PARALLEL_LOOP(t.done)
    for (long chunk = 0; chunk < chunks; chunk++) {
        double *restrict sum = sums + chunk * 2 * c;
        for (long block = t.blocks * chunk / chunks; block < t.blocks * (chunk + 1) / chunks;
             block++) {
            const long first = block * BLOCK;
            const long last = first + BLOCK < t.rows ? first + BLOCK : t.rows;
            for (long tile = 0; tile < t.tiles; tile++) {
                const float *restrict tk = k + tile * TILE;
                float s[TILE] = {0}, q[TILE] = {0};
                for (long row = first; row < last; row++) {
                    const long at = row * t.stride + tile * TILE;
                    for (int j = 0; j < TILE; j++) {
                        const float v = LOAD(x[at + j]);
                        const float d = LOAD(g[at + j]);
                        s[j] += d;
                        q[j] += d * ((v < 0 ? 0 : v) - tk[j]);
                    }
                }
                for (int j = 0; j < TILE; j++) {
                    const long channel = (tile * TILE + j) % c;
                    sum[channel] += s[j];
                    sum[c + channel] += q[j];
                }
            }
        }
    }
    add_up(sums, chunks, 2 * c, total);
    for (long i = t.done; i < pixels * c; i++) {
        const float v = LOAD(x[i]);
        const float d = LOAD(g[i]);
        total[i % c] += d;
        total[c + i % c] += d * ((v < 0 ? 0 : v) - mean[i % c]);
    }
}

/* out = x > 0 ? p * g + q * x + r : 0, per channel; and its sums over pixels. out may be g. */
static void NAME(grad_affine)(const T *g, const T *restrict x, long pixels, long c,
                       const float *restrict p, const float *restrict q, const float *restrict r,
                       T *out, double *restrict total)
{
    const struct tiling t = tiling_of(pixels, c);
    float tp[t.tiles * TILE], tq[t.tiles * TILE], tr[t.tiles * TILE];
    for (long j = 0; j < t.tiles * TILE; j++) {
        tp[j] = p[j % c];
        tq[j] = q[j % c];
        tr[j] = r[j % c];
    }
    const long chunks = t.blocks < CHUNKS ? t.blocks : CHUNKS;
    double sums[CHUNKS * c];
    memset(sums, 0, sizeof sums);
    PARALLEL_LOOP(t.done)
    for (long chunk = 0; chunk < chunks; chunk++) {
        double *restrict sum = sums + chunk * c;
        for (long block = t.blocks * chunk / chunks; block < t.blocks * (chunk + 1) / chunks;
             block++) {
            const long first = block * BLOCK;
            const long last = first + BLOCK < t.rows ? first + BLOCK : t.rows;
            for (long tile = 0; tile < t.tiles; tile++) {
                const float *restrict up = tp + tile * TILE, *restrict uq = tq + tile * TILE;
                const float *restrict ur = tr + tile * TILE;
                float s[TILE] = {0};
                for (long row = first; row < last; row++) {
                    const long at = row * t.stride + tile * TILE;
                    SAME_PLACE
                    for (int j = 0; j < TILE; j++) {
                        const float v = LOAD(x[at + j]);
                        const float w = LOAD(g[at + j]) * up[j] + v * uq[j] + ur[j];
                        const float d = v > 0 ? w : 0;
                        s[j] += d;
                        out[at + j] = STORE(d);
                    }
                }
                for (int j = 0; j < TILE; j++)
                    sum[(tile * TILE + j) % c] += s[j];
            }
        }
    }
    add_up(sums, chunks, c, total);
    for (long i = t.done; i < pixels * c; i++) {
        const float v = LOAD(x[i]);
        const float w = LOAD(g[i]) * p[i % c] + v * q[i % c] + r[i % c];
        const float d = v > 0 ? w : 0;
        total[i % c] += d;
        out[i] = STORE(d);
    }
}

/* A pivot for moments: the first pixel's relu(x). */
static void NAME(pivot_of)(const T *x, long c, float *pivot)
{
    for (long i = 0; i < c; i++) {
        const float v = LOAD(x[i]);
        pivot[i] = v < 0 ? 0 : v;
    }
}

/* ReLU and batch norm, given moments' totals over all pixels; see norm. */
static void NAME(norm_by)(const T *x, long pixels, long c, const float *pivot, const double *total,
                          const float *gamma, const float *beta, float eps, float momentum,
                          float *running_mean, float *running_var, float *mean, float *inverse,
                          T *out)
{
    float scale[c], shift[c];
    for (long i = 0; i < c; i++) {
        const double offset = total[i] / pixels, m = pivot[i] + offset;
        const double spread = total[c + i] / pixels - offset * offset;
        const double v = spread > 0 ? spread : 0;
        const double unbiased = pixels > 1 ? v * pixels / (pixels - 1) : v;
        mean[i] = (float)m;
        inverse[i] = (float)(1 / sqrt(v + eps));
        scale[i] = gamma[i] * inverse[i];
        shift[i] = beta[i] - mean[i] * scale[i];
        running_mean[i] += momentum * ((float)m - running_mean[i]);
        running_var[i] += momentum * ((float)unbiased - running_var[i]);
    }
    NAME(affine)(x, pixels, c, scale, shift, out);
}

/* ReLU and batch norm of a batch: out = (relu(x) - mean) * inverse * gamma + beta.
 *
 * mean and inverse (one over the deviation) are the batch's, kept for the way back;
 * running_mean and running_var move by momentum towards the batch's (the variance unbiased).
 */
void NAME(norm)(const T *x, long pixels, long c, const float *gamma, const float *beta, float eps,
                float momentum, float *running_mean, float *running_var, float *mean,
                float *inverse, T *out)
{
    double total[2 * c];
    float pivot[c];
    NAME(pivot_of)(x, c, pivot);
    NAME(moments)(x, pixels, c, pivot, total);
    NAME(norm_by)(x, pixels, c, pivot, total, gamma, beta, eps, momentum, running_mean,
                  running_var, mean, inverse, out);
}

/* The same with given statistics. */
void NAME(norm_fixed)(const T *x, long pixels, long c, const float *gamma, const float *beta,
                      float eps, const float *mean, const float *var, T *out)
{
    float scale[c], shift[c];
    for (long i = 0; i < c; i++) {
        scale[i] = (float)(gamma[i] / sqrt((double)var[i] + eps));
        shift[i] = beta[i] - mean[i] * scale[i];
    }
    NAME(affine)(x, pixels, c, scale, shift, out);
}

/* The gradients of norm by gamma and beta, and what grad_affine needs for that by x. */
static void NAME(norm_grad_by)(const T *g, const T *x, long pixels, long c, const float *gamma,
                               const float *mean, const float *inverse, float *p, float *q,
                               float *r, float *by_gamma, float *by_beta)
{
    double total[2 * c];
    NAME(grad_moments)(g, x, pixels, c, mean, total);
    for (long i = 0; i < c; i++) {
        const double by = inverse[i] * total[c + i];
        const double tilt = (double)gamma[i] * inverse[i] * inverse[i] * by / pixels;
        by_beta[i] = (float)total[i];
        by_gamma[i] = (float)by;
        p[i] = gamma[i] * inverse[i];
        q[i] = (float)-tilt;
        r[i] = (float)(tilt * mean[i] - (double)p[i] * total[i] / pixels);
    }
}

/* The gradients of norm: out (by x; may be g), by gamma and beta, and out's sums over pixels. */
void NAME(norm_grad)(const T *g, const T *x, long pixels, long c, const float *gamma,
                     const float *mean, const float *inverse, T *out, float *by_gamma,
                     float *by_beta, float *sums)
{
    double total[c];
    float p[c], q[c], r[c];
    NAME(norm_grad_by)(g, x, pixels, c, gamma, mean, inverse, p, q, r, by_gamma, by_beta);
    NAME(grad_affine)(g, x, pixels, c, p, q, r, out, total);
    for (long i = 0; i < c; i++)
        sums[i] = (float)total[i];
}

/* The gradient of ReLU at its result x, written over g; and its sums over pixels. */
void NAME(relu_grad)(T *g, const T *x, long pixels, long c, float *sums)
{
    double total[c];
    float one[c], zero[c];
    for (long i = 0; i < c; i++) {
        one[i] = 1;
        zero[i] = 0;
    }
    NAME(grad_affine)(g, x, pixels, c, one, zero, zero, g, total);
    for (long i = 0; i < c; i++)
        sums[i] = (float)total[i];
}

/* The four passes below go pixel by pixel; few channels need a loop of known length to be fast. */

static inline __attribute__((always_inline)) void NAME(pool_row)(
    const T *restrict x, long w, long c, T *restrict out)
{
    const T *restrict low = x + w * c;
    for (long i = 0; i < w / 2; i++)
        for (long k = 0; k < c; k++) {
            const long at = 2 * i * c + k;
            const float a = LOAD(x[at]), b = LOAD(x[at + c]);
            const float d = LOAD(low[at]), e = LOAD(low[at + c]);
            const float m = a > b ? a : b, l = d > e ? d : e;
            out[i * c + k] = STORE(m > l ? m : l);
        }
}

/* out = the largest of every 2 x 2 pixels; x is n x h x w x c, h and w even. */
void NAME(pool)(const T *restrict x, long n, long h, long w, long c, T *restrict out)
{
    PARALLEL_LOOP(n * h * w * c)
    for (long row = 0; row < n * h / 2; row++)
        FOR_CHANNELS(c, NAME(pool_row)(x + 2 * row * w * c, w, C, out + row * (w / 2) * c))
}

static inline __attribute__((always_inline)) void NAME(pool_grad_row)(
    const T *restrict g, const T *restrict x, const T *restrict skip, long w, long c,
    T *restrict out)
{
    for (long i = 0; i < w / 2; i++)
        for (long k = 0; k < c; k++) {
            const long at = 2 * i * c + k, below = at + w * c;
            const float v = LOAD(g[i * c + k]);
            const float a = LOAD(x[at]), b = LOAD(x[at + c]);
            const float d = LOAD(x[below]), e = LOAD(x[below + c]);
            const float m = a > b ? a : b, l = d > e ? d : e;
            const float up = m >= l ? v : 0, down = m >= l ? 0 : v;
            out[at] = STORE(LOAD(skip[at]) + (a >= b ? up : 0));
            out[at + c] = STORE(LOAD(skip[at + c]) + (a >= b ? 0 : up));
            out[below] = STORE(LOAD(skip[below]) + (d >= e ? down : 0));
            out[below + c] = STORE(LOAD(skip[below + c]) + (d >= e ? 0 : down));
        }
}

/* out = skip + the gradient g of the pooled features at the first largest of every 2 x 2 pixels. */
void NAME(pool_grad)(const T *restrict g, const T *restrict x, const T *restrict skip, long n,
                     long h, long w, long c, T *restrict out)
{
    PARALLEL_LOOP(n * h * w * c)
    for (long row = 0; row < n * h / 2; row++) {
        const long at = 2 * row * w * c;
        FOR_CHANNELS(c, NAME(pool_grad_row)(g + row * (w / 2) * c, x + at, skip + at, w, C, out + at))
    }
}

static inline __attribute__((always_inline)) void NAME(grow_row)(
    const T *restrict x, const T *restrict skip, long w, long c, T *restrict out)
{
    for (long i = 0; i < w / 2; i++)
        for (long k = 0; k < c; k++) {
            const float v = LOAD(x[i * c + k]);
            const long at = 2 * i * c + k;
            out[at] = STORE(LOAD(skip[at]) + v);
            out[at + c] = STORE(LOAD(skip[at + c]) + v);
        }
}

/* out = skip + x at twice its height and width (nearest); skip is n x h x w x c. */
void NAME(grow)(const T *restrict x, const T *restrict skip, long n, long h, long w, long c,
                T *restrict out)
{
    PARALLEL_LOOP(n * h * w * c)
    for (long row = 0; row < n * h; row++) {
        const long at = row * w * c;
        FOR_CHANNELS(c, NAME(grow_row)(x + (row / 2) * (w / 2) * c, skip + at, w, C, out + at))
    }
}

static inline __attribute__((always_inline)) void NAME(grow_grad_row)(
    const T *restrict g, long w, long c, T *restrict out)
{
    const T *restrict low = g + w * c;
    for (long i = 0; i < w / 2; i++)
        for (long k = 0; k < c; k++) {
            const long at = 2 * i * c + k;
            out[i * c + k] = STORE(LOAD(g[at]) + LOAD(g[at + c]) + LOAD(low[at]) + LOAD(low[at + c]));
        }
}

/* out = the sum of g over every 2 x 2 pixels; g is n x h x w x c. */
void NAME(grow_grad)(const T *restrict g, long n, long h, long w, long c, T *restrict out)
{
    PARALLEL_LOOP(n * h * w * c)
    for (long row = 0; row < n * h / 2; row++)
        FOR_CHANNELS(c, NAME(grow_grad_row)(g + 2 * row * w * c, w, C, out + row * (w / 2) * c))
}
