/* nussinov: the most base pairs that an RNA strand can form when folded without crossings
   (R. Nussinov et al., Algorithms for loop matchings, 1978). Bases are 0 to 3; those that add up to 3 pair.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), medley/nussinov. */
#ifndef PB_SIZE
#define PB_NAME "nussinov"
#define PB_TEMPLATE "../nussinov/nussinov.c"
#include "../common/polybench.h"
#else

#define N PICK(60, 180, 500, 2500, 5500)

static void FN(init)(int8_t strand[N], int32_t best[N][N]) {
    for (int i = 0; i < N; i++) {
        strand[i] = (int8_t)((i + 1) % 4);
        for (int j = 0; j < N; j++)
            best[i][j] = 0;
    }
}

static inline int32_t FN(larger)(int32_t a, int32_t b) {
    return a >= b ? a : b;
}

/* best[i][j] is for the bases i to j. Neighbours cannot pair. */
KERNEL void FN(kernel)(const int8_t strand[restrict N], int32_t best[restrict N][N]) {
    for (int i = N - 1; i >= 0; i--)
        for (int j = i + 1; j < N; j++) {
            best[i][j] = FN(larger)(best[i][j], best[i][j - 1]);
            best[i][j] = FN(larger)(best[i][j], best[i + 1][j]);
            int32_t pair = i < j - 1 && strand[i] + strand[j] == 3;
            best[i][j] = FN(larger)(best[i][j], best[i + 1][j - 1] + pair);
            for (int k = i + 1; k < j; k++)
                best[i][j] = FN(larger)(best[i][j], best[i][k] + best[k + 1][j]);
        }
}

static void FN(run)(void) {
    int8_t *strand = pb_array(sizeof(int8_t[N]));
    int32_t(*best)[N] = pb_array(sizeof(int32_t[N][N]));
    FN(init)(strand, best);
    pb_start();
    FN(kernel)(strand, best);
    pb_stop();
    pb_out("table", best, PB_I32, N, N, PB_UPPER);
}

#endif
