/* Quicksort and binary search of 12,000 pseudo-random numbers (48 KB): branches that depend on data, and recursion. */
#define EXPECTED 7360427092211980692ul
#include "freestanding.h"

enum { N = 12000 };
static int numbers[N];

static void sort(int *v, long n) {
    while (n > 1) {
        int pivot = v[n / 2];
        long i = 0, j = n - 1;
        for (;;) {
            while (v[i] < pivot) i++;
            while (v[j] > pivot) j--;
            if (i >= j) break;
            int t = v[i];
            v[i++] = v[j];
            v[j--] = t;
        }
        sort(v, i);
        v += i;
        n -= i;
    }
}

static u64 work(void) {
    u32 random = 1;
    for (int i = 0; i < N; i++) {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        numbers[i] = random & 0xffffff;
    }
    sort(numbers, N);
    u64 found = 0;
    for (int i = 0; i < N; i++) {
        long low = 0, high = N;
        int wanted = i * 1000;
        while (low < high) {
            long middle = (low + high) / 2;
            if (numbers[middle] < wanted)
                low = middle + 1;
            else
                high = middle;
        }
        found = found * 31 + low;
    }
    return found;
}
