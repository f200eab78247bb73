/* symm: C := alpha A B + beta C with a symmetric A, of which only the lower triangle is read.
   The upper triangle holds -999, which shows in the result if it is read.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), linear-algebra/blas/symm. */
#ifndef PB_SIZE
#define PB_NAME "symm"
#define PB_TEMPLATE "../symm/symm.c"
#include "../common/polybench.h"
#else

#define M PICK(20, 60, 200, 1000, 2000)
#define N PICK(30, 80, 240, 1200, 2600)

static void FN(init)(double C[M][N], double A[M][M], double B[M][N]) {
    for (int i = 0; i < M; i++) {
        for (int j = 0; j < N; j++) {
            C[i][j] = (double)((i + j) % 100) / M;
            B[i][j] = (double)((N + i - j) % 100) / M;
        }
        for (int j = 0; j < M; j++)
            A[i][j] = j <= i ? (double)((i + j) % 100) / M : -999;
    }
}

KERNEL void FN(kernel)(double alpha, double beta, double C[restrict M][N], const double A[restrict M][M],
                       const double B[restrict M][N]) {
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            double sum = 0;
            for (int k = 0; k < i; k++) {
                C[k][j] += alpha * B[i][j] * A[i][k];
                sum += B[k][j] * A[i][k];
            }
            C[i][j] = beta * C[i][j] + alpha * B[i][j] * A[i][i] + alpha * sum;
        }
}

static void FN(run)(void) {
    double(*C)[N] = pb_array(sizeof(double[M][N]));
    double(*A)[M] = pb_array(sizeof(double[M][M]));
    double(*B)[N] = pb_array(sizeof(double[M][N]));
    FN(init)(C, A, B);
    pb_start();
    FN(kernel)(1.5, 1.2, C, A, B);
    pb_stop();
    pb_out("C", C, PB_F64, M, N, PB_ALL);
}

#endif
