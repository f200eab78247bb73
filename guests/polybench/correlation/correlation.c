/* correlation: the Pearson correlation of every pair of M attributes over N observations.
   A deviation of 0.1 or less counts as 1, so that a nearly constant attribute is not divided by zero.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), datamining/correlation. */
#ifndef PB_SIZE
#define PB_NAME "correlation"
#define PB_TEMPLATE "../correlation/correlation.c"
#include "../common/polybench.h"
#else

#define M PICK(28, 80, 240, 1200, 2600)
#define N PICK(32, 100, 260, 1400, 3000)

static void FN(init)(double data[N][M]) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < M; j++)
            data[i][j] = (double)(i * j) / M + i;
}

KERNEL void FN(kernel)(double data[restrict N][M], double corr[restrict M][M], double mean[restrict M],
                       double stddev[restrict M]) {
    for (int j = 0; j < M; j++) {
        mean[j] = 0;
        for (int i = 0; i < N; i++)
            mean[j] += data[i][j];
        mean[j] /= N;
    }
    for (int j = 0; j < M; j++) {
        stddev[j] = 0;
        for (int i = 0; i < N; i++)
            stddev[j] += (data[i][j] - mean[j]) * (data[i][j] - mean[j]);
        stddev[j] = sqrt(stddev[j] / N);
        if (stddev[j] <= 0.1)
            stddev[j] = 1;
    }
    /* Standard scores, scaled so that a sum of products is the correlation itself. */
    for (int i = 0; i < N; i++)
        for (int j = 0; j < M; j++)
            data[i][j] = (data[i][j] - mean[j]) / (sqrt((double)N) * stddev[j]);
    for (int i = 0; i < M; i++) {
        corr[i][i] = 1;
        for (int j = i + 1; j < M; j++) {
            corr[i][j] = 0;
            for (int k = 0; k < N; k++)
                corr[i][j] += data[k][i] * data[k][j];
            corr[j][i] = corr[i][j];
        }
    }
}

static void FN(run)(void) {
    double(*data)[M] = pb_array(sizeof(double[N][M]));
    double(*corr)[M] = pb_array(sizeof(double[M][M]));
    double *mean = pb_array(sizeof(double[M]));
    double *stddev = pb_array(sizeof(double[M]));
    FN(init)(data);
    pb_start();
    FN(kernel)(data, corr, mean, stddev);
    pb_stop();
    pb_out("corr", corr, PB_F64, M, M, PB_ALL);
}

#endif
