/* heat-3d: the heat equation on a cube, explicit in time, with fixed faces.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), stencils/heat-3d. */
#ifndef PB_SIZE
#define PB_NAME "heat-3d"
#define PB_TEMPLATE "../heat-3d/heat-3d.c"
#include "../common/polybench.h"
#else

#define TSTEPS PICK(20, 40, 100, 500, 1000)
#define N PICK(10, 20, 40, 120, 200)

static void FN(init)(double A[N][N][N], double B[N][N][N]) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            for (int k = 0; k < N; k++)
                A[i][j][k] = B[i][j][k] = (double)(i + j + (N - k)) * 10 / N;
}

static inline void FN(step)(double next[restrict N][N][N], double now[restrict N][N][N]) {
    for (int i = 1; i < N - 1; i++)
        for (int j = 1; j < N - 1; j++)
            for (int k = 1; k < N - 1; k++)
                next[i][j][k] = 0.125 * (now[i + 1][j][k] - 2.0 * now[i][j][k] + now[i - 1][j][k]) +
                                0.125 * (now[i][j + 1][k] - 2.0 * now[i][j][k] + now[i][j - 1][k]) +
                                0.125 * (now[i][j][k + 1] - 2.0 * now[i][j][k] + now[i][j][k - 1]) + now[i][j][k];
}

KERNEL void FN(kernel)(double A[restrict N][N][N], double B[restrict N][N][N]) {
    for (int t = 1; t <= TSTEPS; t++) {
        FN(step)(B, A);
        FN(step)(A, B);
    }
}

static void FN(run)(void) {
    double(*A)[N][N] = pb_array(sizeof(double[N][N][N]));
    double(*B)[N][N] = pb_array(sizeof(double[N][N][N]));
    FN(init)(A, B);
    pb_start();
    FN(kernel)(A, B);
    pb_stop();
    pb_out("A", A, PB_F64, N * N, N, PB_ALL);
}

#endif
