/* doitgen: A[r][q][p] := sum over s of A[r][q][s] C4[s][p], the multi-resolution kernel of MADNESS.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), linear-algebra/kernels/doitgen. */
#ifndef PB_SIZE
#define PB_NAME "doitgen"
#define PB_TEMPLATE "../doitgen/doitgen.c"
#include "../common/polybench.h"
#else

#define NQ PICK(8, 20, 40, 140, 220)
#define NR PICK(10, 25, 50, 150, 250)
#define NP PICK(12, 30, 60, 160, 270)

static void FN(init)(double A[NR][NQ][NP], double C4[NP][NP]) {
    for (int r = 0; r < NR; r++)
        for (int q = 0; q < NQ; q++)
            for (int p = 0; p < NP; p++)
                A[r][q][p] = (double)((r * q + p) % NP) / NP;
    for (int s = 0; s < NP; s++)
        for (int p = 0; p < NP; p++)
            C4[s][p] = (double)(s * p % NP) / NP;
}

KERNEL void FN(kernel)(double A[restrict NR][NQ][NP], const double C4[restrict NP][NP], double sum[restrict NP]) {
    for (int r = 0; r < NR; r++)
        for (int q = 0; q < NQ; q++) {
            for (int p = 0; p < NP; p++) {
                sum[p] = 0;
                for (int s = 0; s < NP; s++)
                    sum[p] += A[r][q][s] * C4[s][p];
            }
            for (int p = 0; p < NP; p++)
                A[r][q][p] = sum[p];
        }
}

static void FN(run)(void) {
    double(*A)[NQ][NP] = pb_array(sizeof(double[NR][NQ][NP]));
    double(*C4)[NP] = pb_array(sizeof(double[NP][NP]));
    double *sum = pb_array(sizeof(double[NP]));
    FN(init)(A, C4);
    pb_start();
    FN(kernel)(A, C4, sum);
    pb_stop();
    pb_out("A", A, PB_F64, NR * NQ, NP, PB_ALL);
}

#endif
