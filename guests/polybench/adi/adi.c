/* adi: the heat equation on a square by alternating directions (D. Peaceman, H. Rachford, 1955):
   each half step solves a tridiagonal system for every column, then for every row.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), stencils/adi. */
#ifndef PB_SIZE
#define PB_NAME "adi"
#define PB_TEMPLATE "../adi/adi.c"
#include "../common/polybench.h"
#else

#define TSTEPS PICK(20, 40, 100, 500, 1000)
#define N PICK(20, 60, 200, 1000, 2000)

static void FN(init)(double u[N][N]) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++)
            u[i][j] = (double)(i + N - j) / N;
}

KERNEL void FN(kernel)(double u[restrict N][N], double v[restrict N][N], double p[restrict N][N],
                       double q[restrict N][N]) {
    const double dx = 1.0 / N, dy = 1.0 / N, dt = 1.0 / TSTEPS;
    const double mul1 = 2.0 * dt / (dx * dx), mul2 = 1.0 * dt / (dy * dy);
    /* The tridiagonal matrices have the rows (a b c) and (d e f). */
    const double a = -mul1 / 2, b = 1 + mul1, c = a;
    const double d = -mul2 / 2, e = 1 + mul2, f = d;

    for (int t = 1; t <= TSTEPS; t++) {
        for (int i = 1; i < N - 1; i++) { /* Columns: u to v. */
            v[0][i] = 1;
            p[i][0] = 0;
            q[i][0] = v[0][i];
            for (int j = 1; j < N - 1; j++) {
                p[i][j] = -c / (a * p[i][j - 1] + b);
                q[i][j] = (-d * u[j][i - 1] + (1 + 2 * d) * u[j][i] - f * u[j][i + 1] - a * q[i][j - 1]) /
                          (a * p[i][j - 1] + b);
            }
            v[N - 1][i] = 1;
            for (int j = N - 2; j >= 1; j--)
                v[j][i] = p[i][j] * v[j + 1][i] + q[i][j];
        }
        for (int i = 1; i < N - 1; i++) { /* Rows: v to u. */
            u[i][0] = 1;
            p[i][0] = 0;
            q[i][0] = u[i][0];
            for (int j = 1; j < N - 1; j++) {
                p[i][j] = -f / (d * p[i][j - 1] + e);
                q[i][j] = (-a * v[i - 1][j] + (1 + 2 * a) * v[i][j] - c * v[i + 1][j] - d * q[i][j - 1]) /
                          (d * p[i][j - 1] + e);
            }
            u[i][N - 1] = 1;
            for (int j = N - 2; j >= 1; j--)
                u[i][j] = p[i][j] * u[i][j + 1] + q[i][j];
        }
    }
}

static void FN(run)(void) {
    double(*u)[N] = pb_array(sizeof(double[N][N]));
    double(*v)[N] = pb_array(sizeof(double[N][N]));
    double(*p)[N] = pb_array(sizeof(double[N][N]));
    double(*q)[N] = pb_array(sizeof(double[N][N]));
    FN(init)(u);
    pb_start();
    FN(kernel)(u, v, p, q);
    pb_stop();
    pb_out("u", u, PB_F64, N, N, PB_ALL);
}

#endif
