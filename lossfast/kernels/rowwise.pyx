# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Losses over a class axis: walk rows and tiles, check labels, apply weights, keep the sums in a fixed order.

Rows are taken in groups: 16 at a time across the lanes where classes are few (`ACROSS`), one at a time along the lanes
where they are many, and then in chunks if a row is longer than the scratch memory. Which of the two depends on the number
of classes alone, and so do the bits. Groups make batches, whose losses are summed together; a batch of plain rows (see
plain.h) is done by a quicker way with the same bits, but for the groups that it leaves.
"""

from libc.math cimport INFINITY, NAN, fma, isnan, ldexp
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memcpy, memset, strcmp

cimport numpy as cnp

from lossfast.kernels.buffers cimport *
from lossfast._sparse import SparseTargets
from lossfast.kernels.tasks cimport RowTask, Sparse

cnp.import_array()

cdef enum:
    # Up to here 16 rows share the lanes. Beyond it a row fills them by itself well enough, and tiles would leave the cache.
    # Measured (AVX-512, float32, cross-entropy with its gradient): across 0.69 ns a logit at 65 classes and 0.61 at 200,
    # along 1.30 and 0.65; float64 across 1.55 and 1.48, along 2.74 and 1.46.
    ACROSS = 192
    # Bytes of one buffer for a chunk of a row: eight of them stay within 1 MiB.
    CHUNK_BYTES = 126976
    # Of plain rows, bytes of a batch of few classes, which is to stay in the first cache, and of a chunk of many: two of
    # these in all.
    TILES_BYTES = 20480
    PLAIN_BYTES = 4 * CHUNK_BYTES
    # Rows of many classes that lie across are turned this many classes at a time, and up to so many rows.
    TILE_CLASSES = 64
    ROWS_AT_ONCE = 64

cdef enum:
    LOGITS, LABELS, TARGET, WEIGHT, WHERE, DIRECTION, FACTORS, ROW_FACTOR, OTHER, INPUTS

# Row outputs that no program makes.
cdef enum:
    PROGRAM, PREDICTION, CORRECT

cdef struct Output:
    Operand op
    int wanted             # 0: only its total is
    int kind
    int per_class
    int weighted           # 0 where the row counts for nothing
    double when_masked     # in a row without classes
    double when_lost       # in one whose label is no class
    int is_loss
    int is_grad
    int is_temperature     # 0, or the order of its derivative in the temperature
    const lf_program *program

cdef struct Job:
    const lf_table *rows   # the float64 table: row arithmetic and programs
    const lf_stage *stages
    lf_options options
    lf_classes start       # what every chunk starts from
    Geometry geometry
    Operand ops[9]
    int has[9]
    int is_sparse          # the targets are these, and have no operand
    Sparse sparse
    const Job *other       # where two softmaxes are compared: that of the other logits, as a job of its own
    ptrdiff_t classes, chunk
    int group              # rows in a group: 16 or 1
    int batch              # and in a batch
    int dtype
    ptrdiff_t width        # bytes of one number
    const double *class_weight
    int has_ignore
    int64_t ignore
    int needs_softmax, needs_argmax, needs_prediction, needs_truth, needs_rest, needs_sums, n_outputs
    int entrywise          # a sum over the entries, without a softmax
    int pairs              # a sum over pairs of classes
    Output outputs[24]

# One thread's memory, and where it stands.
cdef struct Bench:
    char *memory
    char *buffers[8]
    lf_rows rows
    lf_classes k
    ptrdiff_t row          # the group's first
    int n                  # rows of the group that exist
    char *at[9][16]
    int limit[16]          # the row has one +inf: its values are the limit
    int other_limit[16]    # the same of the other logits
    int silent[16]         # ignored, of weight 0, or without classes
    int masked[16]         # without classes
    int lost[16]           # with a label that is no class, and is not ignored
    double prediction[16]
    double lse[16]         # NaN, or the log-sum-exp that only a limit gives
    int unusual            # the last group left marks on the rows
    int pivotless          # no class is kept out of the sum
    int failed             # there was no memory for a row
    int far                # the last of the plain rows needed their maxima, as the next ones will
    int plain              # the batch is one of plain rows: their losses are kept
    lf_batch batch
    ptrdiff_t base         # the batch's first row
    double sums[3][128]    # the batch's losses, and its derivatives with respect to the temperature, by order
    ptrdiff_t loaded       # the first class of the chunk in memory; -1: none
    int has_exponentials   # of that chunk

cdef enum:
    X_, T_, V_, CW_, LIVE_, E_, LO_, OUT_, BUFFERS
    B_ = T_   # factors, targets and other logits never meet
    Y_ = T_


ctypedef fused number:
    float
    double


cdef void mask_out(number *x, number *t, const number *live, const number *b, ptrdiff_t n) noexcept nogil:
    """Masked classes, and those with a factor of 0, out of the logits; NaN out of the masked targets."""
    cdef ptrdiff_t i
    if live != NULL:
        for i in range(n):
            x[i] = x[i] if live[i] != 0 else <number>-INFINITY
    if live != NULL and t != NULL:
        for i in range(n):
            t[i] = t[i] if live[i] != 0 or t[i] == t[i] else 0
    if b != NULL:
        for i in range(n):
            x[i] = x[i] if b[i] != 0 else <number>-INFINITY


cdef void to_the_limit(number *x, ptrdiff_t step, ptrdiff_t n) noexcept nogil:
    """A row with one +inf."""
    cdef ptrdiff_t i
    for i in range(n):
        x[i * step] = 0 if x[i * step] == INFINITY else <number>-INFINITY


cdef void copy_weights(number *cw, const double *weights, ptrdiff_t step, ptrdiff_t n) noexcept nogil:
    cdef ptrdiff_t i
    for i in range(n):
        cw[i * step] = <number>weights[i]


cdef void fill(number *x, ptrdiff_t step, ptrdiff_t n, double value) noexcept nogil:
    cdef ptrdiff_t i
    for i in range(n):
        x[i * step] = <number>value


cdef int is_live(const Job *j, const Bench *w, int lane, ptrdiff_t c) noexcept nogil:
    cdef double live = 1
    if j.has[WHERE]:
        read(&live, 64, 1, &j.ops[WHERE], w.at[WHERE][lane] + c * j.ops[WHERE].stride, 0, 1)
    return live != 0


cdef double logit(const Job *j, const Bench *w, int lane, ptrdiff_t c) noexcept nogil:
    """One logit, as the stages see it."""
    cdef double x = 0
    cdef float single = 0
    cdef const char *at
    if j.chunk == j.classes and w.loaded == 0:
        at = <const char *>w.k.x + (c * j.group + lane) * j.width  # which may lie anywhere
        if j.dtype == 32:
            memcpy(&single, at, sizeof(single))
            return single
        memcpy(&x, at, sizeof(x))
        return x
    read(&x, 64, 1, &j.ops[LOGITS], w.at[LOGITS][lane] + c * j.ops[LOGITS].stride, 0, 1)
    if not is_live(j, w, lane, c):
        return -INFINITY
    if w.limit[lane]:
        return 0 if x == INFINITY else -INFINITY
    return x


cdef double other_logit(const Job *j, const Bench *w, int lane, ptrdiff_t c) noexcept nogil:
    """The same of the other logits, of a class that is not masked."""
    cdef double y = 0
    read(&y, 64, 1, &j.ops[OTHER], w.at[OTHER][lane] + c * j.ops[OTHER].stride, 0, 1)
    if w.other_limit[lane]:
        return 0 if y == INFINITY else -INFINITY
    return y


cdef void point(const Job *j, const Operand *op, ptrdiff_t row, int n, char **at) noexcept nogil:
    """Where each row of a group begins; rows that do not exist stand at the last that does."""
    cdef int lane
    for lane in range(j.group):
        if lane >= n:
            at[lane] = at[n - 1]
        elif j.geometry.ndim == 1:
            at[lane] = op.data + (row + lane) * op.strides[0]
        else:
            at[lane] = op.data + offset(&j.geometry, op, row + lane)


cdef ptrdiff_t first_entry(const Sparse *s, ptrdiff_t row, ptrdiff_t c, ptrdiff_t *end) noexcept nogil:
    """The row's first entry of a class not below c, and the end of its entries; never outside of all entries."""
    cdef ptrdiff_t low = s.starts[row], high = s.starts[row + 1], middle
    if not 0 <= low <= high <= s.entries:
        low = high = 0
    end[0] = high
    while low < high:
        middle = low + (high - low) // 2
        if s.classes[middle] < c:
            low = middle + 1
        else:
            high = middle
    return low


cdef void spread_out(const Sparse *s, ptrdiff_t row, ptrdiff_t first, ptrdiff_t n, number *t, ptrdiff_t step, const number *live) noexcept nogil:
    """The targets of classes [first, first + n) of a row; the rest goes to classes that are not masked."""
    cdef number rest = <number>s.rest[row] if s.rest != NULL else 0
    cdef ptrdiff_t end = 0, at = first_entry(s, row, first, &end), i
    for i in range(n):
        t[i * step] = rest
    if live != NULL and rest != 0:
        for i in range(n):
            t[i * step] = rest if live[i * step] != 0 else 0
    while at < end:
        i = s.classes[at] - first
        if not 0 <= i < n:
            return
        t[i * step] = <number>s.targets[at]
        at += 1


cdef double sparse_target(const Sparse *s, ptrdiff_t row, ptrdiff_t c, int live) noexcept nogil:
    """One of them."""
    cdef double t = 0, mask = live
    spread_out(s, row, c, 1, &t, 1, &mask)
    return t


cdef int lies_along(const Job *j, const Operand *op) noexcept nogil:
    """The group is one row, and its numbers lie as the kernels want them."""
    return j.group == 1 and op.stride == j.width and is_native(op, j.dtype)


cdef void *fetch(const Job *j, Bench *w, int which, int buffer, ptrdiff_t first, ptrdiff_t n, int copy) noexcept nogil:
    """Classes [first, first + n) of one operand, in a buffer, or where they lie if that will do and no copy is needed."""
    cdef const Operand *op = &j.ops[which]
    if not copy and lies_along(j, op):
        return w.at[which][0] + first * op.stride
    if j.group == LF_ROWS:
        read_tile(w.buffers[buffer], j.dtype, op, w.at[which], first, n)
    else:
        read(w.buffers[buffer], j.dtype, 1, op, w.at[which][0] + first * op.stride, op.stride, n)
    return w.buffers[buffer]


cdef void load(const Job *j, Bench *w, ptrdiff_t first) noexcept nogil:
    """Bring the chunk of classes that begins with `first`."""
    cdef ptrdiff_t n = j.classes - first if j.classes - first < j.chunk else j.chunk, step = j.group, width = j.width
    cdef int lane, limited = 0
    cdef ptrdiff_t row
    cdef char *x
    cdef char *y = NULL
    cdef char *t = NULL
    cdef char *live = NULL
    cdef char *b = NULL
    if w.loaded == first:
        return
    w.loaded = first
    w.has_exponentials = 0
    w.k = j.start
    w.k.n, w.k.first = n, first
    w.k.e, w.k.lo = w.buffers[E_], w.buffers[LO_]
    for lane in range(j.group):
        limited |= w.limit[lane] | w.other_limit[lane]
    x = <char *>fetch(j, w, LOGITS, X_, first, n, j.has[WHERE] or j.has[FACTORS] or limited)
    w.k.x = x
    if j.has[TARGET]:
        t = w.buffers[T_] if j.is_sparse else <char *>fetch(j, w, TARGET, T_, first, n, j.has[WHERE])
        w.k.t = t
    if j.has[OTHER]:
        y = <char *>fetch(j, w, OTHER, Y_, first, n, j.has[WHERE] or limited)
        w.k.y = y
    if j.has[DIRECTION]:
        w.k.v = fetch(j, w, DIRECTION, V_, first, n, 0)
    if j.has[FACTORS]:
        b = <char *>fetch(j, w, FACTORS, B_, first, n, 0)
    if j.has[WHERE]:
        live = <char *>fetch(j, w, WHERE, LIVE_, first, n, 1)
        w.k.live = live
    if j.is_sparse:
        for lane in range(j.group):
            row = w.row + (lane if lane < w.n else w.n - 1)
            if j.dtype == 32:
                spread_out(&j.sparse, row, first, n, <float *>t + lane, step, <float *>live + lane if live != NULL else NULL)
            else:
                spread_out(&j.sparse, row, first, n, <double *>t + lane, step, <double *>live + lane if live != NULL else NULL)
    if live != NULL or b != NULL:
        if j.dtype == 32:
            mask_out(<float *>x, <float *>t, <float *>live, <float *>b, n * step)
        else:
            mask_out(<double *>x, <double *>t, <double *>live, <double *>b, n * step)
            if y != NULL:
                mask_out(<double *>y, <double *>NULL, <double *>live, <double *>NULL, n * step)
    for lane in range(j.group):
        if w.limit[lane]:
            if j.dtype == 32:
                to_the_limit(<float *>x + lane, step, n)
            else:
                to_the_limit(<double *>x + lane, step, n)
        if w.other_limit[lane] and y != NULL:
            to_the_limit(<double *>y + lane, step, n)
        if j.class_weight != NULL:
            if j.dtype == 32:
                copy_weights(<float *>w.buffers[CW_] + lane, j.class_weight + first, step, n)
            else:
                copy_weights(<double *>w.buffers[CW_] + lane, j.class_weight + first, step, n)
            w.k.cw = w.buffers[CW_]


cdef void exponentiate(const Job *j, Bench *w, lf_rows *rows) noexcept nogil:
    """The exponentials of the chunk in memory, added to the sums of `rows`."""
    cdef lf_classes k = w.k
    if j.has[FACTORS]:
        k.v = fetch(j, w, FACTORS, B_, k.first, k.n, 0)
        j.stages[LF_STAGE_exponentials_times_v](&k, rows)
    else:
        j.stages[LF_STAGE_exponentials](&k, rows)
    w.has_exponentials = 1


cdef void load_exponentials(const Job *j, Bench *w, ptrdiff_t first) noexcept nogil:
    """A chunk, with its exponentials; the sums over them are known already."""
    cdef lf_rows spare
    load(j, w, first)
    if not w.has_exponentials:
        spare = w.rows
        exponentiate(j, w, &spare)


cdef void each_chunk(const Job *j, Bench *w, int stage) noexcept nogil:
    """Run a stage over all classes."""
    cdef ptrdiff_t first = 0
    while first < j.classes:
        if stage == LF_STAGE_remainder:
            load_exponentials(j, w, first)
        else:
            load(j, w, first)
        j.stages[stage](&w.k, &w.rows)
        first += j.chunk


cdef void maxima(const Job *j, Bench *w) noexcept nogil:
    cdef int lane
    w.loaded = -1
    for lane in range(LF_ROWS):
        w.rows.max[lane] = -INFINITY
        w.rows.argmax[lane] = -1
    each_chunk(j, w, LF_STAGE_maximum)
    if j.needs_argmax and not w.pivotless:
        each_chunk(j, w, LF_STAGE_locate)


cdef void predict(const Job *j, Bench *w) noexcept nogil:
    """The largest class of each row, on the logits as given."""
    cdef int lane
    cdef ptrdiff_t c
    for lane in range(w.n):
        w.prediction[lane] = w.rows.argmax[lane] if w.rows.argmax[lane] >= 0 else 0
        if w.rows.max[lane] == -INFINITY:  # every class is as if masked; of those that are not, the first, if it is a number
            w.prediction[lane] = 0
            for c in range(j.classes):
                if is_live(j, w, lane, c) and logit(j, w, lane, c) == -INFINITY:
                    w.prediction[lane] = c
                    break


cdef void limits(const Job *j, Bench *w) noexcept nogil:
    """Rows with infinite logits whose values are limits: one +inf, or nothing but -inf."""
    cdef int lane, again = 0
    cdef ptrdiff_t c, infinite
    cdef double x
    for lane in range(w.n):
        if w.rows.max[lane] != INFINITY and w.rows.max[lane] != -INFINITY:
            continue
        infinite = 0
        for c in range(j.classes):
            x = logit(j, w, lane, c)
            if isnan(x):
                infinite += 2
            elif x == INFINITY:
                infinite += 1
        if infinite == 0:
            w.unusual = 1
            w.lse[lane] = -INFINITY
        elif infinite == 1:
            w.limit[lane] = again = w.unusual = 1
            w.lse[lane] = INFINITY
    if again:
        maxima(j, w)


cdef void run_program(const Job *j, Bench *w, int which) noexcept nogil:
    cdef const Output *out = &j.outputs[which]
    cdef const lf_program_step *s
    cdef ptrdiff_t first
    cdef int i, lane, last
    memset(w.rows.terms, 0, sizeof(w.rows.terms))
    for i in range(LF_MAX_STEPS):
        s = &out.program.steps[i]
        if s.step == NULL and s.stage < 0:
            return
        if s.step != NULL:
            s.step(&w.rows, &j.options)
        if s.stage < 0 or (not j.has[TARGET] and s.stage in (LF_STAGE_profile_sum, LF_STAGE_profile_slopes)):
            continue  # with labels a profile is that of the true class alone
        last = i + 1 == LF_MAX_STEPS or (out.program.steps[i + 1].step == NULL and out.program.steps[i + 1].stage < 0)
        first = 0
        while first < j.classes:
            if j.needs_softmax:
                load_exponentials(j, w, first)
            else:
                load(j, w, first)
            w.k.out = w.buffers[OUT_]
            if last and out.per_class and lies_along(j, &out.op):
                w.k.out = out.op.data + offset(&j.geometry, &out.op, w.row) + first * out.op.stride
            j.stages[s.stage](&w.k, &w.rows)
            if last and out.per_class:
                deliver(j, w, out, first)
            first += j.chunk


cdef void deliver(const Job *j, Bench *w, const Output *out, ptrdiff_t first) noexcept nogil:
    """A chunk of an output from `k.out` to the array."""
    cdef int lane
    cdef double empty
    cdef char *values
    cdef char *rows[16]
    for lane in range(w.n):
        values = <char *>w.k.out + lane * j.width
        if w.masked[lane] or (out.weighted and w.silent[lane]):
            empty = 0 if out.weighted else out.when_masked
        elif w.lost[lane] and not out.weighted:
            empty = NAN
        else:
            continue
        if j.dtype == 32:
            fill(<float *>values, j.group, w.k.n, <float>empty)
        else:
            fill(<double *>values, j.group, w.k.n, empty)
    if lies_along(j, &out.op):
        return
    point(j, &out.op, w.row, w.n, rows)
    for lane in range(j.group):
        rows[lane] += first * out.op.stride
    if j.group == LF_ROWS:
        write_tile(&out.op, rows, w.n, w.k.out, j.dtype, w.k.n)
    else:
        write(rows[0], &out.op, out.op.stride, w.k.out, j.dtype, 1, w.k.n)


cdef void deliver_rows(const Job *j, Bench *w, const Output *out) noexcept nogil:
    """A number a row from `result` to the array, and to the sums."""
    cdef int lane
    cdef double y
    for lane in range(w.n):
        if out.kind == PREDICTION:
            y = w.prediction[lane]
        elif out.kind == CORRECT:
            y = w.prediction[lane] == w.rows.truth[lane] and not isnan(w.rows.inverse[lane])
        else:
            y = w.rows.result[lane]
            if w.masked[lane] or (out.weighted and w.silent[lane]):
                y = 0 if out.weighted else out.when_masked
            elif w.lost[lane] and not out.weighted:
                y = out.when_lost
        w.rows.result[lane] = y if y == y else NAN  # of one sign, whichever the processor made
    if out.is_loss or out.is_temperature or w.plain:
        memcpy(&w.sums[out.is_temperature][w.row - w.base], w.rows.result, w.n * sizeof(double))
    if out.wanted:
        write_rows(j, out, w.row, w.rows.result, w.n)


cdef void write_rows(const Job *j, const Output *out, ptrdiff_t row, const double *values, ptrdiff_t n) noexcept nogil:
    cdef ptrdiff_t i
    if j.geometry.ndim == 1:
        write(out.op.data + row * out.op.strides[0], &out.op, out.op.strides[0], values, 64, 1, n)
    else:
        for i in range(n):
            write(out.op.data + offset(&j.geometry, &out.op, row + i), &out.op, 0, &values[i], 64, 1, 1)


cdef void reset_rows(const Job *j, Bench *w) noexcept nogil:
    """What is true of every row unless its inputs say otherwise."""
    cdef int lane
    memset(&w.rows, 0, sizeof(w.rows))
    memset(w.limit, 0, sizeof(w.limit))
    memset(w.other_limit, 0, sizeof(w.other_limit))
    memset(w.silent, 0, sizeof(w.silent))
    memset(w.masked, 0, sizeof(w.masked))
    memset(w.lost, 0, sizeof(w.lost))
    w.rows.rows = j.group
    for lane in range(LF_ROWS):
        w.rows.weight[lane] = w.rows.label_weight[lane] = w.rows.label_live[lane] = w.rows.factor[lane] = 1
        w.rows.label[lane] = w.rows.truth[lane] = -1
        w.rows.x_truth[lane] = w.lse[lane] = NAN
        w.rows.classes[lane] = w.rows.all_classes[lane] = <double>j.classes


cdef ptrdiff_t count_classes(const Job *j, const Bench *w, int lane) noexcept nogil:
    """How many classes of a row are neither masked nor have a factor of 0."""
    cdef double live[256]
    cdef double factor[256]
    cdef ptrdiff_t first = 0, found = 0, n, i
    while first < j.classes:
        n = j.classes - first if j.classes - first < 256 else 256
        for i in range(n):
            live[i] = factor[i] = 1
        if j.has[WHERE]:
            read(live, 64, 1, &j.ops[WHERE], w.at[WHERE][lane] + first * j.ops[WHERE].stride, j.ops[WHERE].stride, n)
        if j.has[FACTORS]:
            read(factor, 64, 1, &j.ops[FACTORS], w.at[FACTORS][lane] + first * j.ops[FACTORS].stride, j.ops[FACTORS].stride, n)
        for i in range(n):
            found += (live[i] != 0) & (factor[i] != 0)
        first += n
    return found


cdef void describe_rows(const Job *j, Bench *w) noexcept nogil:
    """Labels and weights of the group; which rows count for nothing."""
    cdef int lane
    cdef int64_t labels[16]
    cdef int64_t label
    cdef lf_rows *r = &w.rows
    cdef int even = j.geometry.ndim == 1 and w.n == j.group
    if w.unusual:
        reset_rows(j, w)
        w.unusual = 0
    if j.has[ROW_FACTOR]:
        for lane in range(j.group):
            read(&r.factor[lane], 64, 1, &j.ops[ROW_FACTOR], w.at[ROW_FACTOR][lane], 0, 1)
    if j.has[WEIGHT]:
        w.unusual = 1
        for lane in range(j.group):
            read(&r.weight[lane], 64, 1, &j.ops[WEIGHT], w.at[WEIGHT][lane], 0, 1)
            w.silent[lane] = r.weight[lane] == 0
    if j.has[LABELS]:
        if even:
            read_labels(labels, &j.ops[LABELS], w.at[LABELS][0], j.ops[LABELS].strides[0], w.n)
        else:
            for lane in range(j.group):
                read_labels(&labels[lane], &j.ops[LABELS], w.at[LABELS][lane], 0, 1)
        for lane in range(j.group):
            label = labels[lane]
            if 0 <= label < j.classes and not (j.has_ignore and label == j.ignore):
                r.label[lane] = r.truth[lane] = <double>label
                if j.class_weight != NULL:
                    r.label_weight[lane] = j.class_weight[label]
            else:
                w.unusual = 1
                r.label[lane] = r.truth[lane] = -1
                r.x_truth[lane] = NAN
                if not w.silent[lane]:
                    r.weight[lane] = NAN
            if j.has_ignore and label == j.ignore:
                w.silent[lane] = w.unusual = 1
            elif r.label[lane] < 0:
                w.lost[lane] = 1
    if j.has[WHERE] or j.has[FACTORS] or j.classes == 0:
        w.unusual = 1
        for lane in range(j.group):
            r.classes[lane] = count_classes(j, w, lane)
            if r.classes[lane] == 0:
                w.masked[lane] = w.silent[lane] = 1


cdef void one_hot(const Job *j, Bench *w) noexcept nogil:
    """Rows of soft labels that name one class outright are worked out as that label; the truth of the others is their
    first largest target."""
    cdef lf_rows *r = &w.rows
    cdef int lane
    memset(r.terms, 0, sizeof(r.terms))
    memset(r.result, 0, sizeof(r.result))
    for lane in range(LF_ROWS):
        r.terms[3][lane] = -INFINITY
    each_chunk(j, w, LF_STAGE_one_hot)
    for lane in range(j.group):
        r.truth[lane] = r.result[lane]
        if r.terms[0][lane] == 1 and r.terms[1][lane] == 1:
            r.label[lane] = r.terms[2][lane] - 1
            w.unusual = 1
            if j.class_weight != NULL:
                r.label_weight[lane] = j.class_weight[<ptrdiff_t>r.label[lane]]


cdef void stand(const Job *j, Bench *w, ptrdiff_t row, int n) noexcept nogil:
    """Go to a group, and see what is known of its rows beside their classes."""
    cdef int i
    w.row = row
    w.n = n
    for i in range(INPUTS):
        if j.has[i]:
            point(j, &j.ops[i], row, n, w.at[i])
    describe_rows(j, w)


cdef void soften(const Job *j, Bench *w) noexcept nogil:
    """The group's softmax: the sums of its exponentials, and what follows from them."""
    cdef ptrdiff_t first = 0
    j.rows.prepare(&w.rows, &j.options)
    while first < j.classes:
        load(j, w, first)
        exponentiate(j, w, &w.rows)
        first += j.chunk
    j.rows.finish(&w.rows, &j.options)


cdef void soften_other(const Job *j, Bench *w, Bench *o) noexcept nogil:
    """The softmax of the other logits, by the same code and in the same memory; what is needed of it stays in the rows."""
    cdef lf_rows *r = &w.rows
    cdef lf_rows *other = &o.rows
    cdef int lane
    stand(j.other, o, w.row, w.n)
    maxima(j.other, o)
    limits(j.other, o)
    for lane in range(j.group):
        other.pivot[lane], other.x_pivot[lane] = other.argmax[lane], other.max[lane]
    soften(j.other, o)
    for lane in range(j.group):
        r.other_max[lane], r.other_top[lane], r.other_top_lo[lane] = other.max[lane], other.top[lane], other.top_lo[lane]
        r.other_shift[lane], r.other_exponent[lane] = other.shift[lane], other.scale_exponent[lane]
        r.other_inverse[lane], r.other_inverse_lo[lane] = other.inverse[lane], other.inverse_lo[lane]
        w.other_limit[lane] = o.limit[lane]
        w.unusual |= o.limit[lane]


cdef void run_outputs(const Job *j, Bench *w) noexcept nogil:
    cdef int i
    for i in range(j.n_outputs):
        if j.outputs[i].kind == PROGRAM:
            run_program(j, w, i)
        if not j.outputs[i].per_class:
            deliver_rows(j, w, &j.outputs[i])


cdef void do_entries(const Job *j, Bench *w) noexcept nogil:
    """A group of a loss that is a sum over its entries."""
    cdef lf_rows *r = &w.rows
    cdef int lane
    w.loaded = -1
    for lane in range(j.group):
        r.x_pivot[lane] = logit(j, w, lane, <ptrdiff_t>r.label[lane]) if r.label[lane] >= 0 else 1
    run_outputs(j, w)


# One of a row's own classes; a row with no more than MOST_OWN needs no memory for them. Others are read in stretches.
cdef struct Own:
    double score
    ptrdiff_t place

cdef enum:
    MOST_OWN = 256
    STRETCH = 512


cdef int by_score(const void *a, const void *b) noexcept nogil:
    cdef double x = (<const Own *>a).score, y = (<const Own *>b).score
    return (x > y) - (x < y)


cdef void put_entries(const Job *j, const Output *out, ptrdiff_t row, ptrdiff_t first, const double *values, ptrdiff_t n) noexcept nogil:
    write(out.op.data + offset(&j.geometry, &out.op, row) + first * out.op.stride, &out.op, out.op.stride, values, 64, 1, n)


cdef double of_unit(double count, double unit, double unit_lo, double classes) noexcept nogil:
    """count (unit + unit_lo) / classes, rounded about once."""
    cdef double y = count * unit, q = y / classes, rest
    rest = (fma(-q, classes, y) + (fma(count, unit, -y) + count * unit_lo)) / classes
    return (q + rest if rest - rest == 0 else q) + 0.0


cdef void bring_pairs(const Job *j, Bench *w, int lane, ptrdiff_t first, ptrdiff_t n, double *x, double *t, double *live) noexcept nogil:
    """A stretch of a row; a class that is masked is none of the row's, and has a score that can beat none."""
    cdef ptrdiff_t i
    read(x, 64, 1, &j.ops[LOGITS], w.at[LOGITS][lane] + first * j.ops[LOGITS].stride, j.ops[LOGITS].stride, n)
    read(t, 64, 1, &j.ops[TARGET], w.at[TARGET][lane] + first * j.ops[TARGET].stride, j.ops[TARGET].stride, n)
    if j.has[WHERE]:
        read(live, 64, 1, &j.ops[WHERE], w.at[WHERE][lane] + first * j.ops[WHERE].stride, j.ops[WHERE].stride, n)
        for i in range(n):
            if live[i] == 0:
                x[i], t[i] = -INFINITY, 0


cdef void do_pairs(const Job *j, Bench *w, int lane) noexcept nogil:
    """A row of a loss of pairs: of a class that the row has, `own`, and one that it has not.

    Own classes are sorted by their scores. Those that another class's score violates are the first ones: their number and
    the sum of their scores say what that class adds.
    """
    cdef const Output *out
    cdef double x[STRETCH]
    cdef double t[STRETCH]
    cdef double live[STRETCH]
    cdef Own few[MOST_OWN]
    cdef double few_numbers[3 * (MOST_OWN + 1)]
    cdef Own *own = few
    cdef double *ends = few_numbers      # how many others violate just so many
    cdef double *sums
    cdef double *rests
    cdef char *memory = NULL
    cdef ptrdiff_t first, n, i, low, high, middle, found = 0, room = MOST_OWN
    cdef double margin = j.options.params[0], classes = w.rows.classes[lane], weight = w.rows.weight[lane]
    cdef double most = 0, down, unit, unit_lo, y, above, bit, part, spare, value = 0, value_lo = 0
    cdef int odd = 0, endless = 0, tops = 0, which, turn
    for turn in range(2):  # how many there are first, if they are many
        found = first = 0
        while first < j.classes:
            n = j.classes - first if j.classes - first < STRETCH else STRETCH
            bring_pairs(j, w, lane, first, n, x, t, live)
            for i in range(n):
                odd |= isnan(x[i]) or isnan(t[i])
                if x[i] - x[i] == 0 and (x[i] > most or -x[i] > most):
                    most = x[i] if x[i] > 0 else -x[i]
                if t[i] != 0:
                    if found < room:
                        own[found].score, own[found].place = x[i], first + i
                    found += 1
                    tops |= 2 * (x[i] == INFINITY)
                else:
                    tops |= x[i] == INFINITY
            first += n
        if found <= room:
            break
        memory = <char *>malloc(found * sizeof(Own) + 3 * (found + 1) * sizeof(double))
        if memory == NULL:
            w.failed = 1
            return
        room = found
        own, ends = <Own *>memory, <double *>(memory + found * sizeof(Own))
    odd |= tops == 3
    down = 2.0**-100 if most > 2.0**900 else 1
    sums, rests = ends + found + 1, ends + 2 * (found + 1)
    qsort(own, found, sizeof(Own), by_score)
    ends[0] = sums[0] = rests[0] = 0
    for i in range(found):
        sums[i + 1], rests[i + 1], ends[i + 1] = sums[i], rests[i], 0
        if own[i].score - own[i].score == 0:
            dd_add(&sums[i + 1], &rests[i + 1], own[i].score * down, 0)
    unit = weight * j.options.scale
    unit_lo = fma(weight, j.options.scale, -unit)
    first = 0
    while first < j.classes:
        n = j.classes - first if j.classes - first < STRETCH else STRETCH
        bring_pairs(j, w, lane, first, n, x, t, live)
        for i in range(n):
            low = 0
            if t[i] == 0 and x[i] > -INFINITY and not odd:
                above = margin + x[i]
                bit = above - margin
                bit = (margin - (above - bit)) + (x[i] - bit)
                bit = bit if bit - bit == 0 else 0
                high = found
                while low < high:
                    middle = (low + high) // 2
                    if own[middle].score < above or (own[middle].score == above and bit > 0):
                        low = middle + 1
                    else:
                        high = middle
                ends[low] += 1
                if low:
                    endless |= x[i] == INFINITY or own[0].score == -INFINITY
                    above, bit = margin * down + x[i] * down, bit * down
                    part = low * above
                    spare = fma(low, above, -part) + low * bit
                    dd_add(&value, &value_lo, part, spare)
                    dd_add(&value, &value_lo, -sums[low], -rests[low])
            t[i] = low
        for which in range(j.n_outputs):
            out = &j.outputs[which]
            if out.per_class:
                for i in range(n):
                    y = t[i] if out.is_grad else 0
                    x[i] = NAN if odd else of_unit(y, unit, unit_lo, classes)
                    if w.silent[lane] or (j.has[WHERE] and live[i] == 0):
                        x[i] = 0
                put_entries(j, out, w.row + lane, first, x, n)
        first += n
    above = 0
    for i in range(found - 1, -1, -1):
        above += ends[i + 1]  # the others that violate this one and those below it
        y = of_unit(-above, unit, unit_lo, classes)
        for which in range(j.n_outputs):
            if j.outputs[which].is_grad and not w.silent[lane] and not odd:
                put_entries(j, &j.outputs[which], w.row + lane, own[i].place, &y, 1)
    y = value / classes
    bit = (fma(-y, classes, value) + value_lo) / classes
    y = INFINITY if endless else (y + bit if bit - bit == 0 else y) / down
    w.rows.result[lane] = NAN if odd else weight * y + 0.0
    free(memory)


cdef void do_group(const Job *j, Bench *w, Bench *o, ptrdiff_t row, int n) noexcept nogil:
    """A group, by the stages: whatever is wanted of it."""
    cdef lf_rows *r = &w.rows
    cdef int lane, i
    stand(j, w, row, n)
    if j.pairs:
        for lane in range(n):
            do_pairs(j, w, lane)
        for i in range(j.n_outputs):
            if not j.outputs[i].per_class:
                deliver_rows(j, w, &j.outputs[i])
        return
    if j.entrywise:
        do_entries(j, w)
        return
    if j.has[OTHER]:
        soften_other(j, w, o)
    maxima(j, w)
    if j.has[TARGET]:
        one_hot(j, w)
    if j.needs_truth:
        for lane in range(j.group):
            if r.truth[lane] >= 0:
                r.x_truth[lane] = logit(j, w, lane, <ptrdiff_t>r.truth[lane])
            r.above[lane], r.runner_up[lane], r.undefined[lane] = 0, -INFINITY, 0
        each_chunk(j, w, LF_STAGE_ranking)
    if j.needs_prediction:
        predict(j, w)
    if j.needs_softmax:
        limits(j, w)
    for lane in range(j.group):
        if j.has[FACTORS] or w.pivotless:
            r.pivot[lane], r.x_pivot[lane] = -1, 0
        elif r.label[lane] >= 0:
            if j.has[WHERE]:
                r.label_live[lane] = is_live(j, w, lane, <ptrdiff_t>r.label[lane])
            r.pivot[lane], r.x_pivot[lane] = r.label[lane], logit(j, w, lane, <ptrdiff_t>r.label[lane])
        else:
            r.pivot[lane], r.x_pivot[lane] = r.argmax[lane], r.max[lane]
        if j.is_sparse and r.argmax[lane] >= 0:
            r.lead_target[lane] = sparse_target(
                &j.sparse, row + (lane if lane < n else n - 1), <ptrdiff_t>r.argmax[lane], is_live(j, w, lane, <ptrdiff_t>r.argmax[lane]))
        elif j.has[TARGET] and r.argmax[lane] >= 0:
            read(&r.lead_target[lane], 64, 1, &j.ops[TARGET], w.at[TARGET][lane] + <ptrdiff_t>r.argmax[lane] * j.ops[TARGET].stride, 0, 1)
        if j.has[OTHER] and r.argmax[lane] >= 0:
            r.lead_other[lane] = other_logit(j, w, lane, <ptrdiff_t>r.argmax[lane])
    if j.needs_softmax:
        soften(j, w)
        if j.needs_rest:
            each_chunk(j, w, LF_STAGE_remainder)
            j.rows.remainders(r, &j.options)
        for lane in range(n):
            if not isnan(w.lse[lane]):
                r.lse[lane] = w.lse[lane]
                r.sign[lane] = w.lse[lane] == INFINITY
        if j.needs_sums:
            for lane in range(j.group):
                r.terms[0][lane] = 1 - j.options.label_smoothing
                r.terms[1][lane] = j.options.label_smoothing / r.classes[lane] if r.classes[lane] > 0 else 0
            each_chunk(j, w, LF_STAGE_target_sums)
        j.rows.targets(r, &j.options)
    run_outputs(j, w)


# ---- plain rows ----

cdef int is_output(const Output *out, const char *loss, const char *name) noexcept nogil:
    return out.kind == PROGRAM and strcmp(out.program.loss, loss) == 0 and strcmp(out.program.output, name) == 0


cdef int is_pivotless(const Job *j) noexcept nogil:
    """A function to none of whose outputs it is of use that a probability is near 1: all but the logarithms of those."""
    cdef int i
    for i in range(j.n_outputs):
        if j.outputs[i].kind != PROGRAM or is_output(&j.outputs[i], "", "log_proba") or strcmp(j.outputs[i].program.loss, "log_softmax") == 0:
            return 0
    return not (j.has[LABELS] or j.has[TARGET] or j.has[OTHER])


cdef int is_plain(const Job *j) noexcept nogil:
    """What plain rows can do of the job: all, or 0."""
    cdef int i, want = 0
    for i in range(INPUTS):
        if j.has[i] and not (i == LOGITS or i == LABELS or i == WEIGHT):
            return 0
    if j.classes == 0 or j.options.label_smoothing != 0 or j.options.temperature != 1 or j.options.z_loss != 0:
        return 0
    for i in range(j.n_outputs):
        if j.has[LABELS]:
            if is_output(&j.outputs[i], "cross_entropy", "loss"):
                want |= LF_PLAIN_LOSS
            elif is_output(&j.outputs[i], "cross_entropy", "grad"):
                want |= LF_PLAIN_ENTRIES
            else:
                return 0
        elif j.n_outputs > 1:
            return 0
        elif is_output(&j.outputs[i], "", "proba"):
            want = LF_PLAIN_ENTRIES
        elif is_output(&j.outputs[i], "", "lse"):
            want = LF_PLAIN_LSE
        elif is_output(&j.outputs[i], "", "log_proba"):
            want = LF_PLAIN_LOGS
    return want


cdef int describe_batch(const Job *j, lf_batch *b, ptrdiff_t row, int n) noexcept nogil:
    """Labels and weights of a batch of plain rows; 0 where some of them are not plain."""
    cdef int i, in_line = j.geometry.ndim == 1
    cdef int64_t labels[128]
    cdef const Operand *op = &j.ops[WEIGHT]
    if not b.even:
        for i in range((n + LF_ROWS - 1) // LF_ROWS * LF_ROWS + LF_ROWS):
            b.weight[i] = b.label_weight[i] = 1
        b.even = 1
    if j.has[WEIGHT]:
        b.even = 0
        if in_line:
            read(b.weight, 64, 1, op, op.data + row * op.strides[0], op.strides[0], n)
        else:
            for i in range(n):
                read(&b.weight[i], 64, 1, op, op.data + offset(&j.geometry, op, row + i), 0, 1)
        for i in range(n):
            if not 0 <= b.weight[i] < INFINITY:
                return 0
    if not j.has[LABELS]:
        for i in range(n):
            b.label[i] = -1
        return 1
    op = &j.ops[LABELS]
    if in_line:
        read_labels(labels, op, op.data + row * op.strides[0], op.strides[0], n)
    else:
        for i in range(n):
            read_labels(&labels[i], op, op.data + offset(&j.geometry, op, row + i), 0, 1)
    if j.rows.take_labels(b, labels, n, j.classes) and j.class_weight == NULL and not (j.has_ignore and 0 <= j.ignore < j.classes):
        return 1
    for i in range(n):
        if j.has_ignore and labels[i] == j.ignore:
            b.label[i] = -1
            b.weight[i] = b.even = 0
        elif <uint64_t>labels[i] >= <uint64_t>j.classes:
            return 0
        elif j.class_weight != NULL:
            b.even = 0
            b.label_weight[i] = j.class_weight[labels[i]]
            if not 0 <= b.label_weight[i] < INFINITY:
                return 0
    return 1


cdef int in_line(const Job *j, const Operand *op, ptrdiff_t row, int n, char **at, ptrdiff_t *row_pitch, ptrdiff_t *class_pitch) noexcept nogil:
    """Where n rows begin, if they follow each other evenly, as numbers of the kernels' own; one of the pitches is 1."""
    cdef ptrdiff_t inner = j.geometry.shape[j.geometry.ndim - 1], step = op.strides[j.geometry.ndim - 1]
    if not is_native(op, j.dtype) or op.stride % j.width or step % j.width or (op.stride != j.width and step != j.width):
        return 0
    if j.geometry.ndim > 1 and row % inner + n > inner:
        return 0
    at[0] = op.data + offset(&j.geometry, op, row)
    row_pitch[0], class_pitch[0] = step // j.width, op.stride // j.width
    return 1


cdef int few_plain(const Job *j, Bench *w, Bench *o, ptrdiff_t row, int n, int want) noexcept nogil:
    """A batch of plain rows of few classes; 0 if it is none."""
    cdef const lf_table *table = current_table(j.dtype)
    cdef lf_batch *b = &w.batch
    cdef lf_plain k
    cdef const Output *entries = NULL
    cdef ptrdiff_t tile = LF_ROWS * j.classes * j.width
    cdef char *rows[16]
    cdef char *x = NULL
    cdef char *out = NULL
    cdef int whole = n // LF_ROWS * LF_ROWS, straight = 0, any_left = 0, first, m, i
    cdef int left[8]
    if not describe_batch(j, b, row, n):
        return 0
    for i in range(n, (n + 15) // 16 * 16):
        b.label[i], b.weight[i], b.label_weight[i] = b.label[n - 1], b.weight[n - 1], b.label_weight[n - 1]
    for i in range(j.n_outputs):
        if j.outputs[i].per_class:
            entries = &j.outputs[i]
    k.classes = j.classes
    k.e, k.lo = w.memory, w.memory + j.batch * j.classes * j.width
    k.keep, k.largest, k.far = (want & LF_PLAIN_ENTRIES) != 0, (want & LF_PLAIN_LOGS) != 0, w.far
    if whole and in_line(j, &j.ops[LOGITS], row, whole, &x, &k.row_pitch, &k.class_pitch):
        straight = whole
        k.x = x
        table.few_sums(&k, b, 0, straight)
    first = straight
    while first < n:
        stand_tile(j, w, &k, row, first, n)
        k.far = 1  # the exponentials are to take the tile's place
        table.few_sums(&k, b, first, first + LF_ROWS)
        first += LF_ROWS
    w.far = b.far[(n - 1) // LF_ROWS * LF_ROWS]
    j.rows.plain_rows(b, 0, n, &j.options, want, <double>j.classes)
    memcpy(w.sums[0], b.loss, n * sizeof(double))
    for first in range((n + 15) // 16):
        left[first] = 0
        for i in range(first * LF_ROWS, n if n < (first + 1) * LF_ROWS else (first + 1) * LF_ROWS):
            left[first] |= b.inverse[i] != b.inverse[i]
        any_left |= left[first]
    if entries != NULL:
        first = 0
        if straight and not any_left and in_line(j, &entries.op, row, straight, &out, &k.out_row_pitch, &k.out_class_pitch):
            in_line(j, &j.ops[LOGITS], row, straight, &x, &k.row_pitch, &k.class_pitch)
            k.x, k.out = x, out
            table.few_entries(&k, b, 0, straight)
            first = straight
        k.out = NULL
        while first < n:
            if not left[first // LF_ROWS]:
                if first < straight:
                    in_line(j, &j.ops[LOGITS], row + first, LF_ROWS, &x, &k.row_pitch, &k.class_pitch)
                    k.x = x
                else:
                    k.x, k.row_pitch, k.class_pitch = <char *>k.e + first // LF_ROWS * tile, 1, LF_ROWS
                table.few_entries(&k, b, first, first + LF_ROWS)
                m = n - first if n - first < LF_ROWS else LF_ROWS
                point(j, &entries.op, row + first, m, rows)
                write_tile(&entries.op, rows, m, <char *>k.e + first // LF_ROWS * tile, j.dtype, j.classes)
            first += LF_ROWS
    for first in range((n + 15) // 16):
        if left[first]:
            m = first * LF_ROWS
            do_group(j, w, o, row + m, n - m if n - m < LF_ROWS else LF_ROWS)
    return 1


cdef void stand_tile(const Job *j, Bench *w, lf_plain *k, ptrdiff_t row, int first, int n) noexcept nogil:
    """A group whose logits have to be brought, as a tile where its exponentials will be."""
    cdef char *rows[16]
    cdef char *tile = <char *>k.e + first * j.classes * j.width
    point(j, &j.ops[LOGITS], row + first, n - first if n - first < LF_ROWS else LF_ROWS, rows)
    read_tile(tile, j.dtype, &j.ops[LOGITS], rows, 0, j.classes)
    k.x, k.row_pitch, k.class_pitch = tile, 1, LF_ROWS


cdef void bring_rows(const Job *j, char *to, ptrdiff_t pitch, char *tile, const Operand *op, ptrdiff_t row, int n) noexcept nogil:
    """Rows of many classes as the kernels want them, `pitch` bytes apart. Where they lie across, a stretch of classes is brought
    of all rows before the next one: neighbours share the lines of the cache."""
    cdef char *rows[64]
    cdef ptrdiff_t first = 0, m
    cdef int i
    for i in range(n):
        rows[i] = op.data + offset(&j.geometry, op, row + i)
    while first < j.classes:
        m = j.classes - first if j.classes - first < TILE_CLASSES else TILE_CLASSES
        m = j.classes if op.stride == op.itemsize else m
        i = 0
        while i < n:
            if n - i < LF_ROWS or op.stride == op.itemsize:
                read(to + i * pitch + first * j.width, j.dtype, 1, op, rows[i] + first * op.stride, op.stride, m)
                i += 1
            else:
                read_tile(tile, j.dtype, op, rows + i, first, m)
                current_table(j.dtype).tile_out(to + i * pitch + first * j.width, pitch // j.width, tile, m)
                i += LF_ROWS
        first += m


cdef void put_rows(const Job *j, char *values, ptrdiff_t pitch, char *tile, const Operand *op, ptrdiff_t row, int n) noexcept nogil:
    """And back."""
    cdef char *rows[64]
    cdef ptrdiff_t first = 0, m
    cdef int i
    for i in range(n):
        rows[i] = op.data + offset(&j.geometry, op, row + i)
    while first < j.classes:
        m = j.classes - first if j.classes - first < TILE_CLASSES else TILE_CLASSES
        m = j.classes if op.stride == op.itemsize else m
        i = 0
        while i < n:
            if n - i < LF_ROWS or op.stride == op.itemsize:
                write(rows[i], op, op.stride, values + i * pitch + first * j.width, j.dtype, 1, m)
                i += 1
            else:
                current_table(j.dtype).tile_in(tile, values + i * pitch + first * j.width, pitch // j.width, m)
                write_tile(op, rows + i, LF_ROWS, tile, j.dtype, m)
                i += LF_ROWS
        for i in range(n):
            rows[i] += m * op.stride
        first += m


cdef int many_plain(const Job *j, Bench *w, Bench *o, ptrdiff_t row, int n, int want) noexcept nogil:
    """A batch of plain rows of many classes; 0 if it is none."""
    cdef const lf_table *table = current_table(j.dtype)
    cdef lf_batch *b = &w.batch
    cdef lf_plain k
    cdef const Output *entries = NULL
    cdef const Operand *logits = &j.ops[LOGITS]
    cdef ptrdiff_t pitch = (j.classes + 15) // 16 * 16 * j.width  # of a row that has to be brought, or put
    cdef int straight_in = lies_along(j, logits), straight_out = 1, step = 1, i, m, first = 0
    cdef int left[128]
    cdef char *brought
    cdef char *tile = w.memory + 2 * PLAIN_BYTES
    if not describe_batch(j, b, row, n):
        return 0
    for i in range(j.n_outputs):
        if j.outputs[i].per_class:
            entries = &j.outputs[i]
            straight_out = lies_along(j, &entries.op)
    k.classes, k.stretch = j.classes, (j.chunk + 15) // 16 * 16
    k.chunk = PLAIN_BYTES // j.width // k.stretch * k.stretch
    k.e, k.lo = w.memory, w.memory + PLAIN_BYTES
    k.keep, k.largest, k.out = (want & LF_PLAIN_ENTRIES) != 0, (want & LF_PLAIN_LOGS) != 0, NULL
    brought = w.memory + 2 * pitch
    if not (straight_in and straight_out):
        k.lo = w.memory + pitch
        if 3 * pitch > 2 * PLAIN_BYTES:
            return 0  # no memory for a row beside its exponentials
        step = <int>(2 * PLAIN_BYTES // pitch - 2)
        step = ROWS_AT_ONCE if step > ROWS_AT_ONCE else step // LF_ROWS * LF_ROWS if step > LF_ROWS else step
    while first < n:
        m = step if n - first > step else n - first
        if not straight_in:
            bring_rows(j, brought, pitch, tile, logits, row + first, m)
        for i in range(first, first + m):
            left[i] = 0
            k.x = logits.data + offset(&j.geometry, logits, row + i) if straight_in else brought + (i - first) * pitch
            if entries != NULL:
                k.out = entries.op.data + offset(&j.geometry, &entries.op, row + i) if straight_out else brought + (i - first) * pitch
            if b.weight[i] == 0:
                if entries != NULL:
                    memset(k.out, 0, j.classes * j.width)
                continue
            k.far = w.far
            table.many_sums(&k, b, i, i + 1)
            w.far = b.far[i]
            if entries != NULL:
                j.rows.plain_rows(b, i, i + 1, &j.options, want & ~LF_PLAIN_LOSS, <double>j.classes)
                left[i] = b.inverse[i] != b.inverse[i]
                if not left[i]:
                    table.many_entries(&k, b, i, i + 1)
        if entries != NULL and not straight_out:
            put_rows(j, brought, pitch, tile, &entries.op, row + first, m)
        first += m
    if want & (LF_PLAIN_LOSS | LF_PLAIN_LSE):
        j.rows.plain_rows(b, 0, n, &j.options, want, <double>j.classes)
        for i in range(n):
            left[i] = b.weight[i] != 0 and b.inverse[i] != b.inverse[i]
            w.sums[0][i] = b.loss[i] if b.weight[i] != 0 else 0
    for i in range(n):
        if left[i]:
            do_group(j, w, o, row + i, 1)
    return 1


cdef int do_rows(const Job *j, ptrdiff_t start, ptrdiff_t stop, lf_total *totals) noexcept nogil:
    """Rows [start, stop), which begins a group; -1 if there is no memory."""
    cdef Bench w
    cdef Bench o
    cdef ptrdiff_t size = (j.chunk * j.group * j.width + 127) // 64 * 64, memory = BUFFERS * size, at = start, n, i
    cdef uint64_t state
    cdef int k, done, plain = is_plain(j)
    cdef lf_running sums[3]
    memset(sums, 0, sizeof(sums))
    w.batch.even = 0
    if plain:
        i = 2 * j.batch * j.classes * j.width if j.group == LF_ROWS else 2 * PLAIN_BYTES + LF_ROWS * TILE_CLASSES * j.width
        memory = i if i > memory else memory
    w.memory = <char *>malloc(memory + 64)
    if w.memory == NULL:
        return -1
    for i in range(BUFFERS):
        w.buffers[i] = o.buffers[i] = w.memory + i * size
    w.unusual = o.unusual = 1
    w.far = w.failed = 0
    w.pivotless, o.pivotless = is_pivotless(j), 0
    state = lf_fp_set()
    while at < stop:
        n = stop - at if stop - at < j.batch else j.batch
        w.base = at
        w.plain = plain
        done = 0
        if plain:
            done = few_plain(j, &w, &o, at, <int>n, plain) if j.group == LF_ROWS else many_plain(j, &w, &o, at, <int>n, plain)
        if not done:
            i = w.plain = 0
            while i < n:
                do_group(j, &w, &o, at + i, <int>(n - i if n - i < j.group else j.group))
                i += j.group
        for k in range(j.n_outputs):
            if done and j.outputs[k].wanted and not j.outputs[k].per_class:
                write_rows(j, &j.outputs[k], at, w.sums[0], n)
            if j.outputs[k].is_loss:
                j.rows.add_batch(&sums[0], w.sums[0], <int>n)
            if j.outputs[k].is_temperature:
                j.rows.add_batch(&sums[j.outputs[k].is_temperature], w.sums[j.outputs[k].is_temperature], <int>n)
        at += n
    for k in range(3):
        j.rows.end_sum(&sums[k])
        totals[k] = sums[k].total
    lf_fp_restore(state)
    free(w.memory)
    return -w.failed


cdef const lf_program *find_program(const lf_table *table, const char *loss, const char *output) noexcept nogil:
    """The loss's own program for an output, else the one that all losses share; NULL if there is neither."""
    cdef const lf_program *p = table.programs
    while p.loss != NULL:
        if strcmp(p.output, output) == 0 and (p.loss[0] == 0 or strcmp(p.loss, loss) == 0):
            return p
        p += 1
    return NULL


cdef void set_up(Job *j, int dtype, ptrdiff_t classes) noexcept nogil:
    """What depends on the number of classes and the dtype alone."""
    cdef const lf_table *table = current_table(dtype)
    j.dtype = dtype
    j.width = dtype // 8
    j.rows = current_table(64)
    j.classes = classes
    if classes <= ACROSS:
        j.group, j.chunk, j.stages = LF_ROWS, classes if classes else 1, table.across
    else:
        j.group, j.stages = 1, table.along
        j.chunk = CHUNK_BYTES // j.width if classes > CHUNK_BYTES // j.width else classes
    j.batch = LF_BATCH
    while j.group == LF_ROWS and j.batch > LF_ROWS and 2 * j.batch * j.chunk * j.width > TILES_BYTES:
        j.batch //= 2
    j.options.dtype = dtype
    j.options.temperature = j.start.inverse_temperature = 1
    j.options.profile = j.start.profile = -1


# ---- from what is wanted and where it lies to a job ----

PER_CLASS = frozenset(("grad", "hess", "proba", "log_proba", "grad_target", "hvp", "newton_step", "vjp", "jvp"))
WEIGHTED = frozenset(("loss", "grad", "hess", "grad_target", "hvp", "newton_step", "grad_temperature", "hess_temperature"))
# By order of the derivative.
OF_TEMPERATURE = {"grad_temperature": 1, "hess_temperature": 2}

# One output as it is in every job that wants it.
cdef struct PlannedOutput:
    int kind, per_class, weighted, is_loss, is_grad, is_temperature
    int program            # its place among the table's, the same for every instruction set
    int label_program      # that of integer labels, which may be another
    double when_masked, when_lost
    int given              # its place among the names that were asked for


cdef class RowPlan:
    """What a loss and the outputs wanted of it ask of a job, worked out once for all such jobs."""

    cdef int n
    cdef PlannedOutput outputs[24]   # in the order in which they are worked out: first those with one number a row
    cdef int in_double, direction_a_row, entrywise, pairs
    cdef int needs_softmax, needs_argmax, needs_prediction, needs_truth
    cdef int needs_rest              # as it is; with targets and without
    cdef int needs_rest_of_targets
    cdef int may_need_sums, always_argmax
    cdef int profile                 # which; -1: none

    def __init__(self, str loss, tuple names):
        cdef PlannedOutput *out
        cdef const lf_table *table = current_table(64)
        if len(names) > 24:
            raise ValueError(f"at most 24 outputs can be wanted, got {len(names)}")
        # The Newton step, the quadratic cost's derivatives and a comparison of two softmaxes are small differences of large
        # numbers, and so are margins; powers of a probability have its error several times over: in double always.
        # Sums over entries have their digits from there too.
        self.entrywise = find_program(table, loss.encode(), b"label:loss") != NULL
        self.profile = profile_number(loss.encode())
        self.in_double = "newton_step" in names or loss in ("quadratic_softmax_loss", "multiclass_hinge_loss")
        self.pairs = loss == "multilabel_margin_loss"
        self.in_double = self.in_double or self.entrywise or self.pairs or self.profile >= 0
        self.direction_a_row = (loss == "logsumexp" or self.entrywise) and "vjp" in names
        self.always_argmax = self.needs_rest = loss == "quadratic_softmax_loss"
        self.may_need_sums = loss in ("cross_entropy", "quadratic_softmax_loss")
        for name in sorted(names, key=PER_CLASS.__contains__):
            out = &self.outputs[self.n]
            self.n += 1
            out.given = names.index(name)
            out.per_class = name in PER_CLASS
            out.weighted = name in WEIGHTED
            out.is_loss = name == "loss"
            out.is_grad = name == "grad"
            out.is_temperature = OF_TEMPERATURE.get(name, 0)
            out.when_masked = {"log_proba": -INFINITY, "lse": -INFINITY, "margin": NAN}.get(name, 0)
            out.when_lost = 0 if name == "rank" else NAN
            out.kind = {"pred": PREDICTION, "correct": CORRECT}.get(name, PROGRAM)
            if out.kind == PROGRAM:
                program = find_program(table, loss.encode(), name.encode())
                if program == NULL:
                    raise NotImplementedError(f"{loss} has no compiled {name}: it is missing from kernels/rowwise.h")
                out.program = out.label_program = <int>(program - table.programs)
                program = find_program(table, loss.encode(), b"label:" + name.encode())
                if program != NULL:
                    out.label_program = <int>(program - table.programs)
                if not (self.entrywise or self.pairs) and (loss not in ("nll_loss", "multiclass_hinge_loss") or name not in ("loss", "grad", "hess", "hvp")):
                    self.needs_softmax |= name not in ("margin", "rank")
            self.needs_truth |= name in ("margin", "rank")
            if name not in WEIGHTED:  # of a row without a label the largest class is the pivot, whatever else is wanted
                self.needs_argmax = 1
            if name in ("pred", "correct"):
                self.needs_prediction = 1
                self.needs_softmax |= name == "correct" and loss not in ("nll_loss", "multiclass_hinge_loss")  # it tells a row with a NaN
            self.needs_rest_of_targets |= name in ("hess", "entropy", "log_proba", "grad_target", "lse")


cdef dict _plans = {}


cdef object plan_rows(str loss, tuple names):
    key = (loss, names)
    plan = _plans.get(key)
    if plan is None:
        plan = _plans[key] = RowPlan(loss, names)
    return plan


cdef void clear(Job *j) noexcept nogil:
    """Zeros for everything but the geometry, the operands and the outputs, which are most of it, and are set as needed."""
    cdef char *after = <char *>&j.outputs[0]
    memset(j, 0, <char *>&j.geometry - <char *>j)
    memset(j.has, 0, after - <char *>j.has)


cdef void make_job(Job *j, Job *other, RowPlan plan, const RowTask *task) noexcept:
    """The job, and in `other` that of the other logits if there are such."""
    cdef const Operand *inputs[9]
    cdef Operand *used[40]
    cdef const PlannedOutput *planned
    cdef const Operand *op
    cdef Output *out
    cdef int i, over = -1, count = 0, axes = task.rows.ndim
    cdef double t = task.temperature
    clear(j)
    put_geometry(&j.geometry, &task.rows)
    set_up(j, 32 if task.dtype == 32 and not plan.in_double and task.other == NULL else 64, task.classes)
    memset(inputs, 0, sizeof(inputs))
    inputs[LOGITS], inputs[LABELS], inputs[TARGET], inputs[OTHER] = task.logits, task.labels, task.target, task.other
    inputs[WEIGHT], inputs[WHERE], inputs[FACTORS] = task.sample_weight, task.where, task.factors
    inputs[ROW_FACTOR if plan.direction_a_row else DIRECTION] = task.direction
    for i in range(INPUTS):
        j.has[i] = enlist(&j.ops[i], inputs[i], axes, used, &count)
    if task.is_sparse:
        j.has[TARGET] = j.is_sparse = 1
        j.sparse = task.sparse
        memset(&j.ops[TARGET], 0, sizeof(Operand))
    j.options.scale = task.scale
    j.options.label_smoothing = task.label_smoothing
    j.options.temperature = t
    j.options.z_loss = task.z_loss
    j.options.ridge = task.ridge
    j.options.soft = j.has[TARGET]
    j.options.profile = j.start.profile = plan.profile
    j.start.fine = plan.profile >= 0 and task.dtype == 64
    j.start.inverse_temperature = 1 / t
    j.start.inverse_temperature_lo = fma(-(1 / t), t, 1) / t if t != 1 else 0
    memcpy(j.options.params, task.params, sizeof(j.options.params))
    j.start.params = j.options.params
    j.entrywise, j.pairs = plan.entrywise, plan.pairs
    j.class_weight = task.class_weight if task.class_weight != NULL else task.entry_weight
    j.has_ignore, j.ignore = task.has_ignore, task.ignore
    j.needs_softmax, j.needs_prediction, j.needs_truth = plan.needs_softmax, plan.needs_prediction, plan.needs_truth
    j.needs_argmax = plan.needs_argmax or j.has[TARGET] or not j.has[LABELS] or plan.always_argmax
    j.needs_rest = plan.needs_rest
    if (j.has[LABELS] or j.has[TARGET]) and (plan.needs_rest_of_targets or (plan.profile >= 0 and j.has[TARGET]) or task.label_smoothing != 0 or task.z_loss != 0):
        j.needs_rest = j.needs_argmax = 1
    j.needs_sums = plan.may_need_sums and (j.has[TARGET] or task.label_smoothing != 0)
    for i in range(plan.n):  # whatever is written over the logits comes last: the others still read them
        op = task.outputs[plan.outputs[i].given]
        if op != NULL and op.data == task.logits.data:
            over = i
    for i in range(plan.n):
        planned = &plan.outputs[i if over < 0 or i < over else i + 1 if i + 1 < plan.n else over]
        out = &j.outputs[i]
        memset(<char *>out + sizeof(Operand), 0, sizeof(Output) - sizeof(Operand))
        out.kind, out.per_class, out.weighted = planned.kind, planned.per_class, planned.weighted
        out.when_masked, out.when_lost = planned.when_masked, planned.when_lost
        out.is_loss = planned.is_loss and task.total[planned.given]
        out.is_grad = planned.is_grad
        out.is_temperature = planned.is_temperature if task.total[planned.given] else 0
        if out.kind == PROGRAM:
            out.program = &j.rows.programs[planned.label_program if j.has[LABELS] else planned.program]
        out.wanted = enlist(&out.op, task.outputs[planned.given], axes, used, &count)
    j.n_outputs = plan.n
    join_axes(&j.geometry, used, count)
    if j.has[OTHER]:
        other[0] = j[0]
        j.other = other
        other.ops[LOGITS] = j.ops[OTHER]
        for i in (OTHER, WEIGHT, DIRECTION):
            other.has[i] = 0


cdef extern from "Python.h":
    ctypedef struct PyThreadState
    PyThreadState *PyEval_SaveThread()
    void PyEval_RestoreThread(PyThreadState *)


cdef int run_rows(object plan, void *task, bint release) except -1:
    cdef Job job
    cdef Job other
    cdef PyThreadState *state = NULL
    cdef int failed
    make_job(&job, &other, <RowPlan>plan, <RowTask *>task)
    if release:
        state = PyEval_SaveThread()
    failed = do_rows(&job, 0, job.geometry.size, (<RowTask *>task).totals)
    if release:
        PyEval_RestoreThread(state)
    if failed:
        raise MemoryError("no memory for a block of work")
    return 0


cdef int put_sparse(Sparse *s, object targets) except -1:
    cdef cnp.ndarray array = targets.starts
    s.starts = <const int64_t *>cnp.PyArray_DATA(array)
    array = targets.classes
    s.classes, s.entries = <const int64_t *>cnp.PyArray_DATA(array), cnp.PyArray_SIZE(array)
    array = targets.targets
    s.targets = <const double *>cnp.PyArray_DATA(array)
    s.rest = NULL
    if targets.rest is not None:
        array = targets.rest
        s.rest = <const double *>cnp.PyArray_DATA(array)
    return 0


cdef int read_job(RowTask *task, Operand **free, object job) except -1:
    """Everything in a `RowwiseJob` but its outputs."""
    cdef cnp.ndarray array = job.logits
    cdef int i
    memset(task, 0, sizeof(RowTask))
    task.rows.ndim = cnp.PyArray_NDIM(array) - 1
    for i in range(task.rows.ndim):
        task.rows.shape[i] = cnp.PyArray_DIM(array, i)
    task.classes = cnp.PyArray_DIM(array, task.rows.ndim)
    task.dtype = 32 if job.compute.itemsize == 4 else 64
    task.logits = described(free, array, True)
    task.labels = described(free, job.labels, False)
    if isinstance(job.target, SparseTargets):
        task.is_sparse = 1
        put_sparse(&task.sparse, job.target)
    else:
        task.target = described(free, job.target, True)
    task.other = described(free, job.logits_q, True)
    task.sample_weight = described(free, job.sample_weight, False)
    task.where = described(free, job.where, True)
    if job.class_weight is not None:
        array = job.class_weight
        task.class_weight = <const double *>cnp.PyArray_DATA(array)
    if job.entry_weight is not None:
        array = job.entry_weight
        task.entry_weight = <const double *>cnp.PyArray_DATA(array)
    ignore = job.ignore_index
    if ignore is not None and task.labels != NULL and job.labels.dtype.kind == "u" and 2**63 <= ignore < 2**64:
        task.has_ignore, task.ignore = 1, ignore - 2**64  # as `read_labels` has such labels
    elif ignore is not None and -(2**63) <= ignore < 2**63 and (ignore >= 0 or task.labels == NULL or job.labels.dtype.kind != "u"):
        task.has_ignore, task.ignore = 1, ignore
    return 0


cdef class Rowwise:
    """A job made ready. Called with (start, stop) it does those rows and returns the totals of their losses and of their
    first and second derivatives with respect to the temperature, each as (hi, lo, exponent)."""

    cdef readonly ptrdiff_t size
    cdef readonly int group
    cdef Job job
    cdef Job other
    cdef object kept

    def __init__(self, job):
        cdef RowTask task
        cdef Operand operands[40]
        cdef Operand *free = operands
        cdef dict outputs = job.outputs
        cdef tuple names = job.totals
        cdef RowPlan plan
        cdef int i
        read_job(&task, &free, job)
        names += tuple([name for name in outputs if name not in names])
        plan = plan_rows(job.loss, names)
        task.direction = described(&free, job.v, not plan.direction_a_row)
        task.factors = described(&free, job.b, True)
        task.scale = job.scale
        task.label_smoothing, task.temperature, task.z_loss, task.ridge = job.label_smoothing, job.temperature, job.z_loss, job.ridge
        for i, value in enumerate(job.params):
            task.params[i] = value
        for i, name in enumerate(names):
            task.outputs[i] = described(&free, outputs.get(name), name in PER_CLASS)
            task.total[i] = i < len(job.totals)
        make_job(&self.job, &self.other, plan, &task)
        self.kept = job
        self.size = self.job.geometry.size
        self.group = self.job.group

    def __call__(self, ptrdiff_t start, ptrdiff_t stop):
        cdef lf_total totals[3]
        cdef int failed
        with nogil:
            failed = do_rows(&self.job, start, stop, totals)
        if failed:
            raise MemoryError("no memory for a block of work")
        return tuple([(totals[i].hi, totals[i].lo, totals[i].exponent) for i in range(3)])


# What the sum of a job's weights is made of.
cdef struct Weighing:
    Geometry geometry
    Operand labels, target, weight, where
    int has_labels, has_target, has_weight, has_where
    int is_sparse              # the targets are these, and have no operand
    Sparse sparse
    ptrdiff_t classes
    const double *class_weight
    int has_ignore
    int64_t ignore


cdef int any_class(const Weighing *g, ptrdiff_t row) noexcept nogil:
    cdef double live[256]
    cdef const char *at = g.where.data + offset(&g.geometry, &g.where, row)
    cdef ptrdiff_t first = 0, n, i
    while first < g.classes:
        n = 256 if first else 8  # most rows have a class among the first few
        if n > g.classes - first:
            n = g.classes - first
        read(live, 64, 1, &g.where, at + first * g.where.stride, g.where.stride, n)
        for i in range(n):
            if live[i] != 0:
                return 1
        first += n
    return 0


cdef double weigh_targets(const Weighing *g, const lf_table *table, ptrdiff_t row, double *rest) noexcept nogil:
    """The sum of class weight times target, and what is left of it; a NaN at a masked class is left out."""
    cdef double t[256]
    cdef double live[256]
    cdef const char *at = NULL
    cdef const char *mask = NULL
    cdef lf_running sum
    cdef double total = 0
    cdef ptrdiff_t first = 0, n, i
    if not g.is_sparse:
        at = g.target.data + offset(&g.geometry, &g.target, row)
    if g.has_where:
        mask = g.where.data + offset(&g.geometry, &g.where, row)
    if g.classes > LF_ROWS:
        memset(&sum, 0, sizeof(sum))
    rest[0] = 0
    while first < g.classes:
        n = g.classes - first if g.classes - first < 256 else 256
        if mask != NULL:
            read(live, 64, 1, &g.where, mask + first * g.where.stride, g.where.stride, n)
        if g.is_sparse:
            spread_out(&g.sparse, row, first, n, t, 1, live if mask != NULL else NULL)
        else:
            read(t, 64, 1, &g.target, at + first * g.target.stride, g.target.stride, n)
        for i in range(n):
            t[i] = t[i] * g.class_weight[first + i] if mask == NULL or live[i] != 0 or t[i] == t[i] else 0
        if g.classes > LF_ROWS:
            table.add_batch(&sum, t, <int>n)
        else:  # too few to be worth running sums
            for i in range(n):
                dd_add(&total, rest, t[i], 0)
        first += n
    if g.classes <= LF_ROWS:
        return total
    table.end_sum(&sum)
    rest[0] = sum.total.lo if sum.total.exponent == 0 else 0
    return ldexp(sum.total.hi, sum.total.exponent)


cdef void bring_labels(int64_t *labels, const Geometry *g, const Operand *op, ptrdiff_t start, ptrdiff_t n) noexcept nogil:
    cdef ptrdiff_t inner = g.shape[g.ndim - 1], done = 0, run
    while done < n:
        run = inner - (start + done) % inner
        if run > n - done:
            run = n - done
        read_labels(labels + done, op, op.data + offset(g, op, start + done), op.strides[g.ndim - 1], run)
        done += run


cdef void weigh(const Weighing *g, ptrdiff_t start, ptrdiff_t stop, lf_total *total, ptrdiff_t *counts) noexcept nogil:
    cdef int64_t labels[512]
    cdef double weights[512]
    cdef double rests[512]     # what the weights by soft targets are rounded off by
    cdef char live[512]        # whether the row counts
    cdef const double *w
    cdef const lf_table *table = current_table(64)
    cdef lf_running sum
    cdef ptrdiff_t at = start, n, i, good
    cdef double of_row
    cdef int by_label = g.class_weight != NULL and g.has_labels, weighted = g.has_weight or g.has_target or by_label
    cdef int ignores_a_class = g.has_labels and g.has_ignore and 0 <= g.ignore < g.classes
    cdef uint64_t state = lf_fp_set()
    memset(&sum, 0, sizeof(sum))
    counts[0] = counts[1] = 0
    counts[2] = -1
    while at < stop:
        good = n = stop - at if stop - at < 512 else 512
        if g.has_labels:
            bring_labels(labels, &g.geometry, &g.labels, at, n)
            good = 0
            for i in range(n):
                good += <uint64_t>labels[i] < <uint64_t>g.classes
        memset(live, 1, n)
        if good < n or ignores_a_class:
            good = 0
            for i in range(n):
                live[i] = <uint64_t>labels[i] < <uint64_t>g.classes
                if g.has_ignore and labels[i] == g.ignore:
                    live[i] = 0
                elif not live[i]:
                    counts[1] += 1
                    if counts[2] < 0:
                        counts[2] = at + i
                good += live[i]
        if g.has_where:
            for i in range(n):
                if live[i] and not any_class(g, at + i):
                    live[i] = 0
                    good -= 1
        counts[0] += good
        if weighted and good:
            w = NULL
            if g.has_weight:
                w = <const double *>bring(weights, 64, &g.geometry, &g.weight, at, n)
            if g.has_target:
                for i in range(n):
                    rests[i] = 0
                    of_row = w[i] if w != NULL else 1
                    if not live[i] or of_row == 0:
                        weights[i] = 0
                        continue
                    weights[i] = of_row * weigh_targets(g, table, at + i, &rests[i])
                    rests[i] = of_row * rests[i] if weights[i] - weights[i] == 0 else 0
                table.add_batch(&sum, rests, <int>n)
                w = weights
            elif by_label:
                for i in range(n):
                    weights[i] = (w[i] if w != NULL else 1) * g.class_weight[labels[i]] if live[i] else 0
                w = weights
            elif good < n:
                for i in range(n):
                    weights[i] = w[i] if live[i] else 0
                w = weights
            table.add_batch(&sum, w, <int>n)
        at += n
    if weighted:
        table.end_sum(&sum)
        total[0] = sum.total
    else:
        total.hi, total.lo, total.exponent = <double>counts[0], 0, 0
    lf_fp_restore(state)


cdef void make_weighing(Weighing *g, const RowTask *task) noexcept nogil:
    cdef Operand *used[4]
    cdef int count = 0, axes = task.rows.ndim
    put_geometry(&g.geometry, &task.rows)
    g.has_labels = enlist(&g.labels, task.labels, axes, used, &count)
    # without class weights the targets do not enter
    g.has_target = enlist(&g.target, task.target if task.class_weight != NULL else NULL, axes, used, &count)
    g.is_sparse = task.is_sparse and task.class_weight != NULL
    if g.is_sparse:
        g.has_target, g.sparse = 1, task.sparse
    g.has_weight = enlist(&g.weight, task.sample_weight, axes, used, &count)
    g.has_where = enlist(&g.where, task.where, axes, used, &count)
    g.classes, g.class_weight, g.has_ignore, g.ignore = task.classes, task.class_weight, task.has_ignore, task.ignore
    join_axes(&g.geometry, used, count)


cdef void weigh_rows(void *task) noexcept nogil:
    cdef RowTask *t = <RowTask *>task
    cdef Weighing g
    cdef ptrdiff_t counts[3]
    make_weighing(&g, t)
    weigh(&g, 0, g.geometry.size, &t.weight, counts)
    t.count, t.bad_count, t.bad_row = counts[0], counts[1], counts[2]


cdef class RowWeights:
    """The sum of the weights of the rows that count, how many they are, and the labels out of range, over (start, stop)."""

    cdef readonly ptrdiff_t size
    cdef Weighing weighing
    cdef object kept

    def __init__(self, job):
        cdef RowTask task
        cdef Operand operands[6]
        cdef Operand *free = operands
        read_job(&task, &free, job)
        make_weighing(&self.weighing, &task)
        self.kept = job
        self.size = self.weighing.geometry.size

    def __call__(self, ptrdiff_t start, ptrdiff_t stop):
        cdef lf_total total
        cdef ptrdiff_t counts[3]
        with nogil:
            weigh(&self.weighing, start, stop, &total, counts)
        return (total.hi, total.lo, total.exponent), counts[0], counts[1], counts[2]


# ---- for other nogil code ----

cdef void contiguous(Job *j, const void *logits, const void *labels, ptrdiff_t rows) noexcept nogil:
    j.geometry.ndim = 1
    j.geometry.shape[0] = j.geometry.size = rows
    native(&j.ops[LOGITS], logits, j.dtype, j.classes * j.width, j.width)
    j.has[LOGITS] = 1
    if labels != NULL:
        native_labels(&j.ops[LABELS], labels)
        j.has[LABELS] = 1
    j.needs_argmax = labels == NULL
    j.needs_softmax = 1


cdef Output *add_native(Job *j, const char *loss, const char *name, void *data, ptrdiff_t row_stride, int per_class) noexcept nogil:
    cdef Output *out = &j.outputs[j.n_outputs]
    j.n_outputs += 1
    native(&out.op, data, j.dtype, row_stride, j.width)
    out.wanted = data != NULL
    out.per_class = per_class
    out.program = find_program(j.rows, loss, name)
    out.when_lost = NAN
    return out


cdef double logsumexp_of(int dtype, const void *x, ptrdiff_t classes) noexcept nogil:
    cdef Job j
    cdef lf_total totals[3]
    cdef double y = NAN
    memset(&j, 0, sizeof(Job))
    set_up(&j, dtype, classes)
    contiguous(&j, x, NULL, 1)
    native(&add_native(&j, "logsumexp", "lse", &y, 0, 0).op, &y, 64, 0, 0)
    do_rows(&j, 0, 1, totals)
    return y


cdef api double logsumexp_float64(const double *x, ptrdiff_t classes) noexcept nogil:
    return logsumexp_of(64, x, classes)


cdef api double logsumexp_float32(const float *x, ptrdiff_t classes) noexcept nogil:
    return logsumexp_of(32, x, classes)


cdef double cross_entropy_of(int dtype, const void *logits, const int64_t *labels, ptrdiff_t rows, ptrdiff_t classes,
                             double scale, void *loss, void *grad) noexcept nogil:
    cdef Job j
    cdef lf_total totals[3]
    memset(&j, 0, sizeof(Job))
    set_up(&j, dtype, classes)
    contiguous(&j, logits, labels, rows)
    j.options.scale = scale
    add_native(&j, "cross_entropy", "loss", loss, j.width, 0).is_loss = 1
    if grad != NULL:
        add_native(&j, "cross_entropy", "grad", grad, classes * j.width, 1)
    if do_rows(&j, 0, rows, totals):
        return NAN
    return ldexp(totals[0].hi * scale, totals[0].exponent)


cdef api double cross_entropy_float64(const double *logits, const int64_t *labels, ptrdiff_t rows, ptrdiff_t classes,
                                      double scale, double *loss, double *grad) noexcept nogil:
    return cross_entropy_of(64, logits, labels, rows, classes, scale, loss, grad)


cdef api double cross_entropy_float32(const float *logits, const int64_t *labels, ptrdiff_t rows, ptrdiff_t classes,
                                      double scale, float *loss, float *grad) noexcept nogil:
    return cross_entropy_of(32, logits, labels, rows, classes, scale, loss, grad)
