"""Jobs in C: what calls are made into, whichever way they come."""

from libc.stdint cimport int64_t

from lossfast.kernels.buffers cimport Geometry, Operand, lf_total

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
    const Operand *grad_second
    const Operand *hess_second
    double params[4]
    double scale
    # found by `weigh_pointwise`
    lf_total weight             # the sum of the weights
    ptrdiff_t count             # how many elements count
    # found by `run_pointwise`
    lf_total sum                # of the losses

# Soft targets of which most classes of a row are alike: `lossfast._sparse.SparseTargets` in C.
cdef struct Sparse:
    const int64_t *starts       # where each row's entries begin, and where the last row's end
    const int64_t *classes      # of each entry; ascending in a row
    const double *targets       # and its target
    const double *rest          # of each row, what every other class has; NULL: 0
    ptrdiff_t entries

# A `RowwiseJob` in C, whose arrays the caller keeps alive. Operands that are not there are NULL.
cdef struct RowTask:
    Geometry rows               # the logits' shape without the class axis
    ptrdiff_t classes
    int dtype                   # 32 or 64: what the job asks to be computed in
    const Operand *logits
    const Operand *labels
    const Operand *target
    int is_sparse               # the targets are these
    Sparse sparse
    const Operand *other        # the other logits
    const Operand *sample_weight
    const Operand *where
    const Operand *direction
    const Operand *factors
    const double *class_weight
    const double *entry_weight  # class weights that the sum of the weights leaves out
    int has_ignore
    int64_t ignore
    double scale, label_smoothing, temperature, z_loss, ridge
    double params[4]            # the loss's own, in the order declared
    const Operand *outputs[24]  # in the order of the names that the plan was made for
    int total[24]               # whether the total is wanted
    # found by `weigh_rows`
    lf_total weight             # the sum of the weights
    ptrdiff_t count             # how many rows count
    ptrdiff_t bad_count         # how many labels are out of range
    ptrdiff_t bad_row           # the first such row; -1: there is none
    # found by `run_rows`
    lf_total totals[3]          # of the losses, and of their first and second derivatives in the temperature
