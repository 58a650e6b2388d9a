"""Pointwise losses without the GIL, for other Cython code (and, through ``__pyx_capi__``, Numba and SciPy).

`pointwise_loss` works on contiguous memory: ``which`` is the loss's place in `names()`, outputs may be NULL, ``w`` too,
and the weighted sum is returned. It uses the instruction set in use and takes no lock.
"""

cdef int find(str name) except -1
cdef api double pointwise_loss_float64(int which, const double *x, const double *t, const double *w, double *value, double *grad,
                                       double *hess, const double *params, double scale, ptrdiff_t n) noexcept nogil
cdef api double pointwise_loss_float32(int which, const float *x, const float *t, const double *w, float *value, float *grad,
                                       float *hess, const double *params, double scale, ptrdiff_t n) noexcept nogil

# ---- for the other modules of this package ----

# `task` points to a `PointwiseTask`, whose declaration (in tasks.pxd) needs headers that users of the functions above do
# without. All elements in the calling thread; `release` lets other threads have the GIL meanwhile.
cdef int run_pointwise(void *task, bint release) except -1
cdef void weigh_pointwise(void *task) noexcept nogil
