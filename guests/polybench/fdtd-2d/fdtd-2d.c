/* fdtd-2d: Maxwell's equations in two dimensions by finite differences in time (K. Yee, 1966):
   the electric field ex, ey and the magnetic field hz in turn.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), stencils/fdtd-2d. */
#ifndef PB_SIZE
#define PB_NAME "fdtd-2d"
#define PB_TEMPLATE "../fdtd-2d/fdtd-2d.c"
#include "../common/polybench.h"
#else

#define TMAX PICK(20, 40, 100, 500, 1000)
#define NX PICK(20, 60, 200, 1000, 2000)
#define NY PICK(30, 80, 240, 1200, 2600)

static void FN(init)(double ex[NX][NY], double ey[NX][NY], double hz[NX][NY], double source[TMAX]) {
    for (int t = 0; t < TMAX; t++)
        source[t] = t;
    for (int i = 0; i < NX; i++)
        for (int j = 0; j < NY; j++) {
            ex[i][j] = (double)i * (j + 1) / NX;
            ey[i][j] = (double)i * (j + 2) / NY;
            hz[i][j] = (double)i * (j + 3) / NX;
        }
}

KERNEL void FN(kernel)(double ex[restrict NX][NY], double ey[restrict NX][NY], double hz[restrict NX][NY],
                       const double source[restrict TMAX]) {
    for (int t = 0; t < TMAX; t++) {
        for (int j = 0; j < NY; j++)
            ey[0][j] = source[t];
        for (int i = 1; i < NX; i++)
            for (int j = 0; j < NY; j++)
                ey[i][j] -= 0.5 * (hz[i][j] - hz[i - 1][j]);
        for (int i = 0; i < NX; i++)
            for (int j = 1; j < NY; j++)
                ex[i][j] -= 0.5 * (hz[i][j] - hz[i][j - 1]);
        for (int i = 0; i < NX - 1; i++)
            for (int j = 0; j < NY - 1; j++)
                hz[i][j] -= 0.7 * (ex[i][j + 1] - ex[i][j] + ey[i + 1][j] - ey[i][j]);
    }
}

static void FN(run)(void) {
    double(*ex)[NY] = pb_array(sizeof(double[NX][NY]));
    double(*ey)[NY] = pb_array(sizeof(double[NX][NY]));
    double(*hz)[NY] = pb_array(sizeof(double[NX][NY]));
    double *source = pb_array(sizeof(double[TMAX]));
    FN(init)(ex, ey, hz, source);
    pb_start();
    FN(kernel)(ex, ey, hz, source);
    pb_stop();
    pb_out("ex", ex, PB_F64, NX, NY, PB_ALL);
    pb_out("ey", ey, PB_F64, NX, NY, PB_ALL);
    pb_out("hz", hz, PB_F64, NX, NY, PB_ALL);
}

#endif
