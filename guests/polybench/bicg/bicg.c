/* bicg: the two products of the biconjugate gradient method, s := A' r and q := A p.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), linear-algebra/kernels/bicg. */
#ifndef PB_SIZE
#define PB_NAME "bicg"
#define PB_TEMPLATE "../bicg/bicg.c"
#include "../common/polybench.h"
#else

/* The published EXTRALARGE has the fewer columns. */
#define M PICK(38, 116, 390, 1900, 1800)
#define N PICK(42, 124, 410, 2100, 2200)

static void FN(init)(double A[N][M], double r[N], double p[M]) {
    for (int j = 0; j < M; j++)
        p[j] = (double)(j % M) / M;
    for (int i = 0; i < N; i++) {
        r[i] = (double)(i % N) / N;
        for (int j = 0; j < M; j++)
            A[i][j] = (double)(i * (j + 1) % N) / N;
    }
}

KERNEL void FN(kernel)(const double A[restrict N][M], double s[restrict M], double q[restrict N],
                       const double p[restrict M], const double r[restrict N]) {
    for (int j = 0; j < M; j++)
        s[j] = 0;
    for (int i = 0; i < N; i++) {
        q[i] = 0;
        for (int j = 0; j < M; j++) {
            s[j] += r[i] * A[i][j];
            q[i] += A[i][j] * p[j];
        }
    }
}

static void FN(run)(void) {
    double(*A)[M] = pb_array(sizeof(double[N][M]));
    double *s = pb_array(sizeof(double[M]));
    double *q = pb_array(sizeof(double[N]));
    double *p = pb_array(sizeof(double[M]));
    double *r = pb_array(sizeof(double[N]));
    FN(init)(A, r, p);
    pb_start();
    FN(kernel)(A, s, q, p, r);
    pb_stop();
    pb_out("s", s, PB_F64, 1, M, PB_ALL);
    pb_out("q", q, PB_F64, 1, N, PB_ALL);
}

#endif
