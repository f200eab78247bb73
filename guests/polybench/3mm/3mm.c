/* 3mm: G := (A B) (C D).
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), linear-algebra/kernels/3mm. */
#ifndef PB_SIZE
#define PB_NAME "3mm"
#define PB_TEMPLATE "../3mm/3mm.c"
#include "../common/polybench.h"
#else

#define NI PICK(16, 40, 180, 800, 1600)
#define NJ PICK(18, 50, 190, 900, 1800)
#define NK PICK(20, 60, 200, 1000, 2000)
#define NL PICK(22, 70, 210, 1100, 2200)
#define NM PICK(24, 80, 220, 1200, 2400)

static void FN(init)(double A[NI][NK], double B[NK][NJ], double C[NJ][NM], double D[NM][NL]) {
    for (int i = 0; i < NI; i++)
        for (int j = 0; j < NK; j++)
            A[i][j] = (double)((i * j + 1) % NI) / (5 * NI);
    for (int i = 0; i < NK; i++)
        for (int j = 0; j < NJ; j++)
            B[i][j] = (double)((i * (j + 1) + 2) % NJ) / (5 * NJ);
    for (int i = 0; i < NJ; i++)
        for (int j = 0; j < NM; j++)
            C[i][j] = (double)(i * (j + 3) % NL) / (5 * NL);
    for (int i = 0; i < NM; i++)
        for (int j = 0; j < NL; j++)
            D[i][j] = (double)((i * (j + 2) + 2) % NK) / (5 * NK);
}

KERNEL void FN(kernel)(double E[restrict NI][NJ], const double A[restrict NI][NK], const double B[restrict NK][NJ],
                       double F[restrict NJ][NL], const double C[restrict NJ][NM], const double D[restrict NM][NL],
                       double G[restrict NI][NL]) {
    for (int i = 0; i < NI; i++)
        for (int j = 0; j < NJ; j++) {
            E[i][j] = 0;
            for (int k = 0; k < NK; k++)
                E[i][j] += A[i][k] * B[k][j];
        }
    for (int i = 0; i < NJ; i++)
        for (int j = 0; j < NL; j++) {
            F[i][j] = 0;
            for (int k = 0; k < NM; k++)
                F[i][j] += C[i][k] * D[k][j];
        }
    for (int i = 0; i < NI; i++)
        for (int j = 0; j < NL; j++) {
            G[i][j] = 0;
            for (int k = 0; k < NJ; k++)
                G[i][j] += E[i][k] * F[k][j];
        }
}

static void FN(run)(void) {
    double(*E)[NJ] = pb_array(sizeof(double[NI][NJ]));
    double(*A)[NK] = pb_array(sizeof(double[NI][NK]));
    double(*B)[NJ] = pb_array(sizeof(double[NK][NJ]));
    double(*F)[NL] = pb_array(sizeof(double[NJ][NL]));
    double(*C)[NM] = pb_array(sizeof(double[NJ][NM]));
    double(*D)[NL] = pb_array(sizeof(double[NM][NL]));
    double(*G)[NL] = pb_array(sizeof(double[NI][NL]));
    FN(init)(A, B, C, D);
    pb_start();
    FN(kernel)(E, A, B, F, C, D, G);
    pb_stop();
    pb_out("G", G, PB_F64, NI, NL, PB_ALL);
}

#endif
