/* The kernels of one instruction set and dtype: compiled once for each, with -DLF_ISA=avx2 -DLF_DTYPE=32 -DLF_LANES=8 and
   the flags of that instruction set, into one table. */
#include "tables.h"
#include "real.h"
#include "functions.h"
#include "pointwise.h"
#include "rowwise.h"

#define JOIN_(a, b, c) a##b##_##c
#define JOIN(a, b, c) JOIN_(a, b, c)
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)

extern const lf_table JOIN(lf_table_, LF_ISA, LF_DTYPE);
const lf_table JOIN(lf_table_, LF_ISA, LF_DTYPE) = {
    .isa = TEXT(LF_ISA),
    .dtype = LF_DTYPE,
    .lanes = LF_LANES,
    .words = lf_words,
    .pointwise = lf_pointwise_functions,
    .across = lf_across,
    .along = lf_along,
    .few_sums = few_sums,
    .few_entries = few_entries,
    .many_sums = many_sums,
    .many_entries = many_entries,
    .tile_in = any_tile_in,
    .tile_out = any_tile_out,
#if LF_DTYPE == 64
    .plain_rows = plain_rows,
    .take_labels = take_labels,
    .add_batch = add_batch,
    .end_sum = end_sum,
    .prepare = prepare,
    .finish = finish,
    .remainders = remainders,
    .targets = targets,
    .programs = lf_programs,
#endif
};
