/* gramschmidt: A = Q R by the modified Gram-Schmidt process.
   The published input is M by N with M < N and has equal columns besides, so most columns depend on
   those before them. What is left of such a column after the projections is rounding error, or zero,
   and dividing it by its norm gives noise, or NaN. Here a column that has lost all but a trace of its
   length gives zeros in Q and on the diagonal of R; the loops are the same for it.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), linear-algebra/solvers/gramschmidt. */
#ifndef PB_SIZE
#define PB_NAME "gramschmidt"
#define PB_TEMPLATE "../gramschmidt/gramschmidt.c"
#include "../common/polybench.h"
#else

#define M PICK(20, 60, 200, 1000, 2000)
#define N PICK(30, 80, 240, 1200, 2600)
/* A squared length. Columns begin with 100 M or more; then independent ones keep more than 1 M here, and
   dependent ones less than 1e-20 M. */
#define TRACE (1e-10 * M)

static void FN(init)(double A[M][N], double R[N][N], double Q[M][N]) {
    for (int i = 0; i < M; i++)
        for (int j = 0; j < N; j++) {
            A[i][j] = (double)(i * j % M) / M * 100 + 10;
            Q[i][j] = 0;
        }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            R[i][j] = 0;
}

KERNEL void FN(kernel)(double A[restrict M][N], double R[restrict N][N], double Q[restrict M][N]) {
    for (int k = 0; k < N; k++) {
        double square = 0;
        for (int i = 0; i < M; i++)
            square += A[i][k] * A[i][k];
        bool independent = square > TRACE;
        R[k][k] = independent ? sqrt(square) : 0;
        for (int i = 0; i < M; i++)
            Q[i][k] = independent ? A[i][k] / R[k][k] : 0;
        for (int j = k + 1; j < N; j++) {
            R[k][j] = 0;
            for (int i = 0; i < M; i++)
                R[k][j] += Q[i][k] * A[i][j];
            for (int i = 0; i < M; i++)
                A[i][j] -= Q[i][k] * R[k][j];
        }
    }
}

static void FN(run)(void) {
    double(*A)[N] = pb_array(sizeof(double[M][N]));
    double(*R)[N] = pb_array(sizeof(double[N][N]));
    double(*Q)[N] = pb_array(sizeof(double[M][N]));
    FN(init)(A, R, Q);
    pb_start();
    FN(kernel)(A, R, Q);
    pb_stop();
    pb_out("R", R, PB_F64, N, N, PB_ALL);
    pb_out("Q", Q, PB_F64, M, N, PB_ALL);
}

#endif
