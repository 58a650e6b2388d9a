# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Pointwise losses: walk the elements in blocks, apply masks, keep the sums in a fixed order."""

from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from libc.math cimport ldexp
from libc.string cimport memcpy, memset

cimport numpy as cnp
from lossfast.kernels.buffers cimport *
from lossfast.kernels.tasks cimport PointwiseTask

cnp.import_array()


def names() -> list:
    """The losses that have kernels."""
    cdef int i = 0
    found = []
    while pointwise_name(i) != NULL:
        found.append(pointwise_name(i).decode())
        i += 1
    return found


def words() -> list:
    """The functions of the vocabulary that `apply_word` knows."""
    cdef const lf_word *word = current_table(64).words
    found = []
    while word.name != NULL:
        found.append(word.name.decode())
        word += 1
    return found


def apply_word(str name, x):
    """A function of the kernels' vocabulary, ``exp`` for one, of every element: an array of x's dtype, float32 or float64."""
    cdef cnp.ndarray given, result
    cdef const lf_word *word
    if x.dtype not in ("float32", "float64"):
        raise TypeError(f"x must be float32 or float64, got {x.dtype}")
    given = cnp.PyArray_GETCONTIGUOUS(x)
    result = cnp.PyArray_EMPTY(cnp.PyArray_NDIM(given), cnp.PyArray_DIMS(given), cnp.PyArray_TYPE(given), 0)
    cdef ptrdiff_t which = words().index(name)
    word = &current_table(32 if given.itemsize == 4 else 64).words[which]
    cdef ptrdiff_t n = given.size
    cdef uint64_t state
    with nogil:
        state = lf_fp_set()
        word.apply(cnp.PyArray_DATA(given), cnp.PyArray_DATA(result), n)
        lf_fp_restore(state)
    return result


cdef dict _index = {name: i for i, name in enumerate(names())}


cdef int find(str name) except -1:
    if name not in _index:
        raise NotImplementedError(f"{name} has no compiled kernel: it is missing from kernels/pointwise.h")
    return _index[name]


cdef enum:
    X, TARGET, EXTRA, WEIGHT, WHERE, DIRECTION, VALUE, GRAD, HESS, GRAD_SECOND, HESS_SECOND, OPERANDS


# The element-wise parameter of a loss that is given none
cdef float _ones32[2048]
cdef double _ones64[2048]
for _one in range(2048):
    _ones32[_one] = _ones64[_one] = 1


cdef const void *ones_of(int dtype) noexcept nogil:
    return <const void *>_ones32 if dtype == 32 else <const void *>_ones64


cdef inline bint is_number(double x) noexcept nogil:
    return x - x == 0


cdef void mend(float *result, const double *wide, const char *fair, ptrdiff_t n) noexcept nogil:
    """What is not finite, of numbers that are, as doubles have it."""
    cdef ptrdiff_t i
    for i in range(n):
        if fair[i] and not is_number(result[i]):
            result[i] = <float>wide[i]


cdef void run_wide(int which, const lf_block *k, int want, lf_total *total) noexcept nogil:
    """Of a block of floats, what they cannot hold before it has been weighed and scaled: by way of doubles."""
    cdef const lf_pointwise_function *kernels = current_table(32).pointwise
    cdef float single[2048]    # losses, before they are weighed
    cdef double inputs[3][256]
    cdef double results[5][256]
    cdef char fair[256]        # whether an element is given by finite numbers
    cdef const float *given[3]
    cdef float *outputs[5]
    cdef lf_block part = k[0]
    cdef ptrdiff_t at = 0, n, i, j
    cdef double w, v
    cdef int needed, summed = want & LF_SUM and not is_number(k.sum[0])
    if summed:
        part.w = NULL
        part.value, part.grad, part.hess, part.grad_second, part.hess_second = single, NULL, NULL, NULL, NULL
        kernels[which](&part, LF_VALUE)
    given[0], given[1], given[2] = <const float *>k.x, <const float *>k.t, <const float *>k.q
    outputs[0], outputs[1], outputs[2] = <float *>k.value, <float *>k.grad, <float *>k.hess
    outputs[3], outputs[4] = <float *>k.grad_second, <float *>k.hess_second
    want = want & (LF_GRAD | LF_HESS) | LF_VALUE
    part.x, part.t, part.q = &inputs[0][0], &inputs[1][0], &inputs[2][0]
    part.value, part.grad, part.hess = &results[0][0], &results[1][0], &results[2][0]
    part.grad_second = &results[3][0] if outputs[3] != NULL else NULL
    part.hess_second = &results[4][0] if outputs[4] != NULL else NULL
    while at < k.n:
        n = part.n = k.n - at if k.n - at < 256 else 256
        part.w = k.w + at if k.w != NULL else NULL
        memset(fair, 1, n)
        for j in range(3):
            for i in range(n):
                inputs[j][i] = given[j][at + i]
                fair[i] &= is_number(inputs[j][i])
        needed = 0
        for i in range(n):
            if summed and fair[i] and not is_number(single[at + i]):
                needed = 1
        for j in range(5):
            if outputs[j] != NULL:
                for i in range(n):
                    if fair[i] and not is_number(outputs[j][at + i]):
                        needed = 1
        if needed:
            current_table(64).pointwise[which](&part, want)
        for j in range(5 if needed else 0):
            if outputs[j] != NULL:
                mend(outputs[j] + at, results[j], fair, n)
        if summed:
            for i in range(n):
                w = part.w[i] if part.w != NULL else 1
                v = single[at + i]
                if w != 0:
                    total_add(total, results[0][i] if fair[i] and not is_number(v) else v * w, 0)
        at += n


cdef void run_block(int which, lf_block *k, int want, int dtype, lf_total *total) noexcept nogil:
    """A block, and its sum added to the total: by single losses where a float, or their sum a double, cannot hold it."""
    cdef lf_pointwise_function kernel = current_table(dtype).pointwise[which]
    cdef double values[2048]
    cdef double x[2048]
    cdef lf_block again
    cdef ptrdiff_t i
    if k.grad == k.x:  # what is done once more outlives the gradient
        k.x = memcpy(x, k.x, k.n * (dtype // 8))
    kernel(k, want)
    if dtype == 32 and k.odd:
        run_wide(which, k, want, total)
    if not want & LF_SUM:
        return
    if is_number(k.sum[0]):
        total_add(total, k.sum[0], k.sum[1])
        return
    if dtype == 32:  # added already
        return
    again = k[0]
    again.value = values
    again.grad = again.hess = again.grad_second = again.hess_second = NULL
    kernel(&again, LF_VALUE)
    for i in range(k.n):
        total_add(total, values[i], 0)


cdef void keep_live(double *to, const double *weights, const double *mask, ptrdiff_t n) noexcept nogil:
    """The weights, with 0 where the mask has it."""
    cdef ptrdiff_t i
    cdef double w
    for i in range(n):
        w = weights[i]  # read before the choice, which so takes no jump
        to[i] = w if mask[i] != 0 else 0


cdef extern from "Python.h":
    ctypedef struct PyThreadState
    PyThreadState *PyEval_SaveThread()
    void PyEval_RestoreThread(PyThreadState *)


cdef class Pointwise:
    """A job made ready. Called with (start, stop) it does those elements and returns their (weighted) sum as (hi, lo, exponent)."""

    cdef readonly ptrdiff_t size
    cdef Geometry geometry
    cdef Operand ops[11]
    cdef bint has[11]
    cdef int dtype, want, which
    cdef double params[4]
    cdef double scale
    cdef object kept

    def __init__(self, job):
        cdef PointwiseTask task
        cdef Operand operands[11]
        cdef Operand *free = operands
        cdef int i
        read_job(&task, &free, job)
        task.which = find(job.loss)
        task.target = described(&free, job.target, False)
        task.extra = described(&free, job.extra, False)
        task.direction = described(&free, job.v, False)
        task.value = described(&free, job.value, False)
        task.grad = described(&free, job.grad, False)
        task.hess = described(&free, job.hess, False)
        task.grad_second = described(&free, job.grad_second, False)
        task.hess_second = described(&free, job.hess_second, False)
        task.total = len(job.totals)
        task.scale = job.scale
        for i, p in enumerate(job.params):
            task.params[i] = p
        self.kept = job
        self.prepare(&task)

    cdef void prepare(self, const PointwiseTask *task) noexcept:
        cdef const Operand *given[11]
        cdef Operand *used[11]
        cdef int i, count = 0
        given[X], given[TARGET], given[EXTRA], given[DIRECTION] = task.x, task.target, task.extra, task.direction
        given[WEIGHT], given[WHERE] = task.sample_weight, task.where
        given[VALUE], given[GRAD], given[HESS] = task.value, task.grad, task.hess
        given[GRAD_SECOND], given[HESS_SECOND] = task.grad_second, task.hess_second
        self.dtype = task.dtype
        self.which = task.which
        self.scale = task.scale
        memcpy(self.params, task.params, sizeof(self.params))
        put_geometry(&self.geometry, &task.shape)
        for i in range(OPERANDS):
            self.has[i] = enlist(&self.ops[i], given[i], task.shape.ndim, used, &count)
        if not task.total:
            sort_axes(&self.geometry, used, count)
        join_axes(&self.geometry, used, count)
        self.size = self.geometry.size
        self.want = (LF_SUM if task.total else 0) | (LF_VALUE if self.has[VALUE] else 0)
        self.want |= (LF_GRAD if self.has[GRAD] else 0) | (LF_HESS if self.has[HESS] else 0)

    def __call__(self, ptrdiff_t start, ptrdiff_t stop):
        cdef lf_total total
        cdef int failed
        with nogil:
            failed = self.run(start, stop, &total)
        if failed:
            raise MemoryError("no memory for a block of work")
        return total.hi, total.lo, total.exponent

    cdef bint lies_ready(self, int i) noexcept nogil:
        """Whether the kernel takes every block of an operand from where it lies."""
        return (self.geometry.ndim == 1 and self.ops[i].strides[0] == self.ops[i].itemsize and i != WHERE and i != DIRECTION
                and is_native(&self.ops[i], 64 if i == WEIGHT else self.dtype))

    cdef int run(self, ptrdiff_t start, ptrdiff_t stop, lf_total *total) noexcept nogil:
        cdef ptrdiff_t at, n, i, used = 0
        cdef char *scratch = NULL
        cdef char *place_of[11]
        cdef double *w
        cdef const double *v
        cdef lf_block k
        cdef uint64_t state
        total.hi = total.lo = total.exponent = 0
        for i in range(OPERANDS):
            place_of[i] = NULL
            if self.has[i] and not self.lies_ready(i):
                used += 1
        if used:
            scratch = <char *>malloc(used * LF_BLOCK * sizeof(double))
            if scratch == NULL:
                return -1
            for i in range(OPERANDS):
                if self.has[i] and not self.lies_ready(i):
                    used -= 1
                    place_of[i] = scratch + used * LF_BLOCK * <ptrdiff_t>sizeof(double)
        state = lf_fp_set()
        k.scale = self.scale
        memcpy(k.params, self.params, sizeof(k.params))
        at = start
        while at < stop:
            n = stop - at if stop - at < LF_BLOCK else LF_BLOCK
            k.n = n
            k.x = bring(place_of[X], self.dtype, &self.geometry, &self.ops[X], at, n)
            k.t = k.x
            if self.has[TARGET]:
                k.t = bring(place_of[TARGET], self.dtype, &self.geometry, &self.ops[TARGET], at, n)
            k.q = ones_of(self.dtype)
            if self.has[EXTRA]:
                k.q = bring(place_of[EXTRA], self.dtype, &self.geometry, &self.ops[EXTRA], at, n)
            k.w = NULL
            if self.has[WEIGHT]:
                k.w = <double *>bring(place_of[WEIGHT], 64, &self.geometry, &self.ops[WEIGHT], at, n)
            if self.has[WHERE]:
                w = <double *>bring(place_of[WHERE], 64, &self.geometry, &self.ops[WHERE], at, n)
                if k.w != NULL:
                    keep_live(w, k.w, w, n)
                k.w = w
            if self.has[DIRECTION]:
                v = <const double *>bring(place_of[DIRECTION], 64, &self.geometry, &self.ops[DIRECTION], at, n)
                w = <double *>(place_of[DIRECTION])
                for i in range(n):
                    w[i] = v[i] if k.w == NULL else v[i] * k.w[i] if k.w[i] != 0 else 0
                k.w = w
            k.value = k.grad = k.hess = k.grad_second = k.hess_second = NULL
            if self.has[VALUE]:
                k.value = place(place_of[VALUE], self.dtype, &self.geometry, &self.ops[VALUE], at, n)
            if self.has[GRAD]:
                k.grad = place(place_of[GRAD], self.dtype, &self.geometry, &self.ops[GRAD], at, n)
            if self.has[HESS]:
                k.hess = place(place_of[HESS], self.dtype, &self.geometry, &self.ops[HESS], at, n)
            if self.has[GRAD_SECOND]:
                k.grad_second = place(place_of[GRAD_SECOND], self.dtype, &self.geometry, &self.ops[GRAD_SECOND], at, n)
            if self.has[HESS_SECOND]:
                k.hess_second = place(place_of[HESS_SECOND], self.dtype, &self.geometry, &self.ops[HESS_SECOND], at, n)
            run_block(self.which, &k, self.want, self.dtype, total)
            if self.has[VALUE]:
                put(k.value, self.dtype, &self.geometry, &self.ops[VALUE], at, n)
            if self.has[GRAD]:
                put(k.grad, self.dtype, &self.geometry, &self.ops[GRAD], at, n)
            if self.has[HESS]:
                put(k.hess, self.dtype, &self.geometry, &self.ops[HESS], at, n)
            if self.has[GRAD_SECOND]:
                put(k.grad_second, self.dtype, &self.geometry, &self.ops[GRAD_SECOND], at, n)
            if self.has[HESS_SECOND]:
                put(k.hess_second, self.dtype, &self.geometry, &self.ops[HESS_SECOND], at, n)
            at += n
        lf_fp_restore(state)
        free(scratch)
        return 0


# One that no call is using: most calls are over before another begins.
cdef Pointwise _spare = None


cdef int run_pointwise(void *task, bint release) except -1:
    global _spare
    cdef Pointwise work = _spare if _spare is not None else Pointwise.__new__(Pointwise)
    cdef PyThreadState *state = NULL
    cdef int failed
    _spare = None
    work.prepare(<PointwiseTask *>task)
    if release:
        state = PyEval_SaveThread()
    failed = work.run(0, work.size, &(<PointwiseTask *>task).sum)
    if release:
        PyEval_RestoreThread(state)
    _spare = work
    if failed:
        raise MemoryError("no memory for a block of work")
    return 0


cdef int read_job(PointwiseTask *task, Operand **free, object job) except -1:
    """The shape of a `PointwiseJob`, and what weighs its elements."""
    cdef cnp.ndarray array = job.x
    cdef int i
    memset(task, 0, sizeof(PointwiseTask))
    task.shape.ndim = cnp.PyArray_NDIM(array)
    for i in range(task.shape.ndim):
        task.shape.shape[i] = cnp.PyArray_DIM(array, i)
    task.dtype = 32 if job.compute.itemsize == 4 else 64
    task.x = described(free, array, False)
    task.sample_weight = described(free, job.weight, False)
    task.where = described(free, job.where, False)
    return 0


# What the sum of a job's weights is made of.
cdef struct Weighing:
    Geometry geometry
    Operand weight, mask
    int has_weight, has_mask


cdef void make_weighing(Weighing *g, const PointwiseTask *task) noexcept nogil:
    cdef Operand *used[2]
    cdef int count = 0
    put_geometry(&g.geometry, &task.shape)
    g.has_weight = enlist(&g.weight, task.sample_weight, task.shape.ndim, used, &count)
    g.has_mask = enlist(&g.mask, task.where, task.shape.ndim, used, &count)
    join_axes(&g.geometry, used, count)


cdef ptrdiff_t weigh(const Weighing *g, ptrdiff_t start, ptrdiff_t stop, lf_total *total) noexcept nogil:
    cdef double weights[1024]
    cdef double masks[1024]
    cdef const double *w
    cdef const double *m
    cdef const lf_table *table = current_table(64)
    cdef lf_running sum
    cdef ptrdiff_t at = start, n, i, live, count = 0
    cdef uint64_t state = lf_fp_set()
    memset(&sum, 0, sizeof(sum))
    while at < stop:
        live = n = stop - at if stop - at < 1024 else 1024
        if g.has_mask:
            m = <const double *>bring(masks, 64, &g.geometry, &g.mask, at, n)
            live = 0
            for i in range(n):
                live += m[i] != 0
        if g.has_weight and live:
            w = <const double *>bring(weights, 64, &g.geometry, &g.weight, at, n)
            if live < n:
                keep_live(weights, w, m, n)
                w = weights
            table.add_batch(&sum, w, <int>n)
        count += live
        at += n
    if g.has_weight:
        table.end_sum(&sum)
        total[0] = sum.total
    else:
        total.hi, total.lo, total.exponent = <double>count, 0, 0
    lf_fp_restore(state)
    return count


cdef void weigh_pointwise(void *task) noexcept nogil:
    cdef PointwiseTask *t = <PointwiseTask *>task
    cdef Weighing g
    make_weighing(&g, t)
    t.count = weigh(&g, 0, g.geometry.size, &t.weight)


cdef class PointwiseWeights:
    """The sum of the weights of the elements that are not masked, and how many they are, over (start, stop)."""

    cdef readonly ptrdiff_t size
    cdef Weighing weighing
    cdef object kept

    def __init__(self, job):
        cdef PointwiseTask task
        cdef Operand operands[3]
        cdef Operand *free = operands
        read_job(&task, &free, job)
        make_weighing(&self.weighing, &task)
        self.kept = job
        self.size = self.weighing.geometry.size

    def __call__(self, ptrdiff_t start, ptrdiff_t stop):
        cdef lf_total total
        cdef ptrdiff_t count
        with nogil:
            count = weigh(&self.weighing, start, stop, &total)
        return (total.hi, total.lo, total.exponent), count


# ---- for other nogil code ----

cdef api double pointwise_loss_float64(int which, const double *x, const double *t, const double *w, double *value, double *grad,
                                       double *hess, const double *params, double scale, ptrdiff_t n) noexcept nogil:
    return contiguous(64, which, <const char *>x, <const char *>t, w, <char *>value, <char *>grad, <char *>hess, params, scale, n)


cdef api double pointwise_loss_float32(int which, const float *x, const float *t, const double *w, float *value, float *grad,
                                       float *hess, const double *params, double scale, ptrdiff_t n) noexcept nogil:
    return contiguous(32, which, <const char *>x, <const char *>t, w, <char *>value, <char *>grad, <char *>hess, params, scale, n)


cdef double contiguous(int dtype, int which, const char *x, const char *t, const double *w, char *value, char *grad, char *hess,
                       const double *params, double scale, ptrdiff_t n) noexcept nogil:
    cdef lf_total total
    cdef lf_block k
    cdef ptrdiff_t at = 0, i, size = dtype // 8
    cdef uint64_t state = lf_fp_set()
    cdef int want = LF_SUM | (LF_VALUE if value != NULL else 0) | (LF_GRAD if grad != NULL else 0) | (LF_HESS if hess != NULL else 0)
    total.hi = total.lo = total.exponent = 0
    k.grad_second = k.hess_second = NULL
    k.scale = scale
    for i in range(LF_MAX_PARAMS):
        k.params[i] = params[i] if params != NULL else 0
    while at < n:
        k.n = n - at if n - at < LF_BLOCK else LF_BLOCK
        k.x = x + at * size
        k.t = t + at * size if t != NULL else k.x
        k.q = ones_of(dtype)
        k.w = w + at if w != NULL else NULL
        k.value = value + at * size if value != NULL else NULL
        k.grad = grad + at * size if grad != NULL else NULL
        k.hess = hess + at * size if hess != NULL else NULL
        run_block(which, &k, want, dtype, &total)
        at += k.n
    lf_fp_restore(state)
    return ldexp(total.hi, total.exponent)
