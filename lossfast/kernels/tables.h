/* What the Cython drivers see of the C kernels: blocks of work, and one table of functions per instruction set and dtype.
   Pointers to void are to `float` or `double`, as the table's dtype says. Nothing here allocates, fails or blocks. */
#ifndef LF_TABLES_H
#define LF_TABLES_H

#include <stddef.h>
#include <stdint.h>

#include "doubledouble.h"
#include "entrywise.h"

/* ---- pointwise ---- */

enum { LF_MAX_PARAMS = 4, LF_BLOCK = 2048 };

/* What is wanted of a block, as bits. */
enum { LF_VALUE = 1, LF_GRAD = 2, LF_HESS = 4, LF_SUM = 8 };

/* Up to LF_BLOCK contiguous elements. `w` (doubles, or NULL for 1) weighs them; outputs not wanted may be NULL. */
typedef struct {
    ptrdiff_t n;
    const void *x, *t, *q;
    const double *w;
    void *value, *grad, *hess;
    void *grad_second, *hess_second; /* with respect to the loss's second differentiable argument, if it has one */
    double params[LF_MAX_PARAMS];
    double scale;         /* of grad and hess */
    double sum[2];        /* out: the weighted sum, hi + lo */
    int odd;              /* out: what is computed is not finite everywhere */
} lf_block;

typedef void (*lf_pointwise_function)(lf_block *, int want);

/* ---- rowwise ----

   Rows are worked on in groups: 16 rows across the lanes where classes are few, else one row along them. Whatever is
   known of a row, one number each, stands in `lf_rows`, a lane a row, always in double; what is known of its classes is
   in `lf_classes`, in the table's dtype. Work on the classes is done by stages (`lf_stage`), work on the rows between two
   stages by steps (`lf_row_step`, which only the float64 tables have and which serve both dtypes).

   An output is a short program of these. The driver runs, for every group: maximum, [locate], prepare, exponentials,
   finish, [remainder, remainders], [target_sums], targets; then the program of each output that is wanted. */
enum { LF_ROWS = 16, LF_TERMS = 4, LF_MAX_STEPS = 4 };

typedef struct {
    int rows;                     /* how many lanes are in use */
    /* from the driver */
    double weight[LF_ROWS];       /* the row's weight; NaN where the label is out of range */
    double label[LF_ROWS];        /* the true class; -1: the targets are soft, or there are none */
    double label_weight[LF_ROWS]; /* the true class's weight */
    double label_live[LF_ROWS];   /* 0 where the true class is masked, else 1 */
    double classes[LF_ROWS];      /* how many classes are not masked */
    double all_classes[LF_ROWS];  /* how many there are */
    double pivot[LF_ROWS];        /* the class that is kept out of the sum: the true class, or the largest; -1: none */
    double x_pivot[LF_ROWS];      /* its logit (0 without a pivot) */
    double truth[LF_ROWS], x_truth[LF_ROWS]; /* the true class, or the first largest target, and its logit */
    double factor[LF_ROWS];       /* logsumexp: the number that multiplies the row's gradient */
    /* from `maximum` and `locate` */
    double max[LF_ROWS];          /* the largest logit; NaN is passed over */
    double argmax[LF_ROWS];       /* the first class that has it */
    /* from `ranking` */
    double above[LF_ROWS], runner_up[LF_ROWS], undefined[LF_ROWS];
    /* from `prepare`: e^((x - shift)/T) * 2^(lift - scale_exponent) is what `exponentials` makes */
    double shift[LF_ROWS], scale_exponent[LF_ROWS];
    double share[LF_ROWS];        /* a power of 2, about 1 / classes */
    /* from `exponentials`: the sum over all classes but the pivot, and the pivot's own */
    double others[LF_ROWS], others_lo[LF_ROWS], pivot_e[LF_ROWS], pivot_lo[LF_ROWS];
    /* from `finish` */
    double inverse[LF_ROWS], inverse_lo[LF_ROWS]; /* 1 / (others + pivot_e) */
    double pivot_nlp[LF_ROWS], pivot_nlp_lo[LF_ROWS]; /* -log of the pivot's probability */
    double pivot_rest[LF_ROWS];   /* 1 - the pivot's probability */
    double lse[LF_ROWS], sign[LF_ROWS];
    double top[LF_ROWS], top_lo[LF_ROWS]; /* lse - max/T */
    /* from `targets` (see `target_sums`): sums over classes of cw t, cw t (max - x), and of cw, share cw (max - x) unmasked */
    double tau[LF_ROWS], tau_gap[LF_ROWS], cw_sum[LF_ROWS], cw_gap[LF_ROWS];
    /* from `remainder`: the sum over all classes but argmax, and argmax's own; then, from `remainders`, their share */
    double rest[LF_ROWS], rest_lo[LF_ROWS], max_e[LF_ROWS], max_e_lo[LF_ROWS];
    /* of losses with a profile (`fine`): of argmax, UP (1 - p) and -log p */
    double left[LF_ROWS], left_lo[LF_ROWS], fine_top[LF_ROWS], fine_top_lo[LF_ROWS];
    /* of the other logits, where a loss compares two softmaxes (set by the driver, which brings them to theirs first): max,
       top, shift, scale_exponent and inverse as above, and the one that belongs to argmax */
    double other_max[LF_ROWS], other_top[LF_ROWS], other_top_lo[LF_ROWS], other_shift[LF_ROWS], other_exponent[LF_ROWS];
    double other_inverse[LF_ROWS], other_inverse_lo[LF_ROWS], lead_other[LF_ROWS];
    /* a program's own */
    double terms[LF_TERMS][LF_ROWS];
    double a[LF_ROWS], a_lo[LF_ROWS], b[LF_ROWS], b_lo[LF_ROWS], c[LF_ROWS], d[LF_ROWS], post[LF_ROWS];
    double lead_target[LF_ROWS];            /* the largest class's target (set by the driver where they are soft) */
    double leader[LF_ROWS], d_lead[LF_ROWS], d_lead_lo[LF_ROWS], u_lead[LF_ROWS], up[LF_ROWS]; /* quadratic cost: a class with most of p, its p - t, 2 p - t; their scale */
    double mark[LF_ROWS], at_mark[LF_ROWS]; /* a class (-1: none) whose entry is known from elsewhere, and the entry */
    double result[LF_ROWS];
} lf_rows;

/* A stretch of one row's classes; or all classes of 16 rows, the 16 numbers of a class side by side. */
typedef struct {
    ptrdiff_t n;           /* classes here */
    ptrdiff_t first;       /* the first one's number */
    const void *x;         /* logits */
    const void *y;         /* the other logits, or NULL */
    const void *t;         /* soft targets, or NULL */
    const void *v;         /* a direction, or factors, or NULL */
    const void *cw;        /* class weights, or NULL for 1 */
    const void *live;      /* 0 where a class is masked (its logit is -inf already), else 1; or NULL */
    const double *params;  /* the loss's own, in the order declared */
    void *e, *lo;          /* the exponentials, in two parts */
    void *out;             /* what the stage writes */
    double inverse_temperature, inverse_temperature_lo;
    int profile;           /* which (profiles.h); -1: none */
    int fine;              /* exponentials to well beyond a double's precision */
} lf_classes;

typedef struct {
    double scale, label_smoothing, temperature, z_loss, ridge;
    int dtype;             /* 32 or 64 */
    int soft;              /* there are soft targets */
    double params[LF_MAX_PARAMS]; /* the loss's own, in the order declared */
    int profile;           /* which (profiles.h); -1: none */
} lf_options;

typedef void (*lf_stage)(const lf_classes *, lf_rows *);
typedef void (*lf_row_step)(lf_rows *, const lf_options *);

/* The stages, by name, once for each orientation. */
#define LF_STAGES(S) \
    S(maximum) S(locate) S(exponentials) S(exponentials_times_v) S(one_hot) S(target_sums) \
    S(remainder) S(spread) S(variance) S(along_v) S(ranking) S(newton_sums) S(quadratic_sums) S(quadratic_v_sums) \
    S(affine) S(indicator) S(curvature) S(product) S(linear) S(log_shares) S(weighted_gap) S(newton) S(quadratic_grad) S(quadratic_hess) S(quadratic_hvp) \
    S(divergence_balance) S(divergence_sum) S(divergence_mean) S(divergence_v_sum) S(divergence_temperature) \
    S(divergence_grad) S(divergence_hess) S(divergence_hvp) S(difference) \
    S(profile_sum) S(profile_slopes) S(profile_grad) S(profile_hess) \
    S(rival) S(violations) S(violation_grad) S(violation_hess)

#define LF_ENUM(name) LF_STAGE_##name,
#define LF_ENTRY_ENUM(name) LF_ENTRY_STAGES(LF_ENUM, name)
enum { LF_STAGES(LF_ENUM) LF_ENTRYWISE(LF_ENTRY_ENUM) LF_STAGE_COUNT };

/* One output of one loss or function: first `step`, then `stage`, up to LF_MAX_STEPS times; either may be missing. The
   last stage of an output with an entry a class writes it; an output with one entry a row ends in a step that leaves it
   in `result`. */
typedef struct { lf_row_step step; int stage; } lf_program_step;
typedef struct {
    const char *loss, *output;
    lf_program_step steps[LF_MAX_STEPS];
} lf_program;

/* ---- plain rows (plain.h) ---- */

enum { LF_BATCH = 128 };
/* What is wanted, as bits: a loss; gradients or probabilities; or alone: log-sum-exps, or logarithms of probabilities. */
enum { LF_PLAIN_LOSS = 1, LF_PLAIN_ENTRIES = 2, LF_PLAIN_LSE = 4, LF_PLAIN_LOGS = 8 };

/* What is known of a batch of rows, one number each, with room for a vector that begins at the last. */
enum { LF_BATCH_ROOM = LF_BATCH + LF_ROWS };
typedef struct {
    /* from the driver: the row's weight, its label (-1: none) and the weight of that class */
    double weight[LF_BATCH_ROOM], label[LF_BATCH_ROOM], label_weight[LF_BATCH_ROOM];
    int even;                  /* all weights are 1 */
    int whole;                 /* from plain_rows: all of its rows have a post of 1 */
    double max[LF_BATCH_ROOM], x_pivot[LF_BATCH_ROOM], shift[LF_BATCH_ROOM], exponent[LF_BATCH_ROOM];
    double others[LF_BATCH_ROOM], others_lo[LF_BATCH_ROOM], pivot_e[LF_BATCH_ROOM], pivot_lo[LF_BATCH_ROOM];
    double inverse[LF_BATCH_ROOM], a[LF_BATCH_ROOM], a_lo[LF_BATCH_ROOM], post[LF_BATCH_ROOM], at_mark[LF_BATCH_ROOM];
    double loss[LF_BATCH_ROOM], loss_lo[LF_BATCH_ROOM]; /* or the log-sum-exp; or that less the maximum, in two parts */
    int far[LF_BATCH_ROOM];    /* taken with its maximum (few: of a group's first row) */
} lf_batch;

/* A sum over batches: 16 running sums, and what had to be put away. */
typedef struct { double hi[LF_ROWS], lo[LF_ROWS]; lf_total total; } lf_running;

/* Groups of 16 rows (few classes) or one row (many): where they lie, in numbers. Of the two pitches one is 1; many have none. */
typedef struct {
    ptrdiff_t classes;
    ptrdiff_t stretch, chunk;  /* many: classes to a sum, and to the memory at e and lo; multiples of 16, the second of the first */
    const void *x;
    ptrdiff_t row_pitch, class_pitch;
    void *e, *lo;              /* few: of the whole batch, a tile of 16 rows after the other */
    void *out;                 /* or NULL: few leave the entries as a tile in e; many have none */
    ptrdiff_t out_row_pitch, out_class_pitch;
    int keep;                  /* the exponentials will be wanted */
    int largest;               /* the largest class is the pivot; entries are logarithms */
    int far;                   /* the first is not tried without its maximum */
} lf_plain;

typedef void (*lf_plain_function)(const lf_plain *, lf_batch *, int from, int to); /* rows of the batch */

/* A function of the vocabulary, over an array. */
typedef struct { const char *name; void (*apply)(const void *x, void *y, ptrdiff_t n); } lf_word;

typedef struct {
    const char *isa;
    int dtype, lanes;
    const lf_word *words;                   /* ends with a name of NULL */
    const lf_pointwise_function *pointwise; /* in the order of lf_pointwise_names */
    const lf_stage *across, *along;         /* in the order of LF_STAGES; those of LF_ENTRYWISE after them, in float64 alone */
    lf_plain_function few_sums, few_entries, many_sums, many_entries;
    /* 16 rows, `pitch` numbers apart, to a tile, and back */
    void (*tile_in)(void *tile, const void *x, ptrdiff_t pitch, ptrdiff_t classes), (*tile_out)(void *x, ptrdiff_t pitch, const void *tile, ptrdiff_t classes);
    /* of the float64 tables alone */
    void (*plain_rows)(lf_batch *, int from, int to, const lf_options *, int want, double classes);
    /* labels to `label`; whether all are classes */
    int (*take_labels)(lf_batch *, const int64_t *labels, int n, ptrdiff_t classes);
    void (*add_batch)(lf_running *, const double *, int n);
    void (*end_sum)(lf_running *);
    lf_row_step prepare, finish, remainders, targets;
    const lf_program *programs;             /* ends with a loss of NULL */
} lf_table;

extern const char *const lf_pointwise_names[]; /* ends with NULL */
extern const char *const lf_profile_names[];   /* the same of profiles.h */

/* ---- dispatch ---- */

int lf_isa_count(void);                       /* how many were built */
const char *lf_isa_name(int isa);             /* slowest first */
int lf_isa_runs(int isa);                     /* does this CPU, under this system, run it? */
const lf_table *lf_get_table(int isa, int dtype); /* dtype 32 or 64 */

#endif
