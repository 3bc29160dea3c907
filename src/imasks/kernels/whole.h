/* A whole stage of a network for one element type, convolutions with ReLU, then batch norm: in
 * training one call forward and one back, outside of training one call for several stages. Included
 * once for each type.
 *
 * On small images calls cost as much as the work. On large ones memory is waited for: but for what
 * needs all of a batch (its statistics), a portion goes through all steps while it is in a cache,
 * some images or a band of the rows of one. Every step then is ahead of the next by the rows below
 * that the next one sees.
 */
int NAME(conv)(const T *, const float *, const float *, long, long, long, long, long, long, long,
               long, int, int, const float *, const float *, T *);
int NAME(conv_weights)(const T *, const T *, long, long, long, long, long, long, long, long,
                       float *);

/* Rows of features from `first` up to `end`. Where several images are worked on at once these are
 * all of theirs, one image after another, and nothing is forgotten before it is made anew. */
struct NAME(window) {
    T *memory;
    long first, end, row; /* elements of a row */
};

static T *NAME(at_row)(const struct NAME(window) *v, long y)
{
    return v->memory + (y - v->first) * v->row;
}

/* Forget all rows before y. */
static void NAME(forget)(struct NAME(window) *v, long y)
{
    if (y <= v->first)
        return;
    memmove(v->memory, NAME(at_row)(v, y), (v->end - y) * v->row * sizeof(T));
    v->first = y;
}

/* A window on features of c channels in memory that begins at *work. */
static struct NAME(window) NAME(window_at)(const struct stage *s, long c, char **work)
{
    const struct NAME(window) made = {(T *)*work, 0, 0, s->w * c};
    *work += room(s->some * s->high * s->w, c, sizeof(T));
    return made;
}

/* x with zeros up to the channels that the first convolution takes, at `to`. */
static void NAME(fill)(const struct stage *s, const T *x, long pixels, T *to)
{
    const long wide = s->shapes[0];
    if (wide == 8 && (s->given == 1 || s->given == 3)) { /* masks and images: known moves */
        for (long i = 0; i < pixels; i++, x += s->given) {
            const T some[8] = {x[0], s->given == 3 ? x[1] : 0, s->given == 3 ? x[2] : 0};
            memcpy(to + 8 * i, some, sizeof some);
        }
        return;
    }
    for (long i = 0; i < pixels; i++) {
        memset(to + i * wide, 0, wide * sizeof *to);
        memcpy(to + i * wide, x + i * s->given, s->given * sizeof *to);
    }
}

/* Rows a to b of what convolution i makes of x, whose row a lies at x. Returns 0, or 1 without
 * memory. */
static int NAME(rows)(const struct stage *s, long i, const T *x, const float *weight,
                      const float *bias, int relu, const float *scale, const float *shift, long n,
                      long a, long b, T *out)
{
    const long *shape = s->shapes + 3 * i;
    return b > a && CONV(x, weight, bias, n, b - a, s->w, a > 0, b < s->h, shape[0], shape[1],
                         shape[2], 0, relu, scale, shift, out);
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

/* In training, where the last ReLU is part of batch norm.
 *
 * p: x, out, kept (x as it was filled up, if it was, and what every convolution gives), gamma, beta,
 * running mean and variance, how many batches they saw (or NULL), mean and inverse deviation of the
 * batch; then weight and bias of every convolution.
 * Returns 0, or 1 without memory. */
int NAME(stage)(const struct stage *s, void **p, float eps, float momentum)
{
    const long image = s->h * s->w, c = s->shapes[3 * s->count - 2], w = s->w;
    const long taps = s->shapes[1] * s->shapes[2] * s->shapes[2], wide = s->shapes[0];
    const int fills = s->given != wide;
    float first[fills ? taps * wide : 1]; /* weights of few channels: small */
    if (fills)
        widen(p[9], taps, s->given, wide, first);
    T *features[s->count + 1];
    NAME(places)(s, p[0], p[2], features);
    const T *last = features[s->count];
    double total[2 * c], part[2 * c];
    float pivot[c];
    memset(total, 0, sizeof total);
    FOR_PORTIONS(s)
    {
        if (fills) {
            const long a = needed(s, -1, y0), b = needed(s, -1, y1), at = from * image + a * w;
            NAME(fill)(s, (const T *)p[0] + at * s->given, n * (b - a) * w, features[0] + at * wide);
        }
        for (long i = 0; i < s->count; i++) {
            const long a = needed(s, i, y0), at = from * image + a * w;
            const float *weight = i == 0 && fills ? first : p[9 + 2 * i];
            if (NAME(rows)(s, i, features[i] + at * s->shapes[3 * i], weight, p[10 + 2 * i],
                           i + 1 < s->count, NULL, NULL, n, a, needed(s, i, y1),
                           features[i + 1] + at * s->shapes[3 * i + 1]))
                return 1;
        }
        if (!from && !y0)
            NAME(pivot_of)(last, c, pivot);
        NAME(moments)(last + (from * image + y0 * w) * c, n * (y1 - y0) * w, c, pivot, part);
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
 * out, memory (for windows on the gradients by what every convolution gives, and for one by
 * weights), gamma, then gradients: by x (or NULL; unwanted where x is filled up), gamma and beta;
 * then of every convolution the weight, and the gradients by it and its bias.
 * Returns 0, or 1 without memory. */
int NAME(stage_grad)(const struct stage *s, void **p)
{
    const long image = s->h * s->w, last = s->count - 1, c = s->shapes[3 * last + 1], w = s->w;
    const long taps = s->shapes[1] * s->shapes[2] * s->shapes[2], wide = s->shapes[0];
    const int fills = s->given != wide, by_x = p[6] != NULL;
    float first[fills ? taps * wide : 1];
    T *features[s->count + 1];
    NAME(places)(s, p[0], p[1], features);
    struct NAME(window) by[s->count];
    char *work = p[4];
    long most = 0; /* channels */
    for (long i = 0; i < s->count; i++) {
        const long co = s->shapes[3 * i + 1];
        by[i] = NAME(window_at)(s, co, &work);
        most = co > most ? co : most;
        memset(p[11 + 3 * i], 0, co * sizeof(float));
    }
    float *part = (float *)work;

    const float *moments = p[2];
    float scale[c], tilt[c], shift[c], sums[most];
    double total[c];
    NAME(norm_grad_by)(p[3], features[s->count], s->n * image, c, p[5], moments, moments + c,
                       scale, tilt, shift, p[7], p[8]);
    FOR_PORTIONS(s)
    {
        long a = needed_back(s, last, by_x, y0), b = needed_back(s, last, by_x, y1);
        long at = from * image + a * w;
        for (long i = 0; i < s->count && !y0; i++)
            by[i].first = by[i].end = 0;
        NAME(grad_affine)((const T *)p[3] + at * c, features[s->count] + at * c, n * (b - a) * w,
                          c, scale, tilt, shift, NAME(at_row)(by + last, a), total);
        float *by_bias = p[11 + 3 * last];
        for (long k = 0; k < c; k++)
            by_bias[k] += (float)total[k];
        for (long i = last; i >= 0; i--) {
            const long ci = s->shapes[3 * i], co = s->shapes[3 * i + 1], side = s->shapes[3 * i + 2];
            void **of = p + 9 + 3 * i;
            float *by_weight = i == 0 && fills ? first : of[1];
            const int begun = from || y0;
            by[i].end = b;
            if (b > a && CONV_WEIGHTS(features[i] + at * ci, NAME(at_row)(by + i, a), n, b - a, w,
                                      a > 0, b < s->h, ci, co, side, begun ? part : by_weight))
                return 1;
            for (long k = 0; begun && b > a && k < co * side * side * ci; k++)
                by_weight[k] += part[k];
            a = needed_back(s, i - 1, by_x, y0);
            b = needed_back(s, i - 1, by_x, y1);
            at = from * image + a * w;
            if (i || by_x) {
                T *to = i ? NAME(at_row)(by + i - 1, a) : (T *)p[6] + at * ci;
                if (b > a && CONV(NAME(at_row)(by + i, a), of[0], NULL, n, b - a, w, a > 0,
                                  b < s->h, co, ci, side, 1, 0, NULL, NULL, to))
                    return 1;
                if (i) {
                    NAME(relu_grad)(to, features[i] + at * ci, n * (b - a) * w, ci, sums);
                    by_bias = of[-1];
                    for (long k = 0; k < ci; k++)
                        by_bias[k] += sums[k];
                }
            }
            NAME(forget)(by + i, b > side / 2 ? b - side / 2 : 0);
        }
    }
    if (fills)
        narrow(first, taps, s->given, wide, p[10]);
    return 0;
}

/* Outside of training, where batch norm is a factor and a summand; of several stages, too.
 *
 * p: x, out (or NULL), out with the largest of every 2 x 2 pixels (or NULL; one of them is wanted),
 * memory (for windows on x as it is filled up, if it is, and on what every convolution gives); then
 * weight, bias, and factor and summand (or NULL) of every convolution.
 * Returns 0, or 1 without memory. */
int NAME(stages_fixed)(const struct stage *s, void **p)
{
    const long image = s->h * s->w, count = s->count, w = s->w, c = s->shapes[3 * count - 2];
    const long taps = s->shapes[1] * s->shapes[2] * s->shapes[2], wide = s->shapes[0];
    const int fills = s->given != wide, pools = p[2] != NULL;
    float first[fills ? taps * wide : 1];
    if (fills)
        widen(p[4], taps, s->given, wide, first);
    struct NAME(window) given[count + 1]; /* to every convolution, and by the last one */
    memset(given, 0, sizeof given);
    char *work = p[3];
    for (long i = fills ? 0 : 1; i < count + pools; i++)
        given[i] = NAME(window_at)(s, i ? s->shapes[3 * i - 2] : wide, &work);
    FOR_PORTIONS(s)
    {
        if (!y0)
            for (long i = 0; i <= count; i++)
                given[i].first = given[i].end = 0;
        if (fills) {
            const long a = needed(s, -1, y0), b = needed(s, -1, y1);
            const T *x = (const T *)p[0] + (from * image + a * w) * s->given;
            NAME(fill)(s, x, n * (b - a) * w, NAME(at_row)(given, a));
            given[0].end = b;
        }
        for (long i = 0; i < count; i++) {
            const long a = needed(s, i, y0), b = needed(s, i, y1), at = from * image + a * w;
            const long ci = s->shapes[3 * i], edge = s->shapes[3 * i + 2] / 2;
            void **of = p + 4 + 4 * i;
            const T *x = i || fills ? NAME(at_row)(given + i, a) : (const T *)p[0] + at * ci;
            T *out = i + 1 < count + pools ? NAME(at_row)(given + i + 1, a) : (T *)p[1] + at * c;
            if (NAME(rows)(s, i, x, i == 0 && fills ? first : of[0], of[1], 1, of[2], of[3], n, a, b,
                           out))
                return 1;
            given[i + 1].end = b;
            if (i || fills)
                NAME(forget)(given + i, b > edge ? b - edge : 0);
        }
        if (pools) {
            const long a = y0 / 2, b = y1 / 2;
            NAME(pool)(NAME(at_row)(given + count, 2 * a), n, 2 * (b - a), w, c,
                       (T *)p[2] + (from * (s->h / 2) + a) * (w / 2) * c);
            NAME(forget)(given + count, 2 * b);
        }
    }
    return 0;
}
