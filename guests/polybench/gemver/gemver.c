/* gemver: A := A + u1 v1' + u2 v2', x := beta A' y + z, w := alpha A x.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), linear-algebra/blas/gemver. */
#ifndef PB_SIZE
#define PB_NAME "gemver"
#define PB_TEMPLATE "../gemver/gemver.c"
#include "../common/polybench.h"
#else

#define N PICK(40, 120, 400, 2000, 4000)

struct FN(vectors) {
    double u1[N], v1[N], u2[N], v2[N], y[N], z[N];
};

static void FN(init)(double A[N][N], struct FN(vectors) * in, double w[N], double x[N]) {
    for (int i = 0; i < N; i++) {
        double step = (double)(i + 1) / N;
        in->u1[i] = i;
        in->u2[i] = step / 2;
        in->v1[i] = step / 4;
        in->v2[i] = step / 6;
        in->y[i] = step / 8;
        in->z[i] = step / 9;
        x[i] = 0;
        w[i] = 0;
        for (int j = 0; j < N; j++)
            A[i][j] = (double)(i * j % N) / N;
    }
}

KERNEL void FN(kernel)(double alpha, double beta, double A[restrict N][N], const struct FN(vectors) * restrict in,
                       double w[restrict N], double x[restrict N]) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            A[i][j] = A[i][j] + in->u1[i] * in->v1[j] + in->u2[i] * in->v2[j];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            x[i] += beta * A[j][i] * in->y[j];
    for (int i = 0; i < N; i++)
        x[i] += in->z[i];
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            w[i] += alpha * A[i][j] * x[j];
}

static void FN(run)(void) {
    double(*A)[N] = pb_array(sizeof(double[N][N]));
    struct FN(vectors) *in = pb_array(sizeof *in);
    double *w = pb_array(sizeof(double[N]));
    double *x = pb_array(sizeof(double[N]));
    FN(init)(A, in, w, x);
    pb_start();
    FN(kernel)(1.5, 1.2, A, in, w, x);
    pb_stop();
    pb_out("w", w, PB_F64, 1, N, PB_ALL);
}

#endif
