/* lu: A = L U without pivoting, in place, L with a diagonal of ones.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), linear-algebra/solvers/lu. */
#ifndef PB_SIZE
#define PB_NAME "lu"
#define PB_TEMPLATE "../lu/lu.c"
#include "../common/polybench.h"
#else

#define N PICK(40, 120, 400, 2000, 4000)

KERNEL void FN(kernel)(double A[N][N]) {
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < i; j++) {
            for (int k = 0; k < j; k++)
                A[i][j] -= A[i][k] * A[k][j];
            A[i][j] /= A[j][j];
        }
        for (int j = i; j < N; j++)
            for (int k = 0; k < i; k++)
                A[i][j] -= A[i][k] * A[k][j];
    }
}

static void FN(run)(void) {
    double(*A)[N] = pb_array(sizeof(double[N][N]));
    pb_positive_definite(*A, N);
    pb_start();
    FN(kernel)(A);
    pb_stop();
    pb_out("A", A, PB_F64, N, N, PB_ALL);
}

#endif
