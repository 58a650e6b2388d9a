# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Calls as most of them are, from arguments to results in one go.

A call goes through here first. What is understood are plain arrays of floats, with few enough elements for one thread and
options of the plainest types. All else, and every error, is declined before anything has been written: None is returned,
and the general way (`lossfast._arguments`) has its say. So no rule about errors stands here a second time, and what is
done here has the same bits there.
"""

from cpython.bool cimport PyBool_Check
from cpython.float cimport PyFloat_CheckExact
from cpython.long cimport PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_CheckExact
from libc.math cimport NAN, fabs, fma, isfinite, ldexp
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

cimport numpy as cnp

from lossfast._arguments import DIRECTED, OUTPUT_DTYPES, REDUCED
from lossfast._jobs import ENTRY_OUTPUTS
from lossfast._reduction import Sum
from lossfast.kernels.rowwise import OF_TEMPERATURE
from lossfast.kernels.buffers cimport *
from lossfast.kernels.pointwise cimport find, run_pointwise, weigh_pointwise
from lossfast.kernels.rowwise cimport plan_rows, run_rows, weigh_rows
from lossfast.kernels.tasks cimport PointwiseTask, RowTask

cnp.import_array()


cdef extern from "Python.h":
    long long PyLong_AsLongLongAndOverflow(object, int *overflow) except? -1


cdef enum:
    # Work on fewer elements than this is over before another thread could make use of the GIL.
    RELEASED = 4096
    MOST_AXES = 64
    MOST_OUTPUTS = 24
    MOST_PARAMETERS = 4
    # Class weights that are not contiguous doubles are converted on the stack, up to this many.
    MOST_CONVERTED = 256

cdef enum:
    NONE, SUM, MEAN, BATCHMEAN

# A value of `check` beside 0 and 1.
cdef enum:
    DISTRIBUTION = 2

# What options are called here; parameters follow.
cdef enum:
    OPTION_EMPTY, OPTION_N_THREADS, OPTION_REDUCTION, OPTION_DENOMINATOR, OPTION_CHECK, OPTION_AXIS, OPTION_KEEPDIMS
    OPTION_IGNORE_INDEX, OPTION_SAMPLE_WEIGHT, OPTION_CLASS_WEIGHT, OPTION_WHERE, OPTION_EXTRA, OPTION_PARAMETER

cdef dict _options = {
    "empty": OPTION_EMPTY, "n_threads": OPTION_N_THREADS, "reduction": OPTION_REDUCTION, "denominator": OPTION_DENOMINATOR,
    "check": OPTION_CHECK, "axis": OPTION_AXIS, "keepdims": OPTION_KEEPDIMS, "ignore_index": OPTION_IGNORE_INDEX,
    "sample_weight": OPTION_SAMPLE_WEIGHT, "class_weight": OPTION_CLASS_WEIGHT, "where": OPTION_WHERE,
}
cdef dict _reductions = {"none": NONE, "sum": SUM, "mean": MEAN, "batchmean": BATCHMEAN}
cdef tuple _loss = ("loss",)
cdef tuple _empties = ("nan", "zero", "raise")

# The options of one call.
cdef struct Options:
    int reduction
    int has_denominator
    double denominator
    int check
    int axis
    int keepdims
    int has_ignore
    int64_t ignore
    PyObject *sample_weight   # NULL for None
    PyObject *class_weight
    PyObject *where
    PyObject *extra
    double parameters[MOST_PARAMETERS]

# An array as it was given: all its axes.
cdef struct Shape:
    int ndim
    const cnp.npy_intp *lengths
    int axis               # that of the classes, or -1


# ---- arrays ----

cdef cnp.dtype _float16 = cnp.PyArray_DescrFromType(cnp.NPY_FLOAT16)
cdef cnp.dtype _float32 = cnp.PyArray_DescrFromType(cnp.NPY_FLOAT32)
cdef cnp.dtype _float64 = cnp.PyArray_DescrFromType(cnp.NPY_FLOAT64)


cdef inline bint is_float_array(object x) noexcept:
    """A plain array of native floats; of a dtype without further particulars, since results have the same."""
    if not cnp.PyArray_CheckExact(x):
        return False
    cdef PyObject *dtype = <PyObject *>cnp.PyArray_DESCR(<cnp.ndarray>x)
    return dtype == <PyObject *>_float32 or dtype == <PyObject *>_float64 or dtype == <PyObject *>_float16


ctypedef fused element:
    float
    double
    int64_t

# The domains of elements, by the text that declares them (`lossfast._loss.ELEMENTS`); there is none for 0, and calls with
# others are declined.
cdef dict _domains = {"-1 or 1": 1, "0 or 1": 2, "in [0, 1]": 3, ">= 0": 4, "> 0": 5, "not 0": 6, "> -1": 7}


cdef bint all_inside(const element *a, ptrdiff_t n, int domain) noexcept nogil:
    """Whether none is outside; NaN is not looked at."""
    cdef ptrdiff_t i
    cdef int outside = 0
    if domain == 1:
        for i in range(n):
            outside |= (a[i] == a[i]) & (a[i] != 1) & (a[i] != -1)
    elif domain == 2:
        for i in range(n):
            outside |= (a[i] == a[i]) & (a[i] != 0) & (a[i] != 1)
    elif domain == 3:
        for i in range(n):
            outside |= (a[i] < 0) | (a[i] > 1)
    elif domain == 4:
        for i in range(n):
            outside |= a[i] < 0
    elif domain == 5:
        for i in range(n):
            outside |= a[i] <= 0
    elif domain == 6:
        for i in range(n):
            outside |= a[i] == 0
    elif domain == 7:
        for i in range(n):
            outside |= a[i] <= -1
    return not outside


cdef bint is_inside(object given, int domain):
    """Whether all elements are known to be in the domain; if not, the general way finds out and says which are not."""
    if domain == 0:
        return True
    if not is_plain(given) or not cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>given):
        return False
    cdef ptrdiff_t n = cnp.PyArray_SIZE(<cnp.ndarray>given)
    cdef void *data = cnp.PyArray_DATA(<cnp.ndarray>given)
    cdef int kind = cnp.PyArray_TYPE(<cnp.ndarray>given)
    if kind == cnp.NPY_FLOAT32:
        return all_inside(<const float *>data, n, domain)
    if kind == cnp.NPY_FLOAT64:
        return all_inside(<const double *>data, n, domain)
    return kind == cnp.NPY_INT64 and all_inside(<const int64_t *>data, n, domain)


cdef inline bint is_plain(object array) noexcept:
    """A plain array of a dtype that the kernels read."""
    return cnp.PyArray_CheckExact(array) and type_of_number(cnp.PyArray_TYPE(<cnp.ndarray>array)) >= 0


cdef inline bint is_floating(cnp.ndarray array) noexcept:
    return cnp.PyArray_TYPE(array) in (cnp.NPY_FLOAT16, cnp.NPY_FLOAT32, cnp.NPY_FLOAT64)


cdef inline bint is_mask(object array) noexcept:
    return cnp.PyArray_CheckExact(array) and cnp.PyArray_TYPE(<cnp.ndarray>array) == cnp.NPY_BOOL


cdef inline void begin(Operand *op, cnp.ndarray array) noexcept:
    op.data = cnp.PyArray_BYTES(array)
    op.type = type_of_number(cnp.PyArray_TYPE(array))
    op.swapped = not cnp.PyArray_ISNOTSWAPPED(array)
    op.itemsize = cnp.PyArray_ITEMSIZE(array)
    op.stride = 0


cdef bint lay(Operand *op, cnp.ndarray array, const Shape *shape) noexcept:
    """An array of that very shape, as an operand; False if it has another."""
    cdef int i, k = 0
    cdef cnp.npy_intp *strides = cnp.PyArray_STRIDES(array)
    if cnp.PyArray_NDIM(array) != shape.ndim:
        return False
    begin(op, array)
    for i in range(shape.ndim):
        if cnp.PyArray_DIM(array, i) != shape.lengths[i]:
            return False
        if i == shape.axis:
            op.stride = strides[i]
        else:
            op.strides[k] = strides[i]
            k += 1
    return True


cdef bint lay_rows(Operand *op, cnp.ndarray array, const Shape *shape, bint keep) noexcept:
    """The same for one without the class axis; or, to be kept, with that of length 1."""
    cdef int i, k = 0
    if cnp.PyArray_NDIM(array) != shape.ndim - (not keep):
        return False
    begin(op, array)
    for i in range(shape.ndim):
        if i == shape.axis:
            if keep and cnp.PyArray_DIM(array, i) != 1:
                return False
            continue
        if cnp.PyArray_DIM(array, i if keep else k) != shape.lengths[i]:
            return False
        op.strides[k] = cnp.PyArray_STRIDE(array, i if keep else k)
        k += 1
    return True


cdef bint spread(Operand *op, cnp.ndarray array, const Shape *shape) noexcept:
    """One that broadcasts to that shape."""
    cdef int i, k = 0, at, missing = shape.ndim - cnp.PyArray_NDIM(array)
    cdef ptrdiff_t stride
    if missing < 0:
        return False
    begin(op, array)
    for i in range(shape.ndim):
        at = i - missing
        if at < 0 or cnp.PyArray_DIM(array, at) == 1:
            stride = 0
        elif cnp.PyArray_DIM(array, at) != shape.lengths[i]:
            return False
        else:
            stride = cnp.PyArray_STRIDE(array, at)
        if i == shape.axis:
            op.stride = stride
        else:
            op.strides[k] = stride
            k += 1
    return True


cdef bint lay_first(Operand *op, cnp.ndarray array, const Shape *shape) noexcept:
    """One with a number for each entry of the first axis."""
    if cnp.PyArray_NDIM(array) != 1 or shape.ndim == 0 or cnp.PyArray_DIM(array, 0) != shape.lengths[0]:
        return False
    begin(op, array)
    memset(op.strides, 0, shape.ndim * sizeof(ptrdiff_t))
    op.strides[0] = cnp.PyArray_STRIDE(array, 0)
    return True


cdef bint lay_last(Operand *op, cnp.ndarray array, const Shape *shape) noexcept:
    """One with a number for each entry of the last axis, or a single one."""
    cdef int ndim = cnp.PyArray_NDIM(array)
    if ndim > 1 or (ndim == 1 and (shape.ndim == 0 or cnp.PyArray_DIM(array, 0) != shape.lengths[shape.ndim - 1])):
        return False
    return spread(op, array, shape)


cdef bint lay_scalar(Operand *op, double *place, object number) except -1:
    """A Python number that a double holds, put into `place`, as an operand of any shape."""
    cdef int overflow = 0
    cdef long long integer
    if PyFloat_CheckExact(number):
        place[0] = <double>number
    elif PyLong_CheckExact(number):
        integer = PyLong_AsLongLongAndOverflow(number, &overflow)
        if overflow or not -2**53 <= integer <= 2**53:
            return False
        place[0] = <double>integer
    else:
        return False
    native(op, place, 64, 0, 0)
    return True


cdef void extent(cnp.ndarray array, uint64_t *first, uint64_t *end) noexcept:
    """The addresses that an array with elements lies within."""
    cdef int i
    cdef ptrdiff_t reach
    first[0] = <uint64_t>cnp.PyArray_BYTES(array)
    end[0] = first[0] + cnp.PyArray_ITEMSIZE(array)
    for i in range(cnp.PyArray_NDIM(array)):
        reach = (cnp.PyArray_DIM(array, i) - 1) * cnp.PyArray_STRIDE(array, i)
        if reach > 0:
            end[0] += reach
        else:
            first[0] += reach


cdef bint same_memory(cnp.ndarray a, cnp.ndarray b) noexcept:
    """Entry for entry, both of one shape."""
    cdef int i
    if cnp.PyArray_BYTES(a) != cnp.PyArray_BYTES(b) or cnp.PyArray_DESCR(a) != cnp.PyArray_DESCR(b):
        return False
    for i in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_STRIDE(a, i) != cnp.PyArray_STRIDE(b, i):
            return False
    return True


# The arrays of one call that take part in the question of who shares memory with whom.
cdef struct Held:
    int n
    PyObject *arrays[MOST_OUTPUTS + 8]


cdef inline void hold(Held *held, object array) noexcept:
    held.arrays[held.n] = <PyObject *>array
    held.n += 1


cdef bint is_apart(Held *held, cnp.ndarray buffer, bint may_be_first) noexcept:
    """Whether a buffer shares memory with nothing held, but perhaps with the first, entry for entry; then it is held too."""
    cdef uint64_t first, end, other_first, other_end
    cdef int i
    extent(buffer, &first, &end)
    for i in range(held.n):
        extent(<cnp.ndarray>held.arrays[i], &other_first, &other_end)
        if first < other_end and other_first < end:
            if not (i == 0 and may_be_first and same_memory(buffer, <cnp.ndarray>held.arrays[0])):
                return False
    hold(held, buffer)
    return True


cdef inline bint is_buffer(object array, int number) noexcept:
    """A plain array that can be written to, of that dtype, or of any floating dtype if that is one."""
    if not cnp.PyArray_CheckExact(array) or not cnp.PyArray_ISWRITEABLE(<cnp.ndarray>array):
        return False
    if number in (cnp.NPY_FLOAT16, cnp.NPY_FLOAT32, cnp.NPY_FLOAT64):
        if not is_floating(<cnp.ndarray>array):
            return False
    elif cnp.PyArray_TYPE(<cnp.ndarray>array) != number or not cnp.PyArray_ISNOTSWAPPED(<cnp.ndarray>array):
        return False
    return is_nested(<cnp.ndarray>array, -1) or is_nested(<cnp.ndarray>array, 1)


cdef bint is_nested(cnp.ndarray array, int step) noexcept:
    """Every axis steps over all that lies within it, the last one being the innermost, or (step 1) the first: then no two
    entries share memory."""
    cdef int i, axis, ndim = cnp.PyArray_NDIM(array)
    cdef ptrdiff_t stride, reach = cnp.PyArray_ITEMSIZE(array)
    for i in range(ndim):
        axis = i if step > 0 else ndim - 1 - i
        stride = cnp.PyArray_STRIDE(array, axis)
        if stride < 0:
            stride = -stride
        if cnp.PyArray_DIM(array, axis) > 1:
            if stride < reach:
                return False
            reach += stride * (cnp.PyArray_DIM(array, axis) - 1)
    return True


# ---- sums ----

cdef object over(const lf_total *total, const lf_total *divisor):
    """`Sum.over`, whose own work it is wherever a product of heads could leave the range in which fma is exact."""
    cdef double quotient = total.hi / divisor.hi
    if total.lo != 0 or divisor.lo != 0:
        if not (1e-100 < fabs(total.hi) < 1e100 and 1e-100 < fabs(divisor.hi) < 1e100):
            return Sum(total.hi, total.lo, total.exponent).over(Sum(divisor.hi, divisor.lo, divisor.exponent))
        quotient += (-fma(quotient, divisor.hi, -total.hi) + (total.lo - quotient * divisor.lo)) / divisor.hi
    return rounded(quotient, total.exponent - divisor.exponent)


cdef inline double rounded(double value, int exponent) noexcept:
    return NAN if value != value else ldexp(value, exponent) if exponent else value


# ---- one object's calls ----

cdef class Wanted:
    """What is known of all calls of an object with the same outputs wanted."""

    cdef int n
    cdef tuple names
    cdef object plan                  # of rows
    cdef int reduced[MOST_OUTPUTS]    # becomes one number, unless the reduction is "none"
    cdef int per_entry[MOST_OUTPUTS]  # of the first argument's shape, not of the rows'
    cdef int number[MOST_OUTPUTS]     # NumPy's for the dtype; -1: the first argument's; -2: that of the arithmetic
    cdef int is_grad[MOST_OUTPUTS]
    cdef int is_loss[MOST_OUTPUTS]
    cdef int total[MOST_OUTPUTS]      # its place among a task's totals
    cdef int order[MOST_OUTPUTS]      # of the derivative, where elements stand alone
    cdef bint directed                # there is a direction
    cdef bint direction_a_row

    def __init__(self, loss, tuple names):
        cdef int i
        cdef bint rows = loss.kind in ("rowwise", "row_function")
        self.names, self.n = names, len(names)
        if rows:
            self.plan = plan_rows(loss.name, names)
        for i, name in enumerate(names):
            self.per_entry[i] = not rows or name in ENTRY_OUTPUTS
            self.number[i] = -2 if name == "loss" or not self.per_entry[i] else -1
            if name in OUTPUT_DTYPES:
                self.number[i] = (<cnp.dtype>OUTPUT_DTYPES[name]).type_num
            self.reduced[i] = name in REDUCED
            self.is_grad[i] = name == "grad"
            self.is_loss[i] = name == "loss"
            self.total[i] = OF_TEMPERATURE.get(name, 0)
            self.order[i] = 0 if name in ("loss", "value") else 1 if name in ("grad", "vjp", "jvp") else 2
        self.directed = not DIRECTED.isdisjoint(names)
        self.direction_a_row = loss.kind == "row_function" and loss.outputs[0] not in ENTRY_OUTPUTS and "vjp" in names


cdef class Entry:
    """The calls of one object, with what is bound to it."""

    cdef object loss
    cdef dict codes          # of its options
    cdef list rules          # of its parameters
    cdef list parameters     # their names
    cdef dict wanted         # by the names of outputs: what `Wanted` says
    cdef Wanted latest       # of them
    cdef Options bound
    cdef bint understood     # whether what is bound is
    cdef double accepted[MOST_PARAMETERS]   # the last value of each that its check has let pass
    cdef ptrdiff_t most      # elements in a call

    def __init__(self, loss, ptrdiff_t most):
        self.loss = loss
        self.most = most
        self.parameters = list(loss.parameters)
        self.codes = {name: code for name, code in _options.items() if name in loss._defaults}
        self.codes.update({name: OPTION_PARAMETER + i for i, name in enumerate(self.parameters)})
        if loss.extra is not None:
            self.codes[loss.extra] = OPTION_EXTRA
        self.rules = list(loss.parameters.values())
        self.wanted = {}
        memset(&self.bound, 0, sizeof(Options))
        memset(self.accepted, 0xff, sizeof(self.accepted))  # NaN: equal to nothing
        self.bound.axis = -1
        self.understood = len(self.parameters) <= MOST_PARAMETERS
        for name, value in loss._defaults.items():
            code = self.codes.get(name)
            self.understood = self.understood and (value is None if code is None else self.take(&self.bound, code, value))

    cdef bint take(self, Options *s, int code, object value) except -1:
        """One option; False if it is not understood. An error is the one that the general way raises."""
        cdef int i, overflow = 0
        cdef long long integer
        if code >= OPTION_PARAMETER:
            i = code - OPTION_PARAMETER
            if PyFloat_CheckExact(value) and <double>value == self.accepted[i]:
                s.parameters[i] = <double>value
                return True
            rule = self.rules[i]
            s.parameters[i] = rule.number(rule.check(self.parameters[i], value))
            if PyFloat_CheckExact(value) and s.parameters[i] == <double>value:
                self.accepted[i] = s.parameters[i]
        elif code == OPTION_SAMPLE_WEIGHT:
            s.sample_weight = NULL if value is None else <PyObject *>value
        elif code == OPTION_CLASS_WEIGHT:
            s.class_weight = NULL if value is None else <PyObject *>value
        elif code == OPTION_WHERE:
            s.where = NULL if value is None else <PyObject *>value
        elif code == OPTION_EXTRA:
            s.extra = NULL if value is None else <PyObject *>value
        elif code == OPTION_REDUCTION:
            found = _reductions.get(value) if PyUnicode_CheckExact(value) else None
            if found is None:
                return False
            s.reduction = found
        elif code == OPTION_N_THREADS:  # one thread does it all, whatever is asked for
            return value is None or PyLong_CheckExact(value)
        elif code == OPTION_EMPTY:  # where there is nothing to divide by, the call is declined
            return PyUnicode_CheckExact(value) and value in _empties
        elif code == OPTION_DENOMINATOR:
            s.has_denominator = value is not None
            if s.has_denominator:
                if not PyFloat_CheckExact(value) or not isfinite(<double>value):
                    return False
                s.denominator = <double>value
        elif code == OPTION_CHECK:
            if PyBool_Check(value):
                s.check = value is True
            elif PyUnicode_CheckExact(value) and value == "distribution":
                s.check = DISTRIBUTION
            else:
                return False
        elif code == OPTION_KEEPDIMS:
            s.keepdims = value is True
            return PyBool_Check(value)
        elif code == OPTION_IGNORE_INDEX and value is None:
            s.has_ignore = 0
        elif PyLong_CheckExact(value):
            integer = PyLong_AsLongLongAndOverflow(value, &overflow)
            if overflow:
                return False
            if code == OPTION_IGNORE_INDEX:
                s.has_ignore, s.ignore = 1, integer
            elif -MOST_AXES <= integer < MOST_AXES:
                s.axis = <int>integer
            else:
                return False
        else:
            return False
        return True

    cdef bint settle(self, Options *s, dict options, bint reducing) except -1:
        """All options of a call; False if one of them is not understood."""
        s[0] = self.bound
        if reducing:  # to what a mean is made of, whatever else is bound
            s.reduction = MEAN
        if not self.understood:
            return False
        if options:
            for name, value in options.items():
                code = self.codes.get(name)
                if code is None or not self.take(s, code, value):
                    return False
        return not s.has_denominator or s.reduction == MEAN

    cdef Wanted find_wanted(self, tuple names):
        if self.latest is not None and names is self.latest.names:
            return self.latest
        found = self.wanted.get(names)
        if found is None:
            found = self.wanted[names] = Wanted(self.loss, names)
        self.latest = <Wanted>found
        return self.latest


cdef bint check_buffers(Wanted wanted, const Options *s, dict buffers, Held *held):
    """Whether the caller's buffers, of whatever shape, are as they should be."""
    cdef int i, number
    for i in range(wanted.n):
        buffer = buffers.get(wanted.names[i])
        if buffer is None:
            continue
        number = wanted.number[i]
        if wanted.reduced[i] and s.reduction != NONE:
            return False
        if not is_buffer(buffer, cnp.NPY_FLOAT64 if number < 0 else number):
            return False
        if not is_apart(held, <cnp.ndarray>buffer, wanted.is_grad[i]):
            return False
    return True


cdef cnp.ndarray new_array(Wanted wanted, int i, const Options *s, const Shape *shape, int given):
    """Where an output goes, if the caller has nothing for it; the first argument's dtype is `given`."""
    cdef cnp.npy_intp lengths[MOST_AXES]
    cdef int axis, ndim = 0, number = wanted.number[i]
    if number == -1:
        number = given
    elif number == -2:
        number = cnp.NPY_FLOAT64 if given == cnp.NPY_FLOAT64 else cnp.NPY_FLOAT32
    for axis in range(shape.ndim):
        if wanted.per_entry[i] or axis != shape.axis or s.keepdims:
            lengths[ndim] = shape.lengths[axis] if wanted.per_entry[i] or axis != shape.axis else 1
            ndim += 1
    return cnp.PyArray_EMPTY(ndim, lengths, number, 0)


cdef bint provide(Wanted wanted, const Options *s, const Shape *shape, int given, dict buffers, Operand *operands,
                  const Operand **outputs, int *total, list arrays) except -1:
    """An array for every output that is not reduced; False if the caller's has another shape."""
    cdef int i
    cdef bint fits
    for i in range(wanted.n):
        total[i] = wanted.reduced[i] and s.reduction != NONE
        outputs[i] = NULL
        array = None
        if not total[i]:
            if buffers is not None:
                array = buffers.get(wanted.names[i])
            if array is None:
                array = new_array(wanted, i, s, shape, given)
            if wanted.per_entry[i]:
                fits = lay(&operands[i], <cnp.ndarray>array, shape)
            else:
                fits = lay_rows(&operands[i], <cnp.ndarray>array, shape, s.keepdims)
            if not fits:
                return False
            outputs[i] = &operands[i]
        arrays.append(array)
    return True


cdef tuple reduced(const lf_total *total, const lf_total *weight, ptrdiff_t count):
    """What a `Reduction` is made of."""
    return (total.hi, total.lo, total.exponent), (weight.hi, weight.lo, weight.exponent), count


cdef tuple results_of(Wanted wanted, dict buffers, list arrays, const lf_total *totals, const lf_total *denominator):
    """What the caller gets for each output."""
    cdef int i
    cdef list results = arrays
    for i in range(wanted.n):
        array = arrays[i]
        if array is None:
            if wanted.is_loss[i]:
                results[i] = over(totals, denominator)
            else:  # a derivative, scaled already, entry by entry
                results[i] = rounded(totals[wanted.total[i]].hi, totals[wanted.total[i]].exponent)
        elif cnp.PyArray_NDIM(<cnp.ndarray>array) == 0 and (buffers is None or buffers.get(wanted.names[i]) is None):
            results[i] = array[()]
    return tuple(results)


cdef bint divide_by(lf_total *denominator, const Options *s, ptrdiff_t batch) noexcept:
    """What the reduction divides by, where that is not the sum of the weights, which is there already; False if it is 0."""
    cdef double other = s.denominator if s.has_denominator else <double>batch
    if s.reduction != MEAN or s.has_denominator:
        denominator.hi, denominator.lo, denominator.exponent = other if s.reduction in (MEAN, BATCHMEAN) else 1, 0, 0
    return denominator.hi != 0


cdef class RowEntry(Entry):
    """The calls of a loss or function over a class axis."""

    cdef bint is_function, labelled, soft, entrywise
    cdef int label_smoothing, temperature, z_loss   # their places among the parameters; -1: it has none
    cdef int own[MOST_PARAMETERS]                   # the places of those that the loss alone has
    cdef int n_own

    def __init__(self, loss, ptrdiff_t most):
        Entry.__init__(self, loss, most)
        self.is_function = loss.kind == "row_function"
        self.labelled, self.soft, self.entrywise = loss.labelled, loss.soft, loss.entrywise
        self.label_smoothing, self.temperature, self.z_loss = (
            self.parameters.index(name) if name in self.parameters else -1 for name in ("label_smoothing", "temperature", "z_loss"))
        self.n_own = len(loss.own)
        for i in range(self.n_own):
            self.own[i] = self.parameters.index(loss.own[i])

    def run(self, tuple names, x, target, v, dict options, dict buffers, double ridge=0):
        """The results of these names; None if the call is declined."""
        return self.enter(names, x, target, v, options, buffers, False, ridge)

    def reduce(self, x, target, dict options):
        """The sum of the losses, that of the weights, and the count; None if the call is declined."""
        return self.enter(_loss, x, target, None, options, None, True, 0)

    cdef object enter(self, tuple names, object x, object target, object v, dict options, dict buffers, bint reducing, double ridge):
        cdef Options s
        cdef uint64_t state
        if not self.settle(&s, options, reducing) or not is_float_array(x):
            return None
        state = lf_fp_set()
        try:
            return self.work(self.find_wanted(names), &s, <cnp.ndarray>x, target, v, buffers, reducing, ridge)
        finally:
            lf_fp_restore(state)

    cdef object work(self, Wanted wanted, const Options *s, cnp.ndarray x, object target, object v, dict buffers, bint reducing,
                     double ridge):
        cdef Shape shape
        cdef Held held
        cdef RowTask task
        cdef ptrdiff_t size = cnp.PyArray_SIZE(x), rows = 1
        cdef Operand logits, compared, sample_weight, where, direction
        cdef Operand operands[MOST_OUTPUTS]
        cdef double class_weight[MOST_CONVERTED]
        cdef int i, k = 0
        cdef bint weighted = False
        if not 0 < size <= self.most:
            return None
        shape.ndim, shape.lengths = cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x)
        if not -shape.ndim <= s.axis < shape.ndim:
            return None
        shape.axis = s.axis if s.axis >= 0 else s.axis + shape.ndim
        memset(&task, 0, sizeof(RowTask))
        task.rows.ndim = shape.ndim - 1
        for i in range(shape.ndim):
            if i != shape.axis:
                task.rows.shape[k] = shape.lengths[i]
                rows *= shape.lengths[i]
                k += 1
        task.classes = shape.lengths[shape.axis]
        task.dtype = 64 if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT64 else 32
        lay(&logits, x, &shape)
        task.logits = &logits
        held.n = 0
        hold(&held, x)
        if not self.is_function:
            if not is_plain(target) or (self.entrywise and s.check == DISTRIBUTION):
                return None
            hold(&held, target)
            if is_floating(<cnp.ndarray>target):
                if not lay(&compared, <cnp.ndarray>target, &shape) or (self.labelled and (not self.soft or s.check == DISTRIBUTION)):
                    return None
                if self.labelled or self.entrywise:
                    task.target = &compared
                else:
                    task.other = &compared
            else:
                if not self.labelled or not lay_rows(&compared, <cnp.ndarray>target, &shape, False):
                    return None
                task.labels = &compared
                task.has_ignore = s.has_ignore and (s.ignore >= 0 or (<cnp.ndarray>target).descr.kind != c"u")
                task.ignore = s.ignore
                weighted = s.has_ignore
        if s.class_weight != NULL:
            if not self.weigh_classes(<object>s.class_weight, &task, class_weight):
                return None
            hold(&held, <object>s.class_weight)
            if self.labelled:
                weighted = True
            else:
                task.entry_weight, task.class_weight = task.class_weight, NULL
        if s.sample_weight != NULL:
            if not is_plain(<object>s.sample_weight) or not lay_rows(&sample_weight, <cnp.ndarray>s.sample_weight, &shape, False):
                return None
            hold(&held, <object>s.sample_weight)
            task.sample_weight = &sample_weight
            weighted = True
        if s.where != NULL:
            if not is_mask(<object>s.where) or not spread(&where, <cnp.ndarray>s.where, &shape):
                return None
            hold(&held, <object>s.where)
            task.where = &where
            weighted = True
        if wanted.directed:
            if not is_plain(v):
                return None
            if wanted.direction_a_row:
                if not lay_rows(&direction, <cnp.ndarray>v, &shape, cnp.PyArray_NDIM(<cnp.ndarray>v) == shape.ndim):
                    return None
            elif not lay(&direction, <cnp.ndarray>v, &shape):
                return None
            hold(&held, v)
            task.direction = &direction
        if buffers is not None and not check_buffers(wanted, s, buffers, &held):
            return None
        task.weight.hi, task.count = <double>rows, rows
        if (task.labels != NULL and s.check) or (weighted and s.reduction == MEAN and (reducing or not s.has_denominator)):
            weigh_rows(&task)
            if task.bad_count and s.check:
                return None
        if not reducing and not divide_by(&task.weight, s, rows):
            return None
        arrays = []
        if not provide(wanted, s, &shape, cnp.PyArray_TYPE(x), buffers, operands, task.outputs, task.total, arrays):
            return None
        task.scale = 1 if reducing else rounded(1 / task.weight.hi, -task.weight.exponent)
        task.label_smoothing = s.parameters[self.label_smoothing] if self.label_smoothing >= 0 else 0
        task.temperature = s.parameters[self.temperature] if self.temperature >= 0 else 1
        task.z_loss = s.parameters[self.z_loss] if self.z_loss >= 0 else 0
        task.ridge = ridge
        for i in range(self.n_own):
            task.params[i] = s.parameters[self.own[i]]
        run_rows(wanted.plan, &task, size > RELEASED)
        if reducing:
            return reduced(&task.totals[0], &task.weight, task.count)
        return results_of(wanted, buffers, arrays, task.totals, &task.weight)

    cdef bint weigh_classes(self, object given, RowTask *task, double *converted):
        """The class weights as contiguous doubles: as they lie, or converted."""
        cdef Operand op
        if not is_plain(given) or cnp.PyArray_NDIM(<cnp.ndarray>given) != 1:
            return False
        if cnp.PyArray_DIM(<cnp.ndarray>given, 0) != task.classes:
            return False
        begin(&op, <cnp.ndarray>given)
        task.class_weight = converted
        if is_native(&op, 64) and cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>given):
            task.class_weight = <const double *>op.data
        elif task.classes <= MOST_CONVERTED:
            read(converted, 64, 1, &op, op.data, cnp.PyArray_STRIDE(<cnp.ndarray>given, 0), task.classes)
        else:
            return False
        return True


cdef class PointwiseEntry(Entry):
    """The calls of a loss or function of each element."""

    cdef bint is_function
    cdef int which
    cdef int of_pred, of_target   # the domains of their elements

    def __init__(self, loss, ptrdiff_t most):
        Entry.__init__(self, loss, most)
        self.is_function = loss.kind == "function"
        self.which = find(loss.name)
        domains = {name: _domains.get(domain) for name, domain in loss.domains.items()}
        self.understood = self.understood and set(domains) <= {"pred", "target"} and None not in domains.values()
        if self.understood:
            self.of_pred, self.of_target = domains.get("pred", 0), domains.get("target", 0)

    def run(self, tuple names, x, target, v, dict options, dict buffers):
        """The results of these names; None if the call is declined."""
        return self.enter(names, x, target, v, options, buffers, False)

    def reduce(self, x, target, dict options):
        """The sum of the losses, that of the weights, and the count; None if the call is declined."""
        return self.enter(_loss, x, target, None, options, None, True)

    cdef object enter(self, tuple names, object x, object target, object v, dict options, dict buffers, bint reducing):
        cdef Options s
        cdef uint64_t state
        if not self.settle(&s, options, reducing) or not is_float_array(x):
            return None
        state = lf_fp_set()
        try:
            return self.work(self.find_wanted(names), &s, <cnp.ndarray>x, target, v, buffers, reducing)
        finally:
            lf_fp_restore(state)

    cdef object work(self, Wanted wanted, const Options *s, cnp.ndarray x, object target, object v, dict buffers, bint reducing):
        cdef Shape shape
        cdef Held held
        cdef PointwiseTask task
        cdef ptrdiff_t size = cnp.PyArray_SIZE(x)
        cdef Operand first, second, extra, sample_weight, where, direction
        cdef Operand operands[MOST_OUTPUTS]
        cdef const Operand *outputs[MOST_OUTPUTS]
        cdef int totals[MOST_OUTPUTS]
        cdef double numbers[2]
        cdef int i
        if not 0 < size <= self.most:
            return None
        if s.check and not (is_inside(x, self.of_pred) and is_inside(target, self.of_target)):
            return None
        shape.ndim, shape.lengths, shape.axis = cnp.PyArray_NDIM(x), cnp.PyArray_DIMS(x), -1
        memset(&task, 0, sizeof(PointwiseTask))
        task.shape.ndim = shape.ndim
        for i in range(shape.ndim):
            task.shape.shape[i] = shape.lengths[i]
        task.which = self.which
        task.dtype = 64 if cnp.PyArray_TYPE(x) == cnp.NPY_FLOAT64 else 32
        lay(&first, x, &shape)
        task.x = &first
        held.n = 0
        hold(&held, x)
        if not self.is_function:
            if not lay_scalar(&second, &numbers[0], target):
                if not is_plain(target):
                    return None
                if not lay(&second, <cnp.ndarray>target, &shape) and (
                        cnp.PyArray_NDIM(<cnp.ndarray>target) or not spread(&second, <cnp.ndarray>target, &shape)):
                    return None
                hold(&held, target)
            task.target = &second
        if s.extra != NULL:
            if not lay_scalar(&extra, &numbers[1], <object>s.extra):
                if not is_plain(<object>s.extra) or not lay_last(&extra, <cnp.ndarray>s.extra, &shape):
                    return None
                hold(&held, <object>s.extra)
            task.extra = &extra
        if s.sample_weight != NULL:
            if not is_plain(<object>s.sample_weight) or not (
                    lay(&sample_weight, <cnp.ndarray>s.sample_weight, &shape)
                    or lay_first(&sample_weight, <cnp.ndarray>s.sample_weight, &shape)):
                return None
            hold(&held, <object>s.sample_weight)
            task.sample_weight = &sample_weight
        if s.where != NULL:
            if not is_mask(<object>s.where) or not spread(&where, <cnp.ndarray>s.where, &shape):
                return None
            hold(&held, <object>s.where)
            task.where = &where
        if wanted.directed:
            if not is_plain(v) or not lay(&direction, <cnp.ndarray>v, &shape):
                return None
            hold(&held, v)
            task.direction = &direction
        if buffers is not None and not check_buffers(wanted, s, buffers, &held):
            return None
        task.weight.hi, task.count = <double>size, size
        if (s.sample_weight != NULL or s.where != NULL) and s.reduction == MEAN and (reducing or not s.has_denominator):
            weigh_pointwise(&task)
        if not reducing and not divide_by(&task.weight, s, shape.lengths[0] if shape.ndim else 1):
            return None
        arrays = []
        if not provide(wanted, s, &shape, cnp.PyArray_TYPE(x), buffers, operands, outputs, totals, arrays):
            return None
        for i in range(wanted.n):
            if wanted.order[i] == 0:
                task.value, task.total = outputs[i], totals[i]
            elif wanted.order[i] == 1:
                task.grad = outputs[i]
            else:
                task.hess = outputs[i]
        task.scale = 1 if reducing else rounded(1 / task.weight.hi, -task.weight.exponent)
        for i in range(MOST_PARAMETERS):
            task.params[i] = s.parameters[i]
        run_pointwise(&task, size > RELEASED)
        if reducing:
            return reduced(&task.sum, &task.weight, task.count)
        return results_of(wanted, buffers, arrays, &task.sum, &task.weight)


def entry(loss, ptrdiff_t most):
    """What takes the calls of a loss or function with up to so many elements."""
    return (PointwiseEntry if loss.kind in ("pointwise", "function") else RowEntry)(loss, most)
