/* Stretches of an array's elements, of any supported dtype, byte order, alignment and stride, to floats or doubles and
   back. The types are in the order of LF_TYPES. */
#ifndef LF_CONVERT_H
#define LF_CONVERT_H

#include <stddef.h>
#include <stdint.h>

enum {
    LF_FLOAT16, LF_BFLOAT16, LF_FLOAT32, LF_FLOAT64,
    LF_BOOL, LF_INT8, LF_INT16, LF_INT32, LF_INT64, LF_UINT8, LF_UINT16, LF_UINT32, LF_UINT64, LF_TYPE_COUNT
};

/* to: `dtype` (32 or 64) numbers, `step` elements apart */
void lf_read(void *to, int dtype, ptrdiff_t step, const char *from, int type, int swapped, ptrdiff_t stride, ptrdiff_t n);
/* unsigned numbers from 2^63 on become what has their bits, which is below 0 */
void lf_read_labels(int64_t *to, const char *from, int type, int swapped, ptrdiff_t stride, ptrdiff_t n);
/* from: `dtype` numbers, `step` elements apart; to: one of the four floating types, bool, or int64 */
void lf_write(char *to, int type, int swapped, ptrdiff_t stride, const void *from, int dtype, ptrdiff_t step, ptrdiff_t n);

/* 16 rows of n numbers to a tile, number c of row i at [16 c + i]; `skip` bytes into each row. And back: `count` rows. */
void lf_read_tile(void *to, int dtype, char **rows, ptrdiff_t skip, int type, int swapped, ptrdiff_t stride, ptrdiff_t n);
void lf_write_tile(char **rows, int count, int type, int swapped, ptrdiff_t stride, void *tile, int dtype, ptrdiff_t n);

#endif
