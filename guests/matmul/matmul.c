/* matmul: C = A B for two square matrices of pseudo-random doubles or 32-bit integers.
   Generator: splitmix64 (G. Steele, D. Lea, C. Flood, Fast splittable pseudorandom number generators, 2014).

   The loops go row, inner index, column (i, k, j) over panels of B of K_BLOCK by J_BLOCK elements. The innermost loop
   then runs along rows of B and C, which suits the caches and needs no reassociation to be vectorised; a panel stays
   in the second-level cache, so a large matrix measures the arithmetic and not the machine's memory. Each element of
   C still adds its products in the order k = 0, 1, 2, ..., so the result is that of the plain triple loop to the bit. */
#include "../polybench/common/text.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_MAX = 2000, REPEAT_MAX = 1000000, K_BLOCK = 64, J_BLOCK = 256 };

struct options {
    uint64_t n;
    bool integers;
    uint64_t seed;
    uint64_t repeat;
    bool time;
};

static _Noreturn void usage(const char *what, const char *wrong) {
    text_fail(2, (const char *const[]){"matmul: ", what, wrong,
                                       ", expected N [--type f64|i32] [--seed S] [--repeat R] [--time]", NULL});
}

/* A decimal number of at most 2^64 - 1 without sign. */
static uint64_t parse_number(const char *option, const char *word) {
    uint64_t value = 0;
    if (*word == '\0')
        usage(option, "''");
    for (; *word; word++) {
        uint64_t digit = (uint64_t)*word - '0';
        if (digit > 9 || value > (UINT64_MAX - digit) / 10)
            usage(option, " wants a whole number below 2^64");
        value = value * 10 + digit;
    }
    return value;
}

static struct options parse(int argc, char **argv) {
    struct options options = {.seed = 1, .repeat = 1};
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        bool valued = strcmp(word, "--type") == 0 || strcmp(word, "--seed") == 0 || strcmp(word, "--repeat") == 0;
        if (valued && ++i == argc)
            usage(word, " wants a value");
        if (strcmp(word, "--type") == 0) {
            options.integers = strcmp(argv[i], "i32") == 0;
            if (!options.integers && strcmp(argv[i], "f64") != 0)
                usage("unknown type ", argv[i]);
        } else if (strcmp(word, "--seed") == 0) {
            options.seed = parse_number(word, argv[i]);
        } else if (strcmp(word, "--repeat") == 0) {
            options.repeat = parse_number(word, argv[i]);
            if (options.repeat < 1 || options.repeat > REPEAT_MAX)
                usage(word, " goes from 1 to 1000000");
        } else if (strcmp(word, "--time") == 0) {
            options.time = true;
        } else if (word[0] == '-' || options.n != 0) {
            usage("wrong argument ", word);
        } else {
            options.n = parse_number("N", word);
            if (options.n < 1 || options.n > N_MAX)
                usage("N", " goes from 1 to 2000");
        }
    }
    if (options.n == 0)
        usage("N", " is missing");
    return options;
}

static uint64_t splitmix64(uint64_t *state) {
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* From 0 up to, not including, 1: the upper 53 bits. Positive, so that a sum has a small relative error. */
static double next_f64(uint64_t *state) {
    return (double)(splitmix64(state) >> 11) * 0x1p-53;
}

/* Any 32 bits: the upper half. Unsigned, because unsigned arithmetic wraps round by definition. */
static uint32_t next_u32(uint64_t *state) {
    return (uint32_t)(splitmix64(state) >> 32);
}

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

#define DEFINE_MULTIPLY(NAME, TYPE)                                                                            \
    __attribute__((noinline)) static void NAME(size_t n, TYPE *restrict c, const TYPE *a, const TYPE *b) {     \
        for (size_t k_from = 0; k_from < n; k_from += K_BLOCK)                                                 \
            for (size_t j_from = 0; j_from < n; j_from += J_BLOCK) {                                           \
                size_t k_end = smaller(n, k_from + K_BLOCK), j_end = smaller(n, j_from + J_BLOCK);             \
                for (size_t i = 0; i < n; i++)                                                                 \
                    for (size_t k = k_from; k < k_end; k++) {                                                  \
                        TYPE factor = a[i * n + k];                                                            \
                        for (size_t j = j_from; j < j_end; j++)                                                \
                            c[i * n + j] += factor * b[k * n + j];                                             \
                    }                                                                                          \
            }                                                                                                  \
    }

DEFINE_MULTIPLY(multiply_f64, double)
DEFINE_MULTIPLY(multiply_u32, uint32_t)

static void *allocate(size_t bytes) {
    void *memory = malloc(bytes);
    if (memory == NULL)
        text_fail(1, (const char *const[]){"matmul: out of memory", NULL});
    return memory;
}

/* A and B come from one stream, A first, row by row. Returns the time of the multiplications. */
#define DEFINE_RUN(NAME, TYPE, NEXT, MULTIPLY)                                                                 \
    static uint64_t NAME(const struct options *options, TYPE **result) {                                       \
        size_t n = (size_t)options->n, count = n * n;                                                          \
        TYPE *a = allocate(count * sizeof(TYPE));                                                              \
        TYPE *b = allocate(count * sizeof(TYPE));                                                              \
        TYPE *c = allocate(count * sizeof(TYPE));                                                              \
        uint64_t state = options->seed;                                                                        \
        for (size_t i = 0; i < count; i++)                                                                     \
            a[i] = NEXT(&state);                                                                               \
        for (size_t i = 0; i < count; i++)                                                                     \
            b[i] = NEXT(&state);                                                                               \
        uint64_t started_ns = monotonic_ns();                                                                  \
        for (uint64_t round = 0; round < options->repeat; round++) {                                           \
            memset(c, 0, count * sizeof(TYPE));                                                                \
            MULTIPLY(n, c, a, b);                                                                              \
        }                                                                                                      \
        *result = c;                                                                                           \
        return monotonic_ns() - started_ns;                                                                    \
    }

DEFINE_RUN(run_f64, double, next_f64, multiply_f64)
DEFINE_RUN(run_u32, uint32_t, next_u32, multiply_u32)

/* "matmul f64 n=100 seed=1 repeat=1 fnv1a64=0123456789abcdef sum=0x1.8p+3" */
static void write_head(struct text *out, const struct options *options) {
    text_string(out, "matmul ");
    text_string(out, options->integers ? "i32" : "f64");
    text_string(out, " n=");
    text_u64(out, options->n);
    text_string(out, " seed=");
    text_u64(out, options->seed);
    text_string(out, " repeat=");
    text_u64(out, options->repeat);
    text_string(out, " fnv1a64=");
}

/* The hash is of the elements' little-endian bytes; the sum is in row order, exact in hexadecimal. */
static void write_f64(struct text *out, const double *c, size_t count) {
    uint64_t hash = FNV_OFFSET;
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        hash = fnv_feed(hash, double_bits(c[i]), 8);
        sum += c[i];
    }
    text_hex64(out, hash);
    text_string(out, " sum=");
    text_hex_float(out, sum);
}

/* The sum is of the elements as signed 32-bit integers, in 64 bits. */
static void write_i32(struct text *out, const uint32_t *c, size_t count) {
    uint64_t hash = FNV_OFFSET;
    int64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        hash = fnv_feed(hash, c[i], 4);
        sum += (int32_t)c[i];
    }
    text_hex64(out, hash);
    text_string(out, " sum=");
    text_i64(out, sum);
}

static void write_time(uint64_t elapsed_ns) {
    struct text out = {.descriptor = STDERR_FILENO};
    text_string(&out, "kernel_s=");
    text_nanoseconds(&out, elapsed_ns);
    text_char(&out, '\n');
    text_flush(&out);
}

int main(int argc, char **argv) {
    struct options options = parse(argc, argv);
    size_t count = (size_t)options.n * (size_t)options.n;
    struct text out = {.descriptor = STDOUT_FILENO};
    uint64_t elapsed_ns;
    write_head(&out, &options);
    if (options.integers) {
        uint32_t *c;
        elapsed_ns = run_u32(&options, &c);
        write_i32(&out, c, count);
    } else {
        double *c;
        elapsed_ns = run_f64(&options, &c);
        write_f64(&out, c, count);
    }
    text_char(&out, '\n');
    if (options.time)
        write_time(elapsed_ns);
    text_flush(&out);
    return 0;
}
