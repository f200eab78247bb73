/* gemm: C := alpha A B + beta C.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), linear-algebra/blas/gemm. */
#ifndef PB_SIZE
#define PB_NAME "gemm"
#define PB_TEMPLATE "../gemm/gemm.c"
#include "../common/polybench.h"
#else

#define NI PICK(20, 60, 200, 1000, 2000)
#define NJ PICK(25, 70, 220, 1100, 2300)
#define NK PICK(30, 80, 240, 1200, 2600)

static void FN(init)(double C[NI][NJ], double A[NI][NK], double B[NK][NJ]) {
    for (int i = 0; i < NI; i++)
        for (int j = 0; j < NJ; j++)
            C[i][j] = (double)((i * j + 1) % NI) / NI;
    for (int i = 0; i < NI; i++)
        for (int k = 0; k < NK; k++)
            A[i][k] = (double)(i * (k + 1) % NK) / NK;
    for (int k = 0; k < NK; k++)
        for (int j = 0; j < NJ; j++)
            B[k][j] = (double)(k * (j + 2) % NJ) / NJ;
}

KERNEL void FN(kernel)(double alpha, double beta, double C[restrict NI][NJ], const double A[restrict NI][NK],
                       const double B[restrict NK][NJ]) {
    for (int i = 0; i < NI; i++) {
        for (int j = 0; j < NJ; j++)
            C[i][j] *= beta;
        for (int k = 0; k < NK; k++)
            for (int j = 0; j < NJ; j++)
                C[i][j] += alpha * A[i][k] * B[k][j];
    }
}

static void FN(run)(void) {
    double(*C)[NJ] = pb_array(sizeof(double[NI][NJ]));
    double(*A)[NK] = pb_array(sizeof(double[NI][NK]));
    double(*B)[NJ] = pb_array(sizeof(double[NK][NJ]));
    FN(init)(C, A, B);
    pb_start();
    FN(kernel)(1.5, 1.2, C, A, B);
    pb_stop();
    pb_out("C", C, PB_F64, NI, NJ, PB_ALL);
}

#endif
