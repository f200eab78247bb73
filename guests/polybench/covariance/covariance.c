/* covariance: the covariance of every pair of M attributes over N observations.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), datamining/covariance. */
#ifndef PB_SIZE
#define PB_NAME "covariance"
#define PB_TEMPLATE "../covariance/covariance.c"
#include "../common/polybench.h"
#else

#define M PICK(28, 80, 240, 1200, 2600)
#define N PICK(32, 100, 260, 1400, 3000)

static void FN(init)(double data[N][M]) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < M; j++)
            data[i][j] = (double)(i * j) / M;
}

KERNEL void FN(kernel)(double data[restrict N][M], double cov[restrict M][M], double mean[restrict M]) {
    for (int j = 0; j < M; j++) {
        mean[j] = 0;
        for (int i = 0; i < N; i++)
            mean[j] += data[i][j];
        mean[j] /= N;
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < M; j++)
            data[i][j] -= mean[j];
    for (int i = 0; i < M; i++)
        for (int j = i; j < M; j++) {
            cov[i][j] = 0;
            for (int k = 0; k < N; k++)
                cov[i][j] += data[k][i] * data[k][j];
            cov[i][j] /= N - 1.0;
            cov[j][i] = cov[i][j];
        }
}

static void FN(run)(void) {
    double(*data)[M] = pb_array(sizeof(double[N][M]));
    double(*cov)[M] = pb_array(sizeof(double[M][M]));
    double *mean = pb_array(sizeof(double[M]));
    FN(init)(data);
    pb_start();
    FN(kernel)(data, cov, mean);
    pb_stop();
    pb_out("cov", cov, PB_F64, M, M, PB_ALL);
}

#endif
