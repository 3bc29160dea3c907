/* A whole stage of a network in training for one element type, one call forward and one back:
 * convolutions, each but the last with ReLU, then ReLU and batch norm. Included once for each type.
 *
 * On small images calls cost as much as the work. On large ones memory is waited for: but for what
 * needs all of a batch (its statistics), some images at a time go through all steps, while they
 * are in a cache.
 */
int NAME(conv)(const T *, const float *, const float *, long, long, long, long, long, long, int,
               int, const float *, const float *, T *);
int NAME(conv_weights)(const T *, const T *, long, long, long, long, long, long, float *);

/* x with zeros up to the channels that the first convolution takes, at `to`. */
static void NAME(fill)(const struct stage *s, const T *x, long pixels, T *to)
{
    const long wide = s->shapes[0];
    if (wide == 8 && s->given == 3) { /* images in colour: moves of a known length */
        for (long i = 0; i < pixels; i++) {
            const T some[8] = {x[3 * i], x[3 * i + 1], x[3 * i + 2]};
            memcpy(to + 8 * i, some, sizeof some);
        }
        return;
    }
    for (long i = 0; i < pixels; i++) {
        memset(to + i * wide, 0, wide * sizeof *to);
        memcpy(to + i * wide, x + i * s->given, s->given * sizeof *to);
    }
}

/* Where features lie: what each convolution is given, and what the last one gives. */
static void NAME(places)(const struct stage *s, T *x, char *kept, T **features)
{
    const long pixels = s->n * s->h * s->w;
    features[0] = x;
    if (s->given != s->shapes[0]) {
        features[0] = (T *)kept;
        kept += room(pixels, s->shapes[0], sizeof(T));
    }
    for (long i = 0; i < s->count; i++) {
        features[i + 1] = (T *)kept;
        kept += room(pixels, s->shapes[3 * i + 1], sizeof(T));
    }
}

/* p: x, out, kept (x as it was filled up, if it was, and what every convolution gives), gamma, beta,
 * running mean and variance, how many batches they saw (or NULL), mean and inverse deviation of the
 * batch; then weight and bias of every convolution.
 * Returns 0, or 1 without memory. */
int NAME(stage)(const struct stage *s, void **p, float eps, float momentum)
{
    const long image = s->h * s->w, c = s->shapes[3 * s->count - 2];
    const long rows = s->shapes[1] * s->shapes[2] * s->shapes[2], wide = s->shapes[0];
    const int fills = s->given != wide;
    float first[fills ? rows * wide : 1]; /* weights of few channels: small */
    if (fills)
        widen(p[9], rows, s->given, wide, first);
    T *features[s->count + 1];
    NAME(places)(s, p[0], p[2], features);
    const T *last = features[s->count];
    double total[2 * c], part[2 * c];
    float pivot[c];
    memset(total, 0, sizeof total);
    for (long from = 0; from < s->n; from += s->some) {
        const long n = from + s->some < s->n ? s->some : s->n - from;
        const long at = from * image, pixels = n * image;
        if (fills)
            NAME(fill)(s, (const T *)p[0] + at * s->given, pixels, features[0] + at * wide);
        for (long i = 0; i < s->count; i++) {
            const long ci = s->shapes[3 * i], co = s->shapes[3 * i + 1], side = s->shapes[3 * i + 2];
            const float *weight = i == 0 && fills ? first : p[9 + 2 * i];
            if (CONV(features[i] + at * ci, weight, p[10 + 2 * i], n, s->h, s->w, ci, co, side, 0,
                     i + 1 < s->count, NULL, NULL, features[i + 1] + at * co))
                return 1;
        }
        if (!from)
            NAME(pivot_of)(last, c, pivot);
        NAME(moments)(last + at * c, pixels, c, pivot, part);
        for (long i = 0; i < 2 * c; i++)
            total[i] += part[i];
    }
    float *moments = p[8];
    NAME(norm_by)(last, s->n * image, c, pivot, total, p[3], p[4], eps, momentum, p[5], p[6],
                  moments, moments + c, p[1]);
    if (p[7])
        ++*(int64_t *)p[7];
    return 0;
}

/* p: x (or NULL where it is filled up), kept, mean and inverse deviation as before, the gradient by
 * out, memory (for two gradients by what a convolution gives for some images, and for one by
 * weights), gamma, then gradients: by x (or NULL; unwanted where x is filled up), gamma and beta;
 * then of every convolution the weight, and the gradients by it and its bias.
 * Returns 0, or 1 without memory. */
int NAME(stage_grad)(const struct stage *s, void **p)
{
    const long image = s->h * s->w, last = s->count - 1, c = s->shapes[3 * last + 1];
    const long rows = s->shapes[1] * s->shapes[2] * s->shapes[2], wide = s->shapes[0];
    const int fills = s->given != wide;
    float first[fills ? rows * wide : 1];
    T *features[s->count + 1];
    NAME(places)(s, p[0], p[1], features);
    long most = 0; /* channels */
    for (long i = 0; i < s->count; i++)
        most = s->shapes[3 * i + 1] > most ? s->shapes[3 * i + 1] : most;
    const size_t size = room(s->some * image, most, sizeof(T));
    T *const two[2] = {p[4], (T *)((char *)p[4] + size)};
    float *part = (float *)((char *)p[4] + 2 * size);

    const float *moments = p[2];
    float scale[c], tilt[c], shift[c], sums[most];
    double total[c];
    NAME(norm_grad_by)(p[3], features[s->count], s->n * image, c, p[5], moments, moments + c,
                       scale, tilt, shift, p[7], p[8]);
    for (long from = 0; from < s->n; from += s->some) {
        const long n = from + s->some < s->n ? s->some : s->n - from;
        const long at = from * image, pixels = n * image;
        T *g = two[0], *other = two[1];
        NAME(grad_affine)((const T *)p[3] + at * c, features[s->count] + at * c, pixels, c, scale,
                          tilt, shift, g, total);
        float *by_bias = p[11 + 3 * last];
        for (long i = 0; i < c; i++)
            by_bias[i] = (from ? by_bias[i] : 0) + (float)total[i];
        for (long i = last; i >= 0; i--) {
            const long ci = s->shapes[3 * i], co = s->shapes[3 * i + 1], side = s->shapes[3 * i + 2];
            void **of = p + 9 + 3 * i;
            T *by_x = i ? other : p[6] ? (T *)p[6] + at * ci : NULL;
            if (by_x && CONV(g, of[0], NULL, n, s->h, s->w, co, ci, side, 1, 0, NULL, NULL, by_x))
                return 1;
            float *by = i == 0 && fills ? first : of[1];
            const T *x = features[i] + at * ci;
            if (CONV_WEIGHTS(x, g, n, s->h, s->w, ci, co, side, from ? part : by))
                return 1;
            for (long k = 0; from && k < co * side * side * ci; k++)
                by[k] += part[k];
            if (i) {
                NAME(relu_grad)(by_x, x, pixels, ci, sums);
                by_bias = of[-1];
                for (long k = 0; k < ci; k++)
                    by_bias[k] = (from ? by_bias[k] : 0) + sums[k];
                other = g;
                g = by_x;
            }
        }
    }
    if (fills)
        narrow(first, rows, s->given, wide, p[10]);
    return 0;
}
