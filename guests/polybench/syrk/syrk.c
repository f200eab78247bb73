/* syrk: C := alpha A A' + beta C, on the lower triangle of C.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), linear-algebra/blas/syrk. */
#ifndef PB_SIZE
#define PB_NAME "syrk"
#define PB_TEMPLATE "../syrk/syrk.c"
#include "../common/polybench.h"
#else

#define M PICK(20, 60, 200, 1000, 2000)
#define N PICK(30, 80, 240, 1200, 2600)

static void FN(init)(double C[N][N], double A[N][M]) {
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < M; j++)
            A[i][j] = (double)((i * j + 1) % N) / N;
        for (int j = 0; j < N; j++)
            C[i][j] = (double)((i * j + 2) % M) / M;
    }
}

KERNEL void FN(kernel)(double alpha, double beta, double C[restrict N][N], const double A[restrict N][M]) {
    for (int i = 0; i < N; i++) {
        for (int j = 0; j <= i; j++)
            C[i][j] *= beta;
        for (int k = 0; k < M; k++)
            for (int j = 0; j <= i; j++)
                C[i][j] += alpha * A[i][k] * A[j][k];
    }
}

static void FN(run)(void) {
    double(*C)[N] = pb_array(sizeof(double[N][N]));
    double(*A)[M] = pb_array(sizeof(double[N][M]));
    FN(init)(C, A);
    pb_start();
    FN(kernel)(1.5, 1.2, C, A);
    pb_stop();
    pb_out("C", C, PB_F64, N, N, PB_ALL);
}

#endif
