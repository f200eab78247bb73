/* durbin: the Yule-Walker equations T y = -r by the recursion of Levinson and Durbin, where T is
   the symmetric Toeplitz matrix with the first column 1, r[0], ..., r[N-2].
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), linear-algebra/solvers/durbin. */
#ifndef PB_SIZE
#define PB_NAME "durbin"
#define PB_TEMPLATE "../durbin/durbin.c"
#include "../common/polybench.h"
#else

#define N PICK(40, 120, 400, 2000, 4000)

static void FN(init)(double r[N]) {
    for (int i = 0; i < N; i++)
        r[i] = N + 1 - i;
}

KERNEL void FN(kernel)(const double r[restrict N], double y[restrict N], double z[restrict N]) {
    double alpha = -r[0];
    double beta = 1;
    y[0] = -r[0];
    for (int k = 1; k < N; k++) {
        beta *= 1 - alpha * alpha;
        double sum = 0;
        for (int i = 0; i < k; i++)
            sum += r[k - i - 1] * y[i];
        alpha = -(r[k] + sum) / beta;
        for (int i = 0; i < k; i++)
            z[i] = y[i] + alpha * y[k - i - 1];
        for (int i = 0; i < k; i++)
            y[i] = z[i];
        y[k] = alpha;
    }
}

static void FN(run)(void) {
    double *r = pb_array(sizeof(double[N]));
    double *y = pb_array(sizeof(double[N]));
    double *z = pb_array(sizeof(double[N]));
    FN(init)(r);
    pb_start();
    FN(kernel)(r, y, z);
    pb_stop();
    pb_out("y", y, PB_F64, 1, N, PB_ALL);
}

#endif
