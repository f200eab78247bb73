/* ludcmp: A x = b by the decomposition A = L U without pivoting and two substitutions.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), linear-algebra/solvers/ludcmp. */
#ifndef PB_SIZE
#define PB_NAME "ludcmp"
#define PB_TEMPLATE "../ludcmp/ludcmp.c"
#include "../common/polybench.h"
#else

#define N PICK(40, 120, 400, 2000, 4000)

static void FN(init)(double A[N][N], double b[N]) {
    for (int i = 0; i < N; i++)
        b[i] = (double)(i + 1) / N / 2 + 4;
    pb_positive_definite(*A, N);
}

KERNEL void FN(kernel)(double A[restrict N][N], const double b[restrict N], double x[restrict N], double y[restrict N]) {
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < i; j++) {
            double w = A[i][j];
            for (int k = 0; k < j; k++)
                w -= A[i][k] * A[k][j];
            A[i][j] = w / A[j][j];
        }
        for (int j = i; j < N; j++) {
            double w = A[i][j];
            for (int k = 0; k < i; k++)
                w -= A[i][k] * A[k][j];
            A[i][j] = w;
        }
    }
    for (int i = 0; i < N; i++) {
        double w = b[i];
        for (int j = 0; j < i; j++)
            w -= A[i][j] * y[j];
        y[i] = w;
    }
    for (int i = N - 1; i >= 0; i--) {
        double w = y[i];
        for (int j = i + 1; j < N; j++)
            w -= A[i][j] * x[j];
        x[i] = w / A[i][i];
    }
}

static void FN(run)(void) {
    double(*A)[N] = pb_array(sizeof(double[N][N]));
    double *b = pb_array(sizeof(double[N]));
    double *x = pb_array(sizeof(double[N]));
    double *y = pb_array(sizeof(double[N]));
    FN(init)(A, b);
    pb_start();
    FN(kernel)(A, b, x, y);
    pb_stop();
    pb_out("x", x, PB_F64, 1, N, PB_ALL);
}

#endif
