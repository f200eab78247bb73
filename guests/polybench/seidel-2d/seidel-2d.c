/* seidel-2d: the mean of a point and its eight neighbours in place, over and over, inside a fixed border.
   Each point reads four values of this sweep and four of the last one.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), stencils/seidel-2d. */
#ifndef PB_SIZE
#define PB_NAME "seidel-2d"
#define PB_TEMPLATE "../seidel-2d/seidel-2d.c"
#include "../common/polybench.h"
#else

#define TSTEPS PICK(20, 40, 100, 500, 1000)
#define N PICK(40, 120, 400, 2000, 4000)

static void FN(init)(double A[N][N]) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            A[i][j] = ((double)i * (j + 2) + 2) / N;
}

KERNEL void FN(kernel)(double A[N][N]) {
    for (int t = 0; t < TSTEPS; t++)
        for (int i = 1; i < N - 1; i++)
            for (int j = 1; j < N - 1; j++)
                A[i][j] = (A[i - 1][j - 1] + A[i - 1][j] + A[i - 1][j + 1] + A[i][j - 1] + A[i][j] + A[i][j + 1] +
                           A[i + 1][j - 1] + A[i + 1][j] + A[i + 1][j + 1]) /
                          9.0;
}

static void FN(run)(void) {
    double(*A)[N] = pb_array(sizeof(double[N][N]));
    FN(init)(A);
    pb_start();
    FN(kernel)(A);
    pb_stop();
    pb_out("A", A, PB_F64, N, N, PB_ALL);
}

#endif
