/* 2mm: D := alpha A B C + beta D.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), linear-algebra/kernels/2mm. */
#ifndef PB_SIZE
#define PB_NAME "2mm"
#define PB_TEMPLATE "../2mm/2mm.c"
#include "../common/polybench.h"
#else

#define NI PICK(16, 40, 180, 800, 1600)
#define NJ PICK(18, 50, 190, 900, 1800)
#define NK PICK(22, 70, 210, 1100, 2200)
#define NL PICK(24, 80, 220, 1200, 2400)

static void FN(init)(double A[NI][NK], double B[NK][NJ], double C[NJ][NL], double D[NI][NL]) {
    for (int i = 0; i < NI; i++)
        for (int j = 0; j < NK; j++)
            A[i][j] = (double)((i * j + 1) % NI) / NI;
    for (int i = 0; i < NK; i++)
        for (int j = 0; j < NJ; j++)
            B[i][j] = (double)(i * (j + 1) % NJ) / NJ;
    for (int i = 0; i < NJ; i++)
        for (int j = 0; j < NL; j++)
            C[i][j] = (double)((i * (j + 3) + 1) % NL) / NL;
    for (int i = 0; i < NI; i++)
        for (int j = 0; j < NL; j++)
            D[i][j] = (double)(i * (j + 2) % NK) / NK;
}

KERNEL void FN(kernel)(double alpha, double beta, double tmp[restrict NI][NJ], const double A[restrict NI][NK],
                       const double B[restrict NK][NJ], const double C[restrict NJ][NL], double D[restrict NI][NL]) {
    for (int i = 0; i < NI; i++)
        for (int j = 0; j < NJ; j++) {
            tmp[i][j] = 0;
            for (int k = 0; k < NK; k++)
                tmp[i][j] += alpha * A[i][k] * B[k][j];
        }
    for (int i = 0; i < NI; i++)
        for (int j = 0; j < NL; j++) {
            D[i][j] *= beta;
            for (int k = 0; k < NJ; k++)
                D[i][j] += tmp[i][k] * C[k][j];
        }
}

static void FN(run)(void) {
    double(*tmp)[NJ] = pb_array(sizeof(double[NI][NJ]));
    double(*A)[NK] = pb_array(sizeof(double[NI][NK]));
    double(*B)[NJ] = pb_array(sizeof(double[NK][NJ]));
    double(*C)[NL] = pb_array(sizeof(double[NJ][NL]));
    double(*D)[NL] = pb_array(sizeof(double[NI][NL]));
    FN(init)(A, B, C, D);
    pb_start();
    FN(kernel)(1.5, 1.2, tmp, A, B, C, D);
    pb_stop();
    pb_out("D", D, PB_F64, NI, NL, PB_ALL);
}

#endif
