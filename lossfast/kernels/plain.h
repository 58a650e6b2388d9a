/* Plain rows: softmax cross-entropy with one label a row and its gradient, probabilities and their logarithms, log-sum-exps;
   without masks, smoothing or temperature. That is what most calls are, and here they are taken faster than by the stages of
   rowwise.h, with the same bits, a batch of rows at a time: sums over the classes (`few_sums`, `many_sums`), arithmetic on
   the batch's rows (`plain_rows`), then the entries (`few_entries`, `many_entries`).

   A row within NEAR of 0 needs no maximum: its exponentials differ from those of the stages by a power of 2 alone, exactly.
   Any other is taken with it, and what is infinite or NaN is left to the stages: `inverse` is NaN then.

   Few classes: 16 rows across the lanes, as tiles, 16 numbers of a class side by side. Many: one row along the lanes. */
#ifndef LF_PLAIN_H
#define LF_PLAIN_H

#define NEAR (LF_DTYPE == 32 ? 40.0 : 256.0)
enum { LF_AHEAD = 2048 / sizeof(scalar) }; /* how far memory is asked for ahead of its use */

#ifdef __GNUC__
#define WILL_READ(p) __builtin_prefetch((p), 0, 3)
#define WILL_WRITE(p) __builtin_prefetch((p), 1, 3)
#else
#define WILL_READ(p) ((void)0)
#define WILL_WRITE(p) ((void)0)
#endif

/* The shift and the exponent of rows taken with their maxima, as `prepare` in rowwise.h has them. */
INLINE void centre(lf_batch *b, int from, int to, int far) {
    for (int i = from; i < to; i++) {
        b->shift[i] = b->exponent[i] = 0;
        if (!far) continue;
        const double m = b->max[i], shift = fabs(m) > (LF_DTYPE == 32 ? 256 : 2048) ? m : 0;
        const double k = (m - shift) * 0x1.71547652b82fep+0;
        b->shift[i] = shift;
        b->exponent[i] = (k + 0x1.8p52) - 0x1.8p52 - LIFT;
    }
}

INLINE pair plain_exponential(real x, int far, real shift, real exponent) {
    return far ? lifted_exponential(x - shift, (pair){K(1), K(0)}, 0, exponent) : r_exp_pair(x);
}

/* ---- few classes ---- */

/* The tile of 16 rows that lie `pitch` numbers apart. */
INLINE void tile_in(scalar *tile, const scalar *x, ptrdiff_t pitch, ptrdiff_t classes) {
    if (LF_QUAD <= 1 || (classes < LF_QUAD && pitch != classes)) {
        for (ptrdiff_t c = 0; c < classes; c++)
            for (int i = 0; i < LF_ROWS; i++) tile[c * LF_ROWS + i] = r_load_one(x + i * pitch + c);
        return;
    }
#if LF_QUAD > 1
    /* the last classes once more where they do not fill a quad; of short rows more is read, which is the next row's */
    for (ptrdiff_t c = 0; c < classes; c += LF_QUAD) {
        const ptrdiff_t first = c + LF_QUAD <= classes || classes < LF_QUAD ? c : classes - LF_QUAD;
        for (int lane = 0; lane < LF_ROWS; lane += LF_LANES) {
            const int n = classes < LF_QUAD && lane + LF_LANES == LF_ROWS ? (int)classes : LF_QUAD;
            real column[LF_QUAD];
            r_load_columns(column, x + lane * pitch + first, pitch, n);
            UNROLL for (int i = 0; i < LF_QUAD; i++)
                if (i < classes) r_store(tile + (first + i) * LF_ROWS + lane, column[i]);
        }
    }
#endif
}

/* The tile to 16 rows. */
INLINE void tile_out(scalar *out, ptrdiff_t pitch, const scalar *tile, ptrdiff_t classes) {
    if (LF_QUAD <= 1 || (classes < LF_QUAD && pitch != classes)) {
        for (ptrdiff_t c = 0; c < classes; c++)
            for (int i = 0; i < LF_ROWS; i++) memcpy(out + i * pitch + c, tile + c * LF_ROWS + i, sizeof(scalar));
        return;
    }
#if LF_QUAD > 1
    for (int lane = 0; lane < LF_ROWS; lane += LF_LANES)
        for (ptrdiff_t c = 0; c < classes; c += LF_QUAD) {
            const ptrdiff_t first = c + LF_QUAD <= classes || classes < LF_QUAD ? c : classes - LF_QUAD;
            const int n = classes < LF_QUAD && lane + LF_LANES == LF_ROWS ? (int)classes : LF_QUAD;
            real column[LF_QUAD];
            UNROLL for (int i = 0; i < LF_QUAD; i++) column[i] = r_load(tile + (i < classes ? first + i : first) * LF_ROWS + lane);
            r_store_columns(out + lane * pitch + first, pitch, column, n);
        }
#endif
}

static void any_tile_in(void *tile, const void *x, ptrdiff_t pitch, ptrdiff_t classes) { tile_in(tile, x, pitch, classes); }
static void any_tile_out(void *x, ptrdiff_t pitch, const void *tile, ptrdiff_t classes) { tile_out(x, pitch, tile, classes); }

/* Exponentials and sums of a group, e and lo if `keep`. Is there a logit beyond NEAR? (A NaN may go unnoticed here: it shows in
   the sum.) */
INLINE int few_pass(const lf_plain *k, lf_batch *b, int row, const scalar *x, ptrdiff_t pitch, const int far, const int keep) {
    const ptrdiff_t classes = k->classes;
    scalar *e = (scalar *)k->e + row * classes, *lo = (scalar *)k->lo + row * classes;
    int wild = 0;
    for (int lane = 0; lane < LF_ROWS; lane += LF_LANES) {
        const int at = row + lane;
        const real label = r_load_doubles(b->label + at);
        const real shift = far ? r_load_doubles(b->shift + at) : K(0), exponent = far ? r_load_doubles(b->exponent + at) : K(0);
        real most = K(0), pivot_e = K(0), pivot_lo = K(0), x_pivot = K(0), class_ = K(0);
        sum others = sum_zero();
        for (ptrdiff_t c = 0; c < classes; c++, class_ += K(1)) {
            const real z = r_load(x + c * pitch + lane);
            const pair y = plain_exponential(z, far, shift, exponent);
            const mask other = ne(class_, label);
            if (!far) most = r_most(most, z);
            if (keep) {
                r_store(e + c * LF_ROWS + lane, y.hi);
                r_store(lo + c * LF_ROWS + lane, y.lo);
            }
            pivot_e = where(other, pivot_e, y.hi);
            pivot_lo = where(other, pivot_lo, y.lo);
            if (far) x_pivot = where(other, x_pivot, z);
            sum_add_where(&others, other, y.hi, y.lo);
        }
        sum_store(&others, b->others + at, b->others_lo + at);
        put_parts(b->pivot_e + at, b->pivot_lo + at, pivot_e, pivot_lo);
        if (far) put_doubles(b->x_pivot + at, x_pivot);
        wild |= any(lt(K(NEAR), most));
    }
    return wild;
}

/* The maxima of a group, and their first classes as its labels if they are to be the pivots. Is there a logit beyond NEAR? */
INLINE int few_maxima(const lf_plain *k, lf_batch *b, int row, const scalar *x, ptrdiff_t pitch) {
    int wild = 0;
    for (int lane = 0; lane < LF_ROWS; lane += LF_LANES) {
        real m = K(-INFINITY), most = K(0), first = K(0), class_ = K(0);
        for (ptrdiff_t c = 0; c < k->classes; c++, class_ += K(1)) {
            const real z = r_load(x + c * pitch + lane);
            first = where(lt(m, z), class_, first);
            m = r_max(z, m);
            most = r_most(most, z);
        }
        put_doubles(b->max + row + lane, m);
        if (k->largest) put_doubles(b->label + row + lane, first);
        wild |= any(lt(K(NEAR), most));
    }
    return wild;
}

/* Groups of 16 rows. Whether one is tried without its maxima is as the one before it turned out. */
static void few_sums(const lf_plain *k, lf_batch *b, int from, int to) {
    const int transposed = k->row_pitch != 1;
    const ptrdiff_t pitch = transposed ? LF_ROWS : k->class_pitch;
    int far = k->far;
    for (int row = from; row < to; row += LF_ROWS) {
        const scalar *const given = (const scalar *)k->x + (row - from) * k->row_pitch;
        scalar *const tile = (scalar *)k->e + row * k->classes; /* its exponentials take its place */
        const scalar *const x = transposed ? tile : given;
        if (transposed) tile_in(tile, given, k->row_pitch, k->classes);
        if (!far && !k->largest) {
            far = k->keep ? few_pass(k, b, row, x, pitch, 0, 1) : few_pass(k, b, row, x, pitch, 0, 0);
            if (far && transposed && k->keep) tile_in(tile, given, k->row_pitch, k->classes);
            if (far) few_maxima(k, b, row, x, pitch);
        } else {
            far = few_maxima(k, b, row, x, pitch);
            if (!far) k->keep ? few_pass(k, b, row, x, pitch, 0, 1) : few_pass(k, b, row, x, pitch, 0, 0);
        }
        b->far[row] = far;
        centre(b, row, row + LF_ROWS, far);
        if (far) k->keep ? few_pass(k, b, row, x, pitch, 1, 1) : few_pass(k, b, row, x, pitch, 1, 0);
    }
}

/* The entries of a group as columns `pitch` numbers apart. `whole`: post is 1. */
INLINE void few_write(const lf_plain *k, lf_batch *b, int row, scalar *out, ptrdiff_t pitch, const int whole) {
    const ptrdiff_t classes = k->classes;
    const scalar *e = (const scalar *)k->e + row * classes, *lo = (const scalar *)k->lo + row * classes;
    for (int lane = 0; lane < LF_ROWS; lane += LF_LANES) {
        const int at = row + lane;
        const pair a = r_load_split(b->a + at, b->a_lo + at);
        const real label = r_load_doubles(b->label + at), at_mark = r_load_doubles(b->at_mark + at), post = r_load_doubles(b->post + at);
        real class_ = K(0);
        for (ptrdiff_t c = 0; c < classes; c++, class_ += K(1)) {
            const real g = r_quotient(r_load(e + c * LF_ROWS + lane), r_load(lo + c * LF_ROWS + lane), a);
            r_store(out + c * pitch + lane, where(eq(class_, label), at_mark, whole ? g : g * post));
        }
    }
}

INLINE void few_logs(const lf_plain *k, lf_batch *b, int row, const scalar *x, ptrdiff_t x_pitch, scalar *out, ptrdiff_t pitch) {
    for (int lane = 0; lane < LF_ROWS; lane += LF_LANES) {
        const pair lse = r_load_split(b->loss + row + lane, b->loss_lo + row + lane);
        for (ptrdiff_t c = 0; c < k->classes; c++) r_store(out + c * pitch + lane, log_share(r_load(x + c * x_pitch + lane), lse));
    }
}

static void few_entries(const lf_plain *k, lf_batch *b, int from, int to) {
    const int columns = k->out && k->out_row_pitch == 1, transposed = k->row_pitch != 1;
    const ptrdiff_t pitch = columns ? k->out_class_pitch : LF_ROWS;
    for (int row = from; row < to; row += LF_ROWS) {
        scalar *const tile = (scalar *)k->e + row * k->classes;
        scalar *const out = (scalar *)k->out + (k->out ? (row - from) * k->out_row_pitch : 0), *const to_ = columns ? out : tile;
        if (k->largest) few_logs(k, b, row, transposed ? tile : (const scalar *)k->x + row - from, transposed ? LF_ROWS : k->class_pitch, to_, pitch);
        else if (b->whole) few_write(k, b, row, to_, pitch, 1);
        else few_write(k, b, row, to_, pitch, 0);
        if (k->out && !columns) tile_out(out, k->out_row_pitch, tile, k->classes);
    }
}

/* ---- many classes ---- */

/* n classes of a row, the pivot's number among them (or none: outside 0..n); exponentials to e and lo if `keep`. */
INLINE int many_pass(const lf_plain *k, lf_batch *b, int row, const scalar *x, ptrdiff_t first, ptrdiff_t n, const int far, const int keep) {
    enum { PARTS = LF_ROWS / LF_LANES };
    scalar *e = k->e, *lo = k->lo, *out = k->out;
    const ptrdiff_t pivot = (ptrdiff_t)b->label[row] - first;
    const real shift = far ? K(b->shift[row]) : K(0), exponent = far ? K(b->exponent[row]) : K(0);
    real most = K(0);
    sum others[PARTS];
    for (int part = 0; part < PARTS; part++) others[part] = sum_zero();
    for (ptrdiff_t i = 0; i < n; i += LF_ROWS) {
        WILL_READ(x + i + LF_AHEAD);
        if ((keep || k->largest) && out) WILL_WRITE(out + first + i);
        UNROLL for (int part = 0; part < PARTS; part++) {
            const ptrdiff_t at = i + part * LF_LANES;
            const int whole = i + LF_ROWS <= n;
            const real z = whole ? r_load(x + at) : r_load_part(x + at, n - at, far ? (scalar)-INFINITY : 0);
            pair y = plain_exponential(z, far, shift, exponent);
            if (!far) most = r_most(most, z);
            if (!far && !whole) {
                const mask live = lt(K((double)at) + r_iota(), K((double)n));
                y = (pair){where(live, y.hi, K(0)), where(live, y.lo, K(0))};
            }
            if (keep) { /* whole vectors: there is room */
                r_store(e + at, y.hi);
                r_store(lo + at, y.lo);
            }
            if ((size_t)(pivot - at) < LF_LANES) {
                const mask is = eq(r_iota(), K((double)(pivot - at)));
                scalar hi[LF_LANES], low[LF_LANES];
                r_store(hi, y.hi);
                r_store(low, y.lo);
                b->pivot_e[row] = whole_of(hi[pivot - at], low[pivot - at]);
                b->pivot_lo[row] = rest_of(low[pivot - at]);
                y = (pair){where(is, K(0), y.hi), where(is, K(0), y.lo)};
            }
            sum_add(&others[part], y.hi, y.lo);
        }
    }
    sum_gather(others, &b->others[row], &b->others_lo[row]);
    return any(lt(K(NEAR), most));
}

/* A whole row: in stretches, so that what is far is noticed soon, and whose ends are where the stages have theirs. */
INLINE int many_row(const lf_plain *k, lf_batch *b, int row, const int far) {
    const scalar *x = k->x;
    b->others[row] = b->others_lo[row] = 0;
    for (ptrdiff_t first = 0; first < k->classes; first += k->stretch) {
        const ptrdiff_t n = k->classes - first < k->stretch ? k->classes - first : k->stretch;
        lf_plain at = *k;
        const int keep = k->keep && first / k->chunk == (k->classes - 1) / k->chunk;
        at.e = (scalar *)k->e + first % k->chunk;
        at.lo = (scalar *)k->lo + first % k->chunk;
        if (keep ? many_pass(&at, b, row, x + first, first, n, far, 1) : many_pass(&at, b, row, x + first, first, n, far, 0)) return 1;
    }
    return 0;
}

/* The maximum of a row, and its first class as the label if it is to be the pivot. Is there a logit beyond NEAR? */
static int many_maximum(const lf_plain *k, lf_batch *b, int row) {
    enum { PARTS = LF_ROWS / LF_LANES };
    const scalar *x = k->x;
    const ptrdiff_t n = k->classes;
    real m[PARTS], least = K(0);
    scalar lanes[LF_ROWS], largest = -INFINITY;
    for (int part = 0; part < PARTS; part++) m[part] = K(-INFINITY);
    for (ptrdiff_t i = 0; i < n; i += LF_ROWS) {
        WILL_READ(x + i + LF_AHEAD);
        UNROLL for (int part = 0; part < PARTS; part++) {
            const ptrdiff_t at = i + part * LF_LANES;
            const real z = i + LF_ROWS <= n ? r_load(x + at) : r_load_part(x + at, n - at, (scalar)-INFINITY);
            m[part] = r_max(z, m[part]);
            least = r_min(i + LF_ROWS <= n ? z : r_load_part(x + at, n - at, 0), least);
        }
    }
    for (int part = 0; part < PARTS; part++) r_store(lanes + part * LF_LANES, m[part]);
    for (int i = 0; i < LF_ROWS; i++) largest = lanes[i] > largest ? lanes[i] : largest;
    b->max[row] = largest;
    if (k->largest) {
        ptrdiff_t i = 0;
        while (i + LF_LANES <= n && !any(eq(r_load(x + i), K(largest)))) i += LF_LANES;
        while (i < n - 1 && r_load_one(x + i) != largest) i++;
        b->label[row] = (double)i;
    }
    return largest > NEAR || any(lt(least, K(-NEAR)));
}

static void many_sums(const lf_plain *k, lf_batch *b, int row, int to) {
    int far = k->far || k->largest ? many_maximum(k, b, row) : 0;
    (void)to;
    b->pivot_e[row] = b->pivot_lo[row] = 0;
    if (!far) {
        far = many_row(k, b, row, 0);
        if (far) many_maximum(k, b, row);
    }
    b->far[row] = far;
    centre(b, row, row + 1, far);
    if (!far) return;
    b->x_pivot[row] = b->label[row] >= 0 ? r_load_one((const scalar *)k->x + (ptrdiff_t)b->label[row]) : 0;
    many_row(k, b, row, 1);
}

INLINE void many_write(scalar *out, const scalar *e, const scalar *lo, ptrdiff_t n, pair a, const int whole_scale, real post) {
    ptrdiff_t i = 0;
    for (; i + LF_LANES <= n; i += LF_LANES) {
        const real g = r_quotient(r_load(e + i), r_load(lo + i), a);
        r_store(out + i, whole_scale ? g : g * post);
    }
    if (i < n) {
        const real g = r_quotient(r_load(e + i), r_load(lo + i), a);
        r_store_part(out + i, whole_scale ? g : g * post, n - i);
    }
}

static void many_logs(const lf_plain *k, lf_batch *b, int row) {
    const scalar *x = k->x;
    scalar *out = k->out;
    const pair lse = K_split(b->loss[row], b->loss_lo[row]);
    ptrdiff_t i = 0;
    for (; i + LF_LANES <= k->classes; i += LF_LANES) r_store(out + i, log_share(r_load(x + i), lse));
    if (i < k->classes) r_store_part(out + i, log_share(r_load_part(x + i, k->classes - i, 0), lse), k->classes - i);
}

static void many_entries(const lf_plain *k, lf_batch *b, int row, int to) {
    (void)to;
    const scalar *x = k->x;
    scalar *out = k->out;
    const pair a = K_split(b->a[row], b->a_lo[row]);
    const real post = K(b->post[row]);
    const ptrdiff_t last = (k->classes - 1) / k->chunk * k->chunk, label = (ptrdiff_t)b->label[row];
    lf_batch spare; /* of its sums there is no use any more */
    if (k->largest) {
        many_logs(k, b, row);
        return;
    }
    for (ptrdiff_t chunk = last;; chunk = chunk == last ? 0 : chunk + k->chunk) {
        const ptrdiff_t n = k->classes - chunk < k->chunk ? k->classes - chunk : k->chunk;
        if (chunk != last) {
            lf_plain at = *k;
            at.out = NULL;
            spare.label[0] = -1;
            spare.others[0] = spare.others_lo[0] = 0;
            spare.shift[0] = b->shift[row];
            spare.exponent[0] = b->exponent[row];
            if (b->far[row]) many_pass(&at, &spare, 0, x + chunk, chunk, n, 1, 1);
            else many_pass(&at, &spare, 0, x + chunk, chunk, n, 0, 1);
        }
        if (b->whole) many_write(out + chunk, k->e, k->lo, n, a, 1, post);
        else many_write(out + chunk, k->e, k->lo, n, a, 0, post);
        if (chunk + k->chunk == last || last == 0) break;
    }
    if (label >= 0) {
        const scalar at_mark = (scalar)b->at_mark[row];
        memcpy(out + label, &at_mark, sizeof at_mark);
    }
}

#endif
