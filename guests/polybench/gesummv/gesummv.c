/* gesummv: y := alpha A x + beta B x.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), linear-algebra/blas/gesummv. */
#ifndef PB_SIZE
#define PB_NAME "gesummv"
#define PB_TEMPLATE "../gesummv/gesummv.c"
#include "../common/polybench.h"
#else

#define N PICK(30, 90, 250, 1300, 2800)

static void FN(init)(double A[N][N], double B[N][N], double x[N]) {
    for (int i = 0; i < N; i++) {
        x[i] = (double)(i % N) / N;
        for (int j = 0; j < N; j++) {
            A[i][j] = (double)((i * j + 1) % N) / N;
            B[i][j] = (double)((i * j + 2) % N) / N;
        }
    }
}

KERNEL void FN(kernel)(double alpha, double beta, const double A[restrict N][N], const double B[restrict N][N],
                       double tmp[restrict N], const double x[restrict N], double y[restrict N]) {
    for (int i = 0; i < N; i++) {
        tmp[i] = 0;
        y[i] = 0;
        for (int j = 0; j < N; j++) {
            tmp[i] += A[i][j] * x[j];
            y[i] += B[i][j] * x[j];
        }
        y[i] = alpha * tmp[i] + beta * y[i];
    }
}

static void FN(run)(void) {
    double(*A)[N] = pb_array(sizeof(double[N][N]));
    double(*B)[N] = pb_array(sizeof(double[N][N]));
    double *tmp = pb_array(sizeof(double[N]));
    double *x = pb_array(sizeof(double[N]));
    double *y = pb_array(sizeof(double[N]));
    FN(init)(A, B, x);
    pb_start();
    FN(kernel)(1.5, 1.2, A, B, tmp, x, y);
    pb_stop();
    pb_out("y", y, PB_F64, 1, N, PB_ALL);
}

#endif
