"""Losses over a class axis without the GIL, for other Cython code (and, through ``__pyx_capi__``, Numba and SciPy).

Each takes contiguous rows, uses the instruction set in use, takes no lock and needs a few hundred KiB from malloc for
rows beyond 64 classes (NaN comes back, and nothing is written, if there is no memory).
"""

from libc.stdint cimport int64_t

from lossfast.kernels.buffers cimport Geometry, Operand, lf_total

cdef api double logsumexp_float64(const double *x, ptrdiff_t classes) noexcept nogil
cdef api double logsumexp_float32(const float *x, ptrdiff_t classes) noexcept nogil
# The sum of scale * loss over the rows; per-row losses and the gradient (scale times each row's) are written unless NULL.
# A label out of range gives NaN.
cdef api double cross_entropy_float64(const double *logits, const int64_t *labels, ptrdiff_t rows, ptrdiff_t classes,
                                      double scale, double *loss, double *grad) noexcept nogil
cdef api double cross_entropy_float32(const float *logits, const int64_t *labels, ptrdiff_t rows, ptrdiff_t classes,
                                      double scale, float *loss, float *grad) noexcept nogil

# ---- for the other modules of this package ----

# A `RowwiseJob` in C, whose arrays the caller keeps alive. Operands that are not there are NULL.
cdef struct RowTask:
    Geometry rows               # the logits' shape without the class axis
    ptrdiff_t classes
    int dtype                   # 32 or 64: what the job asks to be computed in
    const Operand *logits
    const Operand *labels
    const Operand *target
    const Operand *other        # the other logits
    const Operand *sample_weight
    const Operand *where
    const Operand *direction
    const Operand *factors
    const double *class_weight
    int has_ignore
    int64_t ignore
    double scale, label_smoothing, temperature, z_loss, ridge
    const Operand *outputs[24]  # in the order of the names that the plan was made for
    int total[24]               # whether the total is wanted

# What is known of all jobs that want these outputs of that loss.
cdef object plan_rows(str loss, tuple names)
# All rows in the calling thread; `release` lets other threads have the GIL meanwhile.
cdef int run_rows(object plan, const RowTask *task, bint release, lf_total *totals) except -1
# The sum of the weights; and how many rows count, how many labels are out of range, and the first such row, or -1.
cdef void weigh_rows(const RowTask *task, lf_total *total, ptrdiff_t *counts) noexcept nogil
