/* C = A * B, for matrices of 72 x 72 doubles (41 KB each): long strides in B, and vectors where the compiler makes them. */
#define EXPECTED 234946297
#include "freestanding.h"

enum { N = 72 };
static double a[N][N], b[N][N], c[N][N];

static u64 work(void) {
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            a[i][j] = i + j;
            b[i][j] = i ^ j;
        }
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            double sum = 0;
            for (int k = 0; k < N; k++) sum += a[i][k] * b[k][j];
            c[i][j] = sum;
        }
    double all = 0;
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) all += c[i][j];
    return (u64)all % 1000000007;
}
