/* jacobi-1d: the mean of three neighbours, over and over, between two fixed ends.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), stencils/jacobi-1d. */
#ifndef PB_SIZE
#define PB_NAME "jacobi-1d"
#define PB_TEMPLATE "../jacobi-1d/jacobi-1d.c"
#include "../common/polybench.h"
#else

#define TSTEPS PICK(20, 40, 100, 500, 1000)
#define N PICK(30, 120, 400, 2000, 4000)

static void FN(init)(double A[N], double B[N]) {
    for (int i = 0; i < N; i++) {
        A[i] = (double)(i + 2) / N;
        B[i] = (double)(i + 3) / N;
    }
}

KERNEL void FN(kernel)(double A[restrict N], double B[restrict N]) {
    for (int t = 0; t < TSTEPS; t++) {
        for (int i = 1; i < N - 1; i++)
            B[i] = 0.33333 * (A[i - 1] + A[i] + A[i + 1]);
        for (int i = 1; i < N - 1; i++)
            A[i] = 0.33333 * (B[i - 1] + B[i] + B[i + 1]);
    }
}

static void FN(run)(void) {
    double *A = pb_array(sizeof(double[N]));
    double *B = pb_array(sizeof(double[N]));
    FN(init)(A, B);
    pb_start();
    FN(kernel)(A, B);
    pb_stop();
    pb_out("A", A, PB_F64, 1, N, PB_ALL);
}

#endif
