# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""From arrays to pointers: dtypes, strides, blocks; and which instruction set is in use."""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy, memset, strcmp

cimport numpy as cnp

cnp.import_array()


cdef extern from "convert.h" nogil:
    enum:
        LF_FLOAT16, LF_BFLOAT16, LF_FLOAT32, LF_FLOAT64, LF_BOOL
        LF_INT8, LF_INT16, LF_INT32, LF_INT64, LF_UINT8, LF_UINT16, LF_UINT32, LF_UINT64
    void lf_read(void *to, int dtype, ptrdiff_t step, const char *source, int type, int swapped, ptrdiff_t stride, ptrdiff_t n)
    void lf_read_labels(int64_t *to, const char *source, int type, int swapped, ptrdiff_t stride, ptrdiff_t n)
    void lf_read_tile(void *to, int dtype, char **rows, ptrdiff_t skip, int type, int swapped, ptrdiff_t stride, ptrdiff_t n)
    void lf_write_tile(char **rows, int count, int type, int swapped, ptrdiff_t stride, void *tile, int dtype, ptrdiff_t n)
    void lf_write(char *to, int type, int swapped, ptrdiff_t stride, const void *source, int dtype, ptrdiff_t step, ptrdiff_t n)


# ---- instruction sets ----

cdef int _isa = 0


cdef void use_best() noexcept nogil:
    global _isa
    cdef int i
    for i in range(lf_isa_count()):
        if lf_isa_runs(i):
            _isa = i


use_best()


def isas() -> tuple:
    """The instruction sets that were built and that this CPU runs, slowest first."""
    cdef int i
    return tuple([lf_isa_name(i).decode() for i in range(lf_isa_count()) if lf_isa_runs(i)])


def get_isa() -> str:
    """The instruction set in use."""
    return lf_isa_name(_isa).decode()


def set_isa(str name) -> None:
    """Use an instruction set, from the next call on, in the whole process."""
    global _isa
    cdef int i
    for i in range(lf_isa_count()):
        if lf_isa_name(i).decode() == name and lf_isa_runs(i):
            _isa = i
            return
    raise ValueError(f"instruction set {name!r} is not available here; available: {', '.join(isas())}")


cdef const lf_table *current_table(int dtype) noexcept nogil:
    return lf_get_table(_isa, dtype)


cdef const char *pointwise_name(int i) noexcept nogil:
    return lf_pointwise_names[i]


cdef int profile_number(const char *loss) noexcept nogil:
    cdef int i = 0
    while lf_profile_names[i] != NULL:
        if strcmp(lf_profile_names[i], loss) == 0:
            return i
        i += 1
    return -1


# ---- operands ----

cdef dict _types = {
    "e": LF_FLOAT16, "f": LF_FLOAT32, "d": LF_FLOAT64, "?": LF_BOOL,
}
cdef dict _integers = {
    ("i", 1): LF_INT8, ("i", 2): LF_INT16, ("i", 4): LF_INT32, ("i", 8): LF_INT64,
    ("u", 1): LF_UINT8, ("u", 2): LF_UINT16, ("u", 4): LF_UINT32, ("u", 8): LF_UINT64,
}


cdef int type_of(object dtype) except -1:
    cdef object found = _types.get(dtype.char)
    if found is None:
        found = _integers.get((dtype.kind, dtype.itemsize))
    if found is None and dtype.name == "bfloat16":
        found = LF_BFLOAT16
    if found is None:
        raise TypeError(f"the kernels do not read {dtype}")
    return found


# The same by NumPy's own numbers for its dtypes; -1 for those that are not read.
cdef int _numbered[24]


cdef int number_them() except -1:
    cdef object descr
    cdef int number
    for number in range(24):
        descr = cnp.PyArray_DescrFromType(number)
        _numbered[number] = type_of(descr) if descr.char in _types or (descr.kind, descr.itemsize) in _integers else -1
    return 0


number_them()


cdef int type_of_number(int number) noexcept nogil:
    return _numbered[number] if 0 <= number < 24 else -1


cdef int describe(Operand *op, cnp.ndarray array, bint has_classes) except -1:
    cdef int i, axes = cnp.PyArray_NDIM(array) - has_classes
    op.data = cnp.PyArray_BYTES(array)
    op.itemsize = cnp.PyArray_ITEMSIZE(array)
    op.swapped = not cnp.PyArray_ISNOTSWAPPED(array)
    op.type = type_of_number(cnp.PyArray_TYPE(array))
    if op.type < 0:
        op.type = type_of(array.dtype)
    for i in range(axes):
        op.strides[i] = cnp.PyArray_STRIDE(array, i)
    op.stride = cnp.PyArray_STRIDE(array, axes) if has_classes else 0
    return 0


cdef int enlist(Operand *to, const Operand *op, int axes, Operand **used, int *count) noexcept nogil:
    """Copy an operand, if there is one, to where it is used; whether there is."""
    if op == NULL:
        return 0
    to.data, to.type, to.swapped, to.itemsize, to.stride = op.data, op.type, op.swapped, op.itemsize, op.stride
    memcpy(to.strides, op.strides, axes * sizeof(ptrdiff_t))
    used[count[0]] = to
    count[0] += 1
    return 1


cdef void put_geometry(Geometry *to, const Geometry *g) noexcept nogil:
    to.ndim = g.ndim
    memcpy(to.shape, g.shape, g.ndim * sizeof(ptrdiff_t))


cdef const Operand *described(Operand **free, object array, bint has_classes) except? NULL:
    cdef Operand *op = free[0]
    if array is None:
        return NULL
    describe(op, array, has_classes)
    free[0] += 1
    return op


cdef void join_axes(Geometry *g, Operand **ops, int count) noexcept nogil:
    """Drop axes of length 1, and join neighbours that every operand steps through evenly."""
    cdef int axis, last = -1, i, evenly
    g.size = 1
    for axis in range(g.ndim):
        g.size *= g.shape[axis]
    for axis in range(g.ndim):
        if g.shape[axis] == 1:
            continue
        evenly = last >= 0
        if evenly:
            for i in range(count):
                if ops[i].strides[last] != g.shape[axis] * ops[i].strides[axis]:
                    evenly = 0
                    break
        if evenly:
            g.shape[last] *= g.shape[axis]
        else:
            last += 1
            g.shape[last] = g.shape[axis]
        for i in range(count):
            ops[i].strides[last] = ops[i].strides[axis]
    if last < 0:
        last = 0
        g.shape[0] = 1
        for i in range(count):
            ops[i].strides[0] = ops[i].itemsize  # one number lies in a row
    g.ndim = last + 1


cdef void sort_axes(Geometry *g, Operand **ops, int count) noexcept nogil:
    cdef int axis, at, i
    for axis in range(1, g.ndim):
        at = axis
        while at > 0 and distance(ops[0].strides[at - 1]) < distance(ops[0].strides[at]):
            swap(&g.shape[at - 1], &g.shape[at])
            for i in range(count):
                swap(&ops[i].strides[at - 1], &ops[i].strides[at])
            at -= 1


cdef ptrdiff_t distance(ptrdiff_t stride) noexcept nogil:
    return stride if stride >= 0 else -stride


cdef void swap(ptrdiff_t *a, ptrdiff_t *b) noexcept nogil:
    a[0], b[0] = b[0], a[0]


cdef ptrdiff_t offset(const Geometry *g, const Operand *op, ptrdiff_t index) noexcept nogil:
    cdef ptrdiff_t total = 0
    cdef int axis
    if g.ndim == 1:
        return index * op.strides[0]
    for axis in range(g.ndim - 1, 0, -1):
        total += index % g.shape[axis] * op.strides[axis]
        index //= g.shape[axis]
    return total + index * op.strides[0]


cdef void read(void *to, int dtype, ptrdiff_t step, const Operand *op, const char *at, ptrdiff_t stride, ptrdiff_t n) noexcept nogil:
    lf_read(to, dtype, step, at, op.type, op.swapped, stride, n)


cdef void write(char *at, const Operand *op, ptrdiff_t stride, const void *values, int dtype, ptrdiff_t step, ptrdiff_t n) noexcept nogil:
    lf_write(at, op.type, op.swapped, stride, values, dtype, step, n)


cdef void read_labels(int64_t *to, const Operand *op, const char *at, ptrdiff_t stride, ptrdiff_t n) noexcept nogil:
    lf_read_labels(to, at, op.type, op.swapped, stride, n)


cdef int is_native(const Operand *op, int dtype) noexcept nogil:
    return op.type == (LF_FLOAT32 if dtype == 32 else LF_FLOAT64) and not op.swapped


cdef void native(Operand *op, const void *data, int dtype, ptrdiff_t row_stride, ptrdiff_t stride) noexcept nogil:
    memset(op, 0, sizeof(Operand))
    op.data = <char *>data
    op.type = LF_FLOAT32 if dtype == 32 else LF_FLOAT64
    op.itemsize = dtype // 8
    op.stride = stride
    op.strides[0] = row_stride


cdef void native_labels(Operand *op, const void *data) noexcept nogil:
    memset(op, 0, sizeof(Operand))
    op.data = <char *>data
    op.type = LF_INT64
    op.itemsize = op.strides[0] = 8


cdef int lies_ready(int dtype, const Geometry *g, const Operand *op, ptrdiff_t start, ptrdiff_t n) noexcept nogil:
    cdef ptrdiff_t inner = g.shape[g.ndim - 1]
    return is_native(op, dtype) and op.strides[g.ndim - 1] == op.itemsize and (g.ndim == 1 or start % inner + n <= inner)


# How many of n elements from there on lie an even stride apart.
cdef ptrdiff_t run_of(const Geometry *g, ptrdiff_t start, ptrdiff_t n) noexcept nogil:
    cdef ptrdiff_t inner = g.shape[g.ndim - 1], run = inner - start % inner
    return run if run < n else n


# How many whole rows of the innermost axis begin there, if they are to be taken column by column: where the columns are
# longer than the rows, and lie closer. Otherwise 0.
cdef ptrdiff_t columns_of(const Geometry *g, const Operand *op, ptrdiff_t start, ptrdiff_t n) noexcept nogil:
    cdef ptrdiff_t inner = g.shape[g.ndim - 1], rows, left
    if g.ndim == 1 or start % inner:
        return 0
    if distance(op.strides[g.ndim - 2]) > distance(op.strides[g.ndim - 1]):
        return 0
    rows, left = n // inner, g.shape[g.ndim - 2] - start // inner % g.shape[g.ndim - 2]
    if rows > left:
        rows = left
    return rows if rows > inner else 0


cdef void *bring(void *scratch, int dtype, const Geometry *g, const Operand *op, ptrdiff_t start, ptrdiff_t n) noexcept nogil:
    cdef ptrdiff_t inner = g.shape[g.ndim - 1], done = 0, size = dtype // 8, column, rows
    cdef const char *at
    if lies_ready(dtype, g, op, start, n):
        return op.data + offset(g, op, start)
    while done < n:
        at = op.data + offset(g, op, start + done)
        rows = columns_of(g, op, start + done, n - done)
        if rows:
            for column in range(inner):
                read(<char *>scratch + (done + column) * size, dtype, inner, op, at + column * op.strides[g.ndim - 1],
                     op.strides[g.ndim - 2], rows)
            done += rows * inner
        else:
            rows = run_of(g, start + done, n - done)
            read(<char *>scratch + done * size, dtype, 1, op, at, op.strides[g.ndim - 1], rows)
            done += rows
    return scratch


cdef void *place(void *scratch, int dtype, const Geometry *g, const Operand *op, ptrdiff_t start, ptrdiff_t n) noexcept nogil:
    return op.data + offset(g, op, start) if lies_ready(dtype, g, op, start, n) else scratch


cdef void put(const void *values, int dtype, const Geometry *g, const Operand *op, ptrdiff_t start, ptrdiff_t n) noexcept nogil:
    cdef ptrdiff_t inner = g.shape[g.ndim - 1], done = 0, size = dtype // 8, column, rows
    cdef char *at
    if lies_ready(dtype, g, op, start, n):
        return
    while done < n:
        at = op.data + offset(g, op, start + done)
        rows = columns_of(g, op, start + done, n - done)
        if rows:
            for column in range(inner):
                write(at + column * op.strides[g.ndim - 1], op, op.strides[g.ndim - 2],
                      <const char *>values + (done + column) * size, dtype, inner, rows)
            done += rows * inner
        else:
            rows = run_of(g, start + done, n - done)
            write(at, op, op.strides[g.ndim - 1], <const char *>values + done * size, dtype, 1, rows)
            done += rows


cdef void read_tile(void *to, int dtype, const Operand *op, char **rows, ptrdiff_t first, ptrdiff_t n) noexcept nogil:
    lf_read_tile(to, dtype, rows, first * op.stride, op.type, op.swapped, op.stride, n)


cdef void write_tile(const Operand *op, char **rows, int count, void *tile, int dtype, ptrdiff_t n) noexcept nogil:
    lf_write_tile(rows, count, op.type, op.swapped, op.stride, tile, dtype, n)


# ---- the floating-point state of the calling thread, for what is left to do in Python ----

def enter_arithmetic():
    """Round to nearest, keep subnormals; returns the caller's own state."""
    return lf_fp_set()


def leave_arithmetic(uint64_t state):
    lf_fp_restore(state)
