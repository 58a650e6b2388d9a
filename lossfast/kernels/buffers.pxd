"""From arrays to pointers: dtypes, strides, blocks; and the tables of C kernels."""

from libc.stdint cimport int64_t, uint64_t

cimport numpy as cnp


cdef extern from "doubledouble.h" nogil:
    ctypedef struct lf_total:
        double hi
        double lo
        int exponent


cdef extern from "tables.h" nogil:
    enum: LF_MAX_PARAMS, LF_BLOCK, LF_VALUE, LF_GRAD, LF_HESS, LF_SUM
    enum: LF_ROWS, LF_TERMS, LF_MAX_STEPS

    ctypedef struct lf_block:
        ptrdiff_t n
        const void *x
        const void *t
        const void *q
        const double *w
        void *value
        void *grad
        void *hess
        void *grad_second
        void *hess_second
        double params[4]
        double scale
        double sum[2]
        int odd

    ctypedef void (*lf_pointwise_function)(lf_block *, int want) noexcept nogil

    ctypedef struct lf_rows:
        int rows
        double weight[16]
        double label[16]
        double label_weight[16]
        double label_live[16]
        double classes[16]
        double all_classes[16]
        double pivot[16]
        double x_pivot[16]
        double truth[16]
        double x_truth[16]
        double factor[16]
        double max[16]
        double argmax[16]
        double above[16]
        double runner_up[16]
        double undefined[16]
        double shift[16]
        double scale_exponent[16]
        double others[16]
        double others_lo[16]
        double pivot_e[16]
        double pivot_lo[16]
        double lead_target[16]
        double inverse[16]
        double inverse_lo[16]
        double top[16]
        double top_lo[16]
        double other_max[16]
        double other_top[16]
        double other_top_lo[16]
        double other_shift[16]
        double other_exponent[16]
        double other_inverse[16]
        double other_inverse_lo[16]
        double lead_other[16]
        double lse[16]
        double sign[16]
        double tau[16]
        double terms[4][16]
        double result[16]

    ctypedef struct lf_classes:
        ptrdiff_t n
        ptrdiff_t first
        const void *x
        const void *y
        const void *t
        const void *v
        const void *cw
        const void *live
        const double *params
        void *e
        void *lo
        void *out
        double inverse_temperature
        double inverse_temperature_lo
        int profile
        int fine

    ctypedef struct lf_options:
        double scale
        double label_smoothing
        double temperature
        double z_loss
        double ridge
        int dtype
        int soft
        double params[4]
        int profile

    ctypedef void (*lf_stage)(const lf_classes *, lf_rows *) noexcept nogil
    ctypedef void (*lf_row_step)(lf_rows *, const lf_options *) noexcept nogil

    enum:
        LF_STAGE_maximum
        LF_STAGE_locate
        LF_STAGE_exponentials
        LF_STAGE_exponentials_times_v
        LF_STAGE_one_hot
        LF_STAGE_target_sums
        LF_STAGE_remainder
        LF_STAGE_ranking
        LF_STAGE_profile_sum
        LF_STAGE_profile_slopes

    ctypedef struct lf_program_step:
        lf_row_step step
        int stage

    ctypedef struct lf_program:
        const char *loss
        const char *output
        lf_program_step steps[4]

    ctypedef struct lf_word:
        const char *name
        void (*apply)(const void *x, void *y, ptrdiff_t n) noexcept nogil

    enum: LF_BATCH, LF_PLAIN_LOSS, LF_PLAIN_ENTRIES, LF_PLAIN_LSE, LF_PLAIN_LOGS

    ctypedef struct lf_batch:
        double weight[144]
        double label[144]
        double label_weight[144]
        double inverse[144]
        double loss[144]
        int far[144]
        int even

    ctypedef struct lf_running:
        lf_total total

    ctypedef struct lf_plain:
        ptrdiff_t classes
        ptrdiff_t stretch
        ptrdiff_t chunk
        const void *x
        ptrdiff_t row_pitch
        ptrdiff_t class_pitch
        void *e
        void *lo
        void *out
        ptrdiff_t out_row_pitch
        ptrdiff_t out_class_pitch
        int keep
        int largest
        int far

    ctypedef void (*lf_plain_function)(const lf_plain *, lf_batch *, int first, int last) noexcept nogil

    ctypedef struct lf_table:
        const char *isa
        int dtype
        int lanes
        const lf_word *words
        const lf_pointwise_function *pointwise
        const lf_stage *across
        const lf_stage *along
        lf_plain_function few_sums
        lf_plain_function few_entries
        lf_plain_function many_sums
        lf_plain_function many_entries
        void (*tile_in)(void *tile, const void *x, ptrdiff_t pitch, ptrdiff_t classes) noexcept nogil
        void (*tile_out)(void *x, ptrdiff_t pitch, const void *tile, ptrdiff_t classes) noexcept nogil
        void (*plain_rows)(lf_batch *, int first, int last, const lf_options *, int want, double classes) noexcept nogil
        int (*take_labels)(lf_batch *, const int64_t *labels, int n, ptrdiff_t classes) noexcept nogil
        void (*add_batch)(lf_running *, const double *, int) noexcept nogil
        void (*end_sum)(lf_running *) noexcept nogil
        lf_row_step prepare
        lf_row_step finish
        lf_row_step remainders
        lf_row_step targets
        const lf_program *programs

    const char **lf_pointwise_names
    const char **lf_profile_names
    int lf_isa_count()
    const char *lf_isa_name(int isa)
    int lf_isa_runs(int isa)
    const lf_table *lf_get_table(int isa, int dtype)


cdef extern from "fpstate.h" nogil:
    uint64_t lf_fp_set()
    void lf_fp_restore(uint64_t before)


cdef extern from "doubledouble.h" nogil:
    void dd_add(double *hi, double *lo, double x, double y)
    void total_add(lf_total *a, double x, double y)

# Up to 16 rows of classes, side by side: number c of row i is at to[16 c + i].
cdef void read_tile(void *to, int dtype, const Operand *op, char **rows, ptrdiff_t first, ptrdiff_t n) noexcept nogil
cdef void write_tile(const Operand *op, char **rows, int count, void *tile, int dtype, ptrdiff_t n) noexcept nogil

# How the elements (or rows) of a job are counted: the shape common to all its operands, with the axes that every operand
# steps through evenly joined into one.
cdef struct Geometry:
    int ndim
    ptrdiff_t size
    ptrdiff_t shape[64]

# One array as the kernels see it. `stride` is that of the class axis; pointwise operands have none.
cdef struct Operand:
    char *data
    int type
    int swapped
    ptrdiff_t itemsize
    ptrdiff_t stride
    ptrdiff_t strides[64]

cdef const lf_table *current_table(int dtype) noexcept nogil
# The name of the i-th pointwise kernel; NULL after the last.
cdef const char *pointwise_name(int i) noexcept nogil
# A loss's place in profiles.h; -1: it has none.
cdef int profile_number(const char *loss) noexcept nogil

# What the kernels call the dtype that has this number in NumPy; -1: they do not read it, or it is of another package.
cdef int type_of_number(int number) noexcept nogil
cdef int describe(Operand *op, cnp.ndarray array, bint has_classes) except -1
# Copies, of as much as is in use.
cdef int enlist(Operand *to, const Operand *op, int axes, Operand **used, int *count) noexcept nogil
cdef void put_geometry(Geometry *to, const Geometry *g) noexcept nogil
# The array, or NULL for None, in the next of some free operands.
cdef const Operand *described(Operand **free, object array, bint has_classes) except? NULL
cdef void join_axes(Geometry *g, Operand **ops, int count) noexcept nogil
# Axes in the order in which the first operand lies in memory: for work that comes to the same in any order.
cdef void sort_axes(Geometry *g, Operand **ops, int count) noexcept nogil
cdef ptrdiff_t offset(const Geometry *g, const Operand *op, ptrdiff_t index) noexcept nogil

cdef void read(void *to, int dtype, ptrdiff_t step, const Operand *op, const char *at, ptrdiff_t stride, ptrdiff_t n) noexcept nogil
cdef void write(char *at, const Operand *op, ptrdiff_t stride, const void *values, int dtype, ptrdiff_t step, ptrdiff_t n) noexcept nogil
cdef void read_labels(int64_t *to, const Operand *op, const char *at, ptrdiff_t stride, ptrdiff_t n) noexcept nogil

# Elements [start, start + n) of an operand of a pointwise job: a pointer into the array where they lie in a row there and
# need no conversion, else into `scratch`, where they have been brought.
cdef void *bring(void *scratch, int dtype, const Geometry *g, const Operand *op, ptrdiff_t start, ptrdiff_t n) noexcept nogil
cdef void *place(void *scratch, int dtype, const Geometry *g, const Operand *op, ptrdiff_t start, ptrdiff_t n) noexcept nogil
cdef void put(const void *values, int dtype, const Geometry *g, const Operand *op, ptrdiff_t start, ptrdiff_t n) noexcept nogil

# Of the dtype (32 or 64) that the kernels work in, in this machine's byte order.
cdef int is_native(const Operand *op, int dtype) noexcept nogil
# Operands of that kind, by pointer; labels are int64.
cdef void native(Operand *op, const void *data, int dtype, ptrdiff_t row_stride, ptrdiff_t stride) noexcept nogil
cdef void native_labels(Operand *op, const void *data) noexcept nogil

