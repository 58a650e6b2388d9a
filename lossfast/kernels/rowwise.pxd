"""Losses over a class axis without the GIL, for other Cython code (and, through ``__pyx_capi__``, Numba and SciPy).

Each takes contiguous rows, uses the instruction set in use, takes no lock and needs a few hundred KiB from malloc for
rows beyond 64 classes (NaN comes back, and nothing is written, if there is no memory).
"""

from libc.stdint cimport int64_t

cdef api double logsumexp_float64(const double *x, ptrdiff_t classes) noexcept nogil
cdef api double logsumexp_float32(const float *x, ptrdiff_t classes) noexcept nogil
# The sum of scale * loss over the rows; per-row losses and the gradient (scale times each row's) are written unless NULL.
# A label out of range gives NaN.
cdef api double cross_entropy_float64(const double *logits, const int64_t *labels, ptrdiff_t rows, ptrdiff_t classes,
                                      double scale, double *loss, double *grad) noexcept nogil
cdef api double cross_entropy_float32(const float *logits, const int64_t *labels, ptrdiff_t rows, ptrdiff_t classes,
                                      double scale, float *loss, float *grad) noexcept nogil

# ---- for the other modules of this package ----

# `task` points to a `RowTask`, whose declaration (in tasks.pxd) needs headers that users of the functions above do without.
# What is known of all jobs that want these outputs of that loss.
cdef object plan_rows(str loss, tuple names)
# All rows in the calling thread; `release` lets other threads have the GIL meanwhile.
cdef int run_rows(object plan, void *task, bint release) except -1
# What the sum of the weights is made of, and the labels out of range.
cdef void weigh_rows(void *task) noexcept nogil
