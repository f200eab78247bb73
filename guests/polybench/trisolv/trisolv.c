/* trisolv: L x = b by forward substitution, for a lower triangular L.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), linear-algebra/solvers/trisolv. */
#ifndef PB_SIZE
#define PB_NAME "trisolv"
#define PB_TEMPLATE "../trisolv/trisolv.c"
#include "../common/polybench.h"
#else

#define N PICK(40, 120, 400, 2000, 4000)

static void FN(init)(double L[N][N], double b[N]) {
    for (int i = 0; i < N; i++) {
        b[i] = i;
        for (int j = 0; j <= i; j++)
            L[i][j] = (double)(i + N - j + 1) * 2 / N;
    }
}

KERNEL void FN(kernel)(const double L[restrict N][N], double x[restrict N], const double b[restrict N]) {
    for (int i = 0; i < N; i++) {
        x[i] = b[i];
        for (int j = 0; j < i; j++)
            x[i] -= L[i][j] * x[j];
        x[i] = x[i] / L[i][i];
    }
}

static void FN(run)(void) {
    double(*L)[N] = pb_array(sizeof(double[N][N]));
    double *x = pb_array(sizeof(double[N]));
    double *b = pb_array(sizeof(double[N]));
    FN(init)(L, b);
    pb_start();
    FN(kernel)(L, x, b);
    pb_stop();
    pb_out("x", x, PB_F64, 1, N, PB_ALL);
}

#endif
