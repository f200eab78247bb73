/* trmm: B := alpha A' B with a unit lower triangular A.
   The diagonal and the upper triangle of A are never read.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), linear-algebra/blas/trmm. */
#ifndef PB_SIZE
#define PB_NAME "trmm"
#define PB_TEMPLATE "../trmm/trmm.c"
#include "../common/polybench.h"
#else

#define M PICK(20, 60, 200, 1000, 2000)
#define N PICK(30, 80, 240, 1200, 2600)

static void FN(init)(double A[M][M], double B[M][N]) {
    for (int i = 0; i < M; i++) {
        for (int j = 0; j < i; j++)
            A[i][j] = (double)((i + j) % M) / M;
        A[i][i] = 1;
        for (int j = 0; j < N; j++)
            B[i][j] = (double)((N + i - j) % N) / N;
    }
}

KERNEL void FN(kernel)(double alpha, const double A[restrict M][M], double B[restrict M][N]) {
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            for (int k = i + 1; k < M; k++)
                B[i][j] += A[k][i] * B[k][j];
            B[i][j] = alpha * B[i][j];
        }
}

static void FN(run)(void) {
    double(*A)[M] = pb_array(sizeof(double[M][M]));
    double(*B)[N] = pb_array(sizeof(double[M][N]));
    FN(init)(A, B);
    pb_start();
    FN(kernel)(1.5, A, B);
    pb_stop();
    pb_out("B", B, PB_F64, M, N, PB_ALL);
}

#endif
