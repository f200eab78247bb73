/* 1024 functions of some 100 bytes each, called in a pseudo-random order: much more code than a first-level cache holds. Each
   modifies memory in place, at a place of its own. */
#define EXPECTED 9857565334753204349ul
#include "freestanding.h"

static u64 table[4096];

#define ONE(n) \
    __attribute__((noinline, aligned(1))) static u64 f##n(u64 x) { \
        table[(x ^ (n * 7u)) & 4095] += x; \
        x = (x ^ (n + 0x9e3779b97f4a7c15ul)) * (2 * n + 1); \
        x ^= x >> 29; \
        if (x & 64) x += table[(x >> 7) & 4095]; \
        table[n * 4 & 4095] ^= x; \
        return x; \
    }
#define FOUR(m, n) m(n##0) m(n##1) m(n##2) m(n##3)
#define SIXTEEN(m, n) FOUR(m, n##0) FOUR(m, n##1) FOUR(m, n##2) FOUR(m, n##3)
#define HUNDREDS(m, n) SIXTEEN(m, n##0) SIXTEEN(m, n##1) SIXTEEN(m, n##2) SIXTEEN(m, n##3)
#define ALL(m) HUNDREDS(m, 10) HUNDREDS(m, 11) HUNDREDS(m, 12) HUNDREDS(m, 13) \
    HUNDREDS(m, 20) HUNDREDS(m, 21) HUNDREDS(m, 22) HUNDREDS(m, 23) \
    HUNDREDS(m, 30) HUNDREDS(m, 31) HUNDREDS(m, 32) HUNDREDS(m, 33) \
    HUNDREDS(m, 40) HUNDREDS(m, 41) HUNDREDS(m, 42) HUNDREDS(m, 43)
ALL(ONE)

#define NAME(n) f##n,
static u64 (*const functions[])(u64) = {ALL(NAME)};

static u64 work(void) {
    u64 x = 1;
    for (int i = 0; i < 40000; i++) x = functions[(x >> 11) % (sizeof functions / sizeof *functions)](x + i);
    return x;
}
