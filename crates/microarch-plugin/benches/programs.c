/* Programs whose simulation is timed: the first argument says which, the second how often it is done. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { SIDE = 180, NUMBERS = 200000, BYTES = 1 << 20 };

static uint32_t random_state = 1;
static uint32_t next_random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

static double a[SIDE][SIDE], b[SIDE][SIDE], c[SIDE][SIDE];

/* C = A * B in doubles, along the columns of B: most loads miss in small caches. */
static uint64_t gemm(void) {
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) {
            a[i][j] = i + j;
            b[i][j] = i ^ j;
        }
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) {
            double sum = 0;
            for (int k = 0; k < SIDE; k++) sum += a[i][k] * b[k][j];
            c[i][j] = sum;
        }
    return (uint64_t)c[3][4];
}

static int numbers[NUMBERS];

/* Quicksort of random numbers: a third of all branches cannot be foreseen. */
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

static uint64_t quicksort(void) {
    for (int i = 0; i < NUMBERS; i++) numbers[i] = next_random() & 0xffffff;
    sort(numbers, NUMBERS);
    return numbers[1000];
}

static unsigned char bytes[BYTES];

/* FNV-1a of a megabyte: short loops over consecutive bytes. */
static uint64_t hash(void) {
    uint64_t value = 14695981039346656037ul;
    for (int i = 0; i < BYTES; i++) bytes[i] = next_random();
    for (int i = 0; i < BYTES; i++) value = (value ^ bytes[i]) * 1099511628211ul;
    return value;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    uint64_t all = 0;
    for (int i = 0; i < atoi(argv[2]); i++) {
        if (argv[1][0] == 'g') all += gemm();
        if (argv[1][0] == 'q') all += quicksort();
        if (argv[1][0] == 'h') all += hash();
    }
    printf("%lu\n", all);
    return 0;
}
