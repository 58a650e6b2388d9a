"""Pointwise losses without the GIL, for other Cython code (and, through ``__pyx_capi__``, Numba and SciPy).

`pointwise_loss` works on contiguous memory: ``which`` is the loss's place in `names()`, outputs may be NULL, ``w`` too,
and the weighted sum is returned. It uses the instruction set in use and takes no lock.
"""

from lossfast.kernels.buffers cimport Geometry, Operand, lf_total

cdef int find(str name) except -1
cdef api double pointwise_loss_float64(int which, const double *x, const double *t, const double *w, double *value, double *grad,
                                       double *hess, const double *params, double scale, ptrdiff_t n) noexcept nogil
cdef api double pointwise_loss_float32(int which, const float *x, const float *t, const double *w, float *value, float *grad,
                                       float *hess, const double *params, double scale, ptrdiff_t n) noexcept nogil

# ---- for the other modules of this package ----

# A `PointwiseJob` in C, whose arrays the caller keeps alive. Operands that are not there are NULL.
cdef struct PointwiseTask:
    Geometry shape
    int which               # the loss's place in `names()`
    int dtype               # 32 or 64
    int total               # whether the sum of the losses is wanted
    const Operand *x
    const Operand *target
    const Operand *extra
    const Operand *sample_weight
    const Operand *where
    const Operand *direction
    const Operand *value
    const Operand *grad
    const Operand *hess
    double params[4]
    double scale

# All elements in the calling thread; `release` lets other threads have the GIL meanwhile.
cdef int run_pointwise(const PointwiseTask *task, bint release, lf_total *total) except -1
# The sum of the weights; returned is how many elements count.
cdef ptrdiff_t weigh_pointwise(const PointwiseTask *task, lf_total *total) noexcept nogil
