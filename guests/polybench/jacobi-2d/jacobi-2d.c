/* jacobi-2d: the mean of a point and its four neighbours, over and over, inside a fixed border.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), stencils/jacobi-2d. */
#ifndef PB_SIZE
#define PB_NAME "jacobi-2d"
#define PB_TEMPLATE "../jacobi-2d/jacobi-2d.c"
#include "../common/polybench.h"
#else

#define TSTEPS PICK(20, 40, 100, 500, 1000)
#define N PICK(30, 90, 250, 1300, 2800)

static void FN(init)(double A[N][N], double B[N][N]) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            A[i][j] = ((double)i * (j + 2) + 2) / N;
            B[i][j] = ((double)i * (j + 3) + 3) / N;
        }
}

static inline void FN(step)(double next[restrict N][N], double now[restrict N][N]) {
    for (int i = 1; i < N - 1; i++)
        for (int j = 1; j < N - 1; j++)
            next[i][j] = 0.2 * (now[i][j] + now[i][j - 1] + now[i][j + 1] + now[i + 1][j] + now[i - 1][j]);
}

KERNEL void FN(kernel)(double A[restrict N][N], double B[restrict N][N]) {
    for (int t = 0; t < TSTEPS; t++) {
        FN(step)(B, A);
        FN(step)(A, B);
    }
}

static void FN(run)(void) {
    double(*A)[N] = pb_array(sizeof(double[N][N]));
    double(*B)[N] = pb_array(sizeof(double[N][N]));
    FN(init)(A, B);
    pb_start();
    FN(kernel)(A, B);
    pb_stop();
    pb_out("A", A, PB_F64, N, N, PB_ALL);
}

#endif
