/* syr2k: C := alpha A B' + alpha B A' + beta C, on the lower triangle of C.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), linear-algebra/blas/syr2k. */
#ifndef PB_SIZE
#define PB_NAME "syr2k"
#define PB_TEMPLATE "../syr2k/syr2k.c"
#include "../common/polybench.h"
#else

#define M PICK(20, 60, 200, 1000, 2000)
#define N PICK(30, 80, 240, 1200, 2600)

static void FN(init)(double C[N][N], double A[N][M], double B[N][M]) {
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < M; j++) {
            A[i][j] = (double)((i * j + 1) % N) / N;
            B[i][j] = (double)((i * j + 2) % M) / M;
        }
        for (int j = 0; j < N; j++)
            C[i][j] = (double)((i * j + 3) % N) / M;
    }
}

KERNEL void FN(kernel)(double alpha, double beta, double C[restrict N][N], const double A[restrict N][M],
                       const double B[restrict N][M]) {
    for (int i = 0; i < N; i++) {
        for (int j = 0; j <= i; j++)
            C[i][j] *= beta;
        for (int k = 0; k < M; k++)
            for (int j = 0; j <= i; j++)
                C[i][j] += A[j][k] * alpha * B[i][k] + B[j][k] * alpha * A[i][k];
    }
}

static void FN(run)(void) {
    double(*C)[N] = pb_array(sizeof(double[N][N]));
    double(*A)[M] = pb_array(sizeof(double[N][M]));
    double(*B)[M] = pb_array(sizeof(double[N][M]));
    FN(init)(C, A, B);
    pb_start();
    FN(kernel)(1.5, 1.2, C, A, B);
    pb_stop();
    pb_out("C", C, PB_F64, N, N, PB_ALL);
}

#endif
