/* The frame of the PolyBench kernels: five dataset sizes in one program, arrays, checksum, dump, time.

   A kernel's file is a template. Read first, without PB_SIZE, it says its name and includes this
   header, which includes the file again for each size, with PB_SIZE = 0 (MINI) to 4 (EXTRALARGE).
   So every size has loop bounds and row lengths that are constants for the compiler:

       #ifndef PB_SIZE
       #define PB_NAME "gemm"
       #define PB_TEMPLATE "../gemm/gemm.c"       (relative to this header's folder)
       #include "../common/polybench.h"
       #else
       #define NI PICK(20, 60, 200, 1000, 2000)   (one value for each size)
       static void FN(run)(void) { ... }          (FN gives each size its own name)
       #endif

   run() allocates and fills the arrays, calls pb_start(), the kernel, pb_stop(), and hands every
   live-out array to pb_out(). Arrays never overlap, so the kernels say `restrict`.
   Command line, checksum and formats: README.md in the folder above. */
#ifndef POLYBENCH_H
#define POLYBENCH_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PB_JOIN_(a, b) a##b
#define PB_JOIN(a, b) PB_JOIN_(a, b)
#define FN(name) PB_JOIN(name##_, PB_SIZE)

#define PICK_0(mini, small, medium, large, extralarge) mini
#define PICK_1(mini, small, medium, large, extralarge) small
#define PICK_2(mini, small, medium, large, extralarge) medium
#define PICK_3(mini, small, medium, large, extralarge) large
#define PICK_4(mini, small, medium, large, extralarge) extralarge
#define PICK(...) PB_JOIN(PICK_, PB_SIZE)(__VA_ARGS__)

/* The kernel is a function of its own, so that no work moves out of or into the timed part. */
#define KERNEL __attribute__((noinline)) static

enum pb_type { PB_F64, PB_F32, PB_I32 };

/* Which elements of a square array are live-out: all, or a triangle with its diagonal. */
enum pb_part { PB_ALL, PB_LOWER, PB_UPPER };

/* Memory for an array, on the heap, aligned to 64 bytes, not cleared. Ends the program when there is none. */
void *pb_array(size_t bytes);

/* Round the kernel's call. */
void pb_start(void);
void pb_stop(void);

/* Adds a live-out array of rows * columns values to the checksum, and dumps it if asked. */
void pb_out(const char *name, const void *values, enum pb_type type, size_t rows, size_t columns, enum pb_part part);

/* The positive definite input of cholesky, lu and ludcmp. */
void pb_positive_definite(double *matrix, int n);

int pb_main(int argc, char **argv, const char *kernel, void (*const runs[5])(void));

/* The five instances, and the program. polybench.c, which has no kernel, leaves them out. */
#ifdef PB_TEMPLATE

#define PB_SIZE 0
#include PB_TEMPLATE
#undef PB_SIZE
#define PB_SIZE 1
#include PB_TEMPLATE
#undef PB_SIZE
#define PB_SIZE 2
#include PB_TEMPLATE
#undef PB_SIZE
#define PB_SIZE 3
#include PB_TEMPLATE
#undef PB_SIZE
#define PB_SIZE 4
#include PB_TEMPLATE
#undef PB_SIZE

int main(int argc, char **argv) {
    static void (*const runs[5])(void) = {run_0, run_1, run_2, run_3, run_4};
    return pb_main(argc, argv, PB_NAME, runs);
}

#endif
#endif
