/* floyd-warshall: the lengths of the shortest paths between all pairs of N nodes.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), medley/floyd-warshall. */
#ifndef PB_SIZE
#define PB_NAME "floyd-warshall"
#define PB_TEMPLATE "../floyd-warshall/floyd-warshall.c"
#include "../common/polybench.h"
#else

#define N PICK(60, 180, 500, 2800, 5600)

static void FN(init)(int32_t path[N][N]) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            bool no_edge = (i + j) % 13 == 0 || (i + j) % 7 == 0 || (i + j) % 11 == 0;
            path[i][j] = no_edge ? 999 : i * j % 7 + 1;
        }
}

KERNEL void FN(kernel)(int32_t path[N][N]) {
    for (int k = 0; k < N; k++)
        for (int i = 0; i < N; i++)
            for (int j = 0; j < N; j++) {
                int32_t through = path[i][k] + path[k][j];
                path[i][j] = path[i][j] < through ? path[i][j] : through;
            }
}

static void FN(run)(void) {
    int32_t(*path)[N] = pb_array(sizeof(int32_t[N][N]));
    FN(init)(path);
    pb_start();
    FN(kernel)(path);
    pb_stop();
    pb_out("path", path, PB_I32, N, N, PB_ALL);
}

#endif
