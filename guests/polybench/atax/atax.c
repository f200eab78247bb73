/* atax: y := A' (A x).
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), linear-algebra/kernels/atax. */
#ifndef PB_SIZE
#define PB_NAME "atax"
#define PB_TEMPLATE "../atax/atax.c"
#include "../common/polybench.h"
#else

/* The published EXTRALARGE has the fewer rows. */
#define M PICK(38, 116, 390, 1900, 1800)
#define N PICK(42, 124, 410, 2100, 2200)

static void FN(init)(double A[M][N], double x[N]) {
    for (int i = 0; i < N; i++)
        x[i] = 1 + (double)i / N;
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++)
            A[i][j] = (double)((i + j) % N) / (5 * M);
}

KERNEL void FN(kernel)(const double A[restrict M][N], const double x[restrict N], double y[restrict N],
                       double tmp[restrict M]) {
    for (int j = 0; j < N; j++)
        y[j] = 0;
    for (int i = 0; i < M; i++) {
        tmp[i] = 0;
        for (int j = 0; j < N; j++)
            tmp[i] += A[i][j] * x[j];
        for (int j = 0; j < N; j++)
            y[j] += A[i][j] * tmp[i];
    }
}

static void FN(run)(void) {
    double(*A)[N] = pb_array(sizeof(double[M][N]));
    double *x = pb_array(sizeof(double[N]));
    double *y = pb_array(sizeof(double[N]));
    double *tmp = pb_array(sizeof(double[M]));
    FN(init)(A, x);
    pb_start();
    FN(kernel)(A, x, y, tmp);
    pb_stop();
    pb_out("y", y, PB_F64, 1, N, PB_ALL);
}

#endif
