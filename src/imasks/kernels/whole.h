/* The calls of whole.c for one element type; included once for each. */
int NAME(conv)(const T *, const float *, const float *, long, long, long, long, long, long, int,
               int, const float *, const float *, T *);
int NAME(conv_weights)(const T *, const T *, long, long, long, long, long, long, float *);
void NAME(norm)(const T *, long, long, const float *, const float *, float, float, float *,
                float *, float *, float *, T *);
void NAME(norm_grad)(const T *, const T *, long, long, const float *, const float *, const float *,
                     T *, float *, float *, float *);
void NAME(relu_grad)(T *, const T *, long, long, float *);

/* x with zeros up to the channels that the first convolution takes, at `to`. */
static void NAME(fill)(const struct stage *s, const T *x, T *to)
{
    const long pixels = s->n * s->h * s->w, wide = s->shapes[0];
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

/* p: x, out, kept (x as it was filled up, if it was, and what every convolution gives), gamma, beta,
 * running mean and variance, how many batches they saw (or NULL), mean and inverse deviation of the
 * batch; then weight and bias of every convolution.
 * Returns 0, or 1 without memory. */
int NAME(stage)(const struct stage *s, void **p, float eps, float momentum)
{
    const long pixels = s->n * s->h * s->w;
    const T *x = p[0];
    char *kept = p[2];
    const long rows = s->shapes[1] * s->shapes[2] * s->shapes[2], wide = s->shapes[0];
    float first[s->given == wide ? 1 : rows * wide]; /* weights of few channels: small */
    if (s->given != wide) {
        widen(p[9], rows, s->given, wide, first);
        NAME(fill)(s, x, (T *)kept);
        x = (T *)kept;
        kept += room(s, wide, sizeof(T));
    }
    long c = 0;
    for (long i = 0; i < s->count; i++) {
        const long *shape = s->shapes + 3 * i;
        const float *weight = i == 0 && s->given != wide ? first : p[9 + 2 * i];
        c = shape[1];
        T *to = (T *)kept;
        if (CONV(x, weight, p[10 + 2 * i], s->n, s->h, s->w, shape[0], c, shape[2], 0,
                 i + 1 < s->count, NULL, NULL, to))
            return 1;
        x = to;
        kept += room(s, c, sizeof(T));
    }
    float *moments = p[8];
    NAME(norm)(x, pixels, c, p[3], p[4], eps, momentum, p[5], p[6], moments, moments + c, p[1]);
    if (p[7])
        ++*(int64_t *)p[7];
    return 0;
}

/* p: x (or NULL where it is filled up), kept, mean and inverse deviation as before, the gradient by out, memory for two gradients
 * by what a convolution gives, gamma, then gradients: by x (or NULL; unwanted where x is filled
 * up), gamma and beta; then of every convolution the weight, and the gradients by it and its bias.
 * Returns 0, or 1 without memory. */
int NAME(stage_grad)(const struct stage *s, void **p)
{
    const long pixels = s->n * s->h * s->w;
    const T *features[s->count + 1]; /* what a convolution is given */
    size_t most = 0;
    char *kept = p[1];
    const long rows = s->shapes[1] * s->shapes[2] * s->shapes[2], wide = s->shapes[0];
    float first[s->given == wide ? 1 : rows * wide];
    features[0] = p[0];
    if (s->given != wide) {
        features[0] = (const T *)kept;
        kept += room(s, wide, sizeof(T));
    }
    for (long i = 0; i < s->count; i++) {
        const size_t size = room(s, s->shapes[3 * i + 1], sizeof(T));
        features[i + 1] = (const T *)kept;
        kept += size;
        most = size > most ? size : most;
    }
    T *g = p[4], *other = (T *)((char *)p[4] + most);
    const long last = s->count - 1, c = s->shapes[3 * last + 1];
    const float *moments = p[2];
    NAME(norm_grad)(p[3], features[s->count], pixels, c, p[5], moments, moments + c, g, p[7], p[8],
                    p[11 + 3 * last]);
    for (long i = last; i >= 0; i--) {
        const long ci = s->shapes[3 * i], co = s->shapes[3 * i + 1], side = s->shapes[3 * i + 2];
        void **of = p + 9 + 3 * i;
        T *by_x = i ? other : p[6];
        if (by_x && CONV(g, of[0], NULL, s->n, s->h, s->w, co, ci, side, 1, 0, NULL, NULL, by_x))
            return 1;
        float *by = i == 0 && s->given != wide ? first : of[1];
        if (CONV_WEIGHTS(features[i], g, s->n, s->h, s->w, ci, co, side, by))
            return 1;
        if (by == first)
            narrow(first, rows, s->given, wide, of[1]);
        if (i) {
            NAME(relu_grad)(by_x, features[i], pixels, ci, of[-1]);
            other = g;
            g = by_x;
        }
    }
    return 0;
}
