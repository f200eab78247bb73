/* cholesky: the lower triangular L with L L' = A, in place, for a positive definite A.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), linear-algebra/solvers/cholesky. */
#ifndef PB_SIZE
#define PB_NAME "cholesky"
#define PB_TEMPLATE "../cholesky/cholesky.c"
#include "../common/polybench.h"
#else

#define N PICK(40, 120, 400, 2000, 4000)

KERNEL void FN(kernel)(double A[N][N]) {
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < i; j++) {
            for (int k = 0; k < j; k++)
                A[i][j] -= A[i][k] * A[j][k];
            A[i][j] /= A[j][j];
        }
        for (int k = 0; k < i; k++)
            A[i][i] -= A[i][k] * A[i][k];
        A[i][i] = sqrt(A[i][i]);
    }
}

static void FN(run)(void) {
    double(*A)[N] = pb_array(sizeof(double[N][N]));
    pb_positive_definite(*A, N);
    pb_start();
    FN(kernel)(A);
    pb_stop();
    pb_out("A", A, PB_F64, N, N, PB_LOWER);
}

#endif
