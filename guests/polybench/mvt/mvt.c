/* mvt: x1 := x1 + A y1 and x2 := x2 + A' y2.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), linear-algebra/kernels/mvt. */
#ifndef PB_SIZE
#define PB_NAME "mvt"
#define PB_TEMPLATE "../mvt/mvt.c"
#include "../common/polybench.h"
#else

#define N PICK(40, 120, 400, 2000, 4000)

static void FN(init)(double x1[N], double x2[N], double y1[N], double y2[N], double A[N][N]) {
    for (int i = 0; i < N; i++) {
        x1[i] = (double)(i % N) / N;
        x2[i] = (double)((i + 1) % N) / N;
        y1[i] = (double)((i + 3) % N) / N;
        y2[i] = (double)((i + 4) % N) / N;
        for (int j = 0; j < N; j++)
            A[i][j] = (double)(i * j % N) / N;
    }
}

KERNEL void FN(kernel)(double x1[restrict N], double x2[restrict N], const double y1[restrict N],
                       const double y2[restrict N], const double A[restrict N][N]) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            x1[i] += A[i][j] * y1[j];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            x2[i] += A[j][i] * y2[j];
}

static void FN(run)(void) {
    double(*A)[N] = pb_array(sizeof(double[N][N]));
    double *x1 = pb_array(sizeof(double[N]));
    double *x2 = pb_array(sizeof(double[N]));
    double *y1 = pb_array(sizeof(double[N]));
    double *y2 = pb_array(sizeof(double[N]));
    FN(init)(x1, x2, y1, y2, A);
    pb_start();
    FN(kernel)(x1, x2, y1, y2, A);
    pb_stop();
    pb_out("x1", x1, PB_F64, 1, N, PB_ALL);
    pb_out("x2", x2, PB_F64, 1, N, PB_ALL);
}

#endif
