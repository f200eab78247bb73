/* The frame of the PolyBench kernels: command line, arrays, checksum, dump and time. See polybench.h. */
#include "polybench.h"
#include "text.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum dump { DUMP_NONE, DUMP_ROUNDED, DUMP_FULL };
enum { SIZE_DEFAULT = 2, SIZE_COUNT = 5 };

static const char *const size_names[SIZE_COUNT] = {"MINI", "SMALL", "MEDIUM", "LARGE", "EXTRALARGE"};

static struct {
    const char *kernel;
    int size;
    enum dump dump;
    bool time;
    uint64_t started_ns;
    uint64_t kernel_ns;
    uint64_t hash;
    uint64_t count;
    double sum;
    struct text dumped;
} state = {.size = SIZE_DEFAULT, .hash = FNV_OFFSET, .dumped = {.descriptor = STDERR_FILENO}};

void *pb_array(size_t bytes) {
    /* aligned_alloc wants a multiple of the alignment. No array comes near SIZE_MAX. */
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (memory == NULL)
        text_fail(1, (const char *const[]){state.kernel, ": out of memory at size ", size_names[state.size], NULL});
    return memory;
}

void pb_start(void) {
    state.started_ns = monotonic_ns();
}

void pb_stop(void) {
    state.kernel_ns = monotonic_ns() - state.started_ns;
}

static void dump_begin(const char *name) {
    text_string(&state.dumped, "begin dump: ");
    text_string(&state.dumped, name);
}

static void dump_end(const char *name) {
    text_string(&state.dumped, "\nend   dump: ");
    text_string(&state.dumped, name);
    text_char(&state.dumped, '\n');
}

/* One value of an array: its bits for the hash, its number for the sum and the dump. */
struct value {
    uint64_t bits;
    int bytes;
    double number;
};

static struct value value_at(const void *values, enum pb_type type, size_t index) {
    if (type == PB_I32) {
        int32_t value = ((const int32_t *)values)[index];
        return (struct value){(uint32_t)value, 4, value};
    }
    if (type == PB_F32) {
        union {
            float number;
            uint32_t bits;
        } pun = {.number = ((const float *)values)[index]};
        return (struct value){pun.bits, 4, (double)pun.number};
    }
    double value = ((const double *)values)[index];
    return (struct value){double_bits(value), 8, value};
}

/* PolyBench begins a new line before every twentieth value. */
static void dump_value(enum pb_type type, uint64_t index, double number) {
    if (index % 20 == 0)
        text_char(&state.dumped, '\n');
    if (type == PB_I32)
        text_i64(&state.dumped, (int64_t)number);
    else if (state.dump == DUMP_FULL)
        text_hex_float(&state.dumped, number);
    else
        text_fixed2(&state.dumped, number);
    text_char(&state.dumped, ' ');
}

/* The sum is of the values in order. NaN has no portable bits, and an infinity would hide other errors. */
static void add_to_checksum(const char *name, struct value value) {
    if (!isfinite(value.number))
        text_fail(1, (const char *const[]){state.kernel, ": array ", name, " holds a value that is not finite", NULL});
    state.hash = fnv_feed(state.hash, value.bits, value.bytes);
    state.sum += value.number;
    state.count++;
}

void pb_out(const char *name, const void *values, enum pb_type type, size_t rows, size_t columns, enum pb_part part) {
    bool dump = state.dump != DUMP_NONE;
    uint64_t dumped = 0;
    if (dump)
        dump_begin(name);
    for (size_t i = 0; i < rows; i++) {
        size_t first = part == PB_UPPER ? i : 0;
        size_t end = part == PB_LOWER ? i + 1 : columns;
        for (size_t j = first; j < end; j++) {
            struct value value = value_at(values, type, i * columns + j);
            add_to_checksum(name, value);
            if (dump)
                dump_value(type, dumped++, value.number);
        }
    }
    if (dump)
        dump_end(name);
}

/* The benchmark defines the input as L * transpose(L), where L is lower triangular with a diagonal of
   ones and L[i][j] = 1 - j / n below it. A column of L is constant below the diagonal, so the product
   for r > s is sum(t < s, L[t]^2) + L[s]: a running sum, added in the same order as the product's own
   sum, gives the same bits in n^2 steps instead of n^3. */
void pb_positive_definite(double *matrix, int n) {
    double running = 0;
    for (int s = 0; s < n; s++) {
        double below = (double)-s / n + 1;
        matrix[(size_t)s * (size_t)n + (size_t)s] = running + 1;
        for (int r = s + 1; r < n; r++) {
            matrix[(size_t)r * (size_t)n + (size_t)s] = running + below;
            matrix[(size_t)s * (size_t)n + (size_t)r] = running + below;
        }
        running += below * below;
    }
}

static bool same_ignoring_case(const char *word, const char *upper) {
    for (; *word && *upper; word++, upper++) {
        char c = *word >= 'a' && *word <= 'z' ? (char)(*word - 'a' + 'A') : *word;
        if (c != *upper)
            return false;
    }
    return *word == *upper;
}

static int size_from_name(const char *name) {
    for (int size = 0; size < SIZE_COUNT; size++)
        if (same_ignoring_case(name, size_names[size]))
            return size;
    return -1;
}

static _Noreturn void usage(const char *wrong) {
    text_fail(2, (const char *const[]){state.kernel, ": wrong argument '", wrong,
                                       "', expected [MINI|SMALL|MEDIUM|LARGE|EXTRALARGE] [--dump[=full]] [--time]", NULL});
}

static void parse(int argc, char **argv) {
    bool size_given = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--dump") == 0) {
            state.dump = DUMP_ROUNDED;
        } else if (strcmp(argv[i], "--dump=full") == 0) {
            state.dump = DUMP_FULL;
        } else if (strcmp(argv[i], "--time") == 0) {
            state.time = true;
        } else {
            int size = size_from_name(argv[i]);
            if (size < 0 || size_given)
                usage(argv[i]);
            state.size = size;
            size_given = true;
        }
    }
}

/* "gemm MINI values=500 fnv1a64=0123456789abcdef sum=1.23456e+03" */
static void write_checksum(void) {
    struct text out = {.descriptor = STDOUT_FILENO};
    text_string(&out, state.kernel);
    text_char(&out, ' ');
    text_string(&out, size_names[state.size]);
    text_string(&out, " values=");
    text_u64(&out, state.count);
    text_string(&out, " fnv1a64=");
    text_hex64(&out, state.hash);
    text_string(&out, " sum=");
    text_exponent(&out, state.sum);
    text_char(&out, '\n');
    text_flush(&out);
}

int pb_main(int argc, char **argv, const char *kernel, void (*const runs[5])(void)) {
    state.kernel = kernel;
    parse(argc, argv);
    if (state.dump != DUMP_NONE)
        text_string(&state.dumped, "==BEGIN DUMP_ARRAYS==\n");
    runs[state.size]();
    if (state.dump != DUMP_NONE)
        text_string(&state.dumped, "==END   DUMP_ARRAYS==\n");
    if (state.time) {
        text_string(&state.dumped, "kernel_s=");
        text_nanoseconds(&state.dumped, state.kernel_ns);
        text_char(&state.dumped, '\n');
    }
    text_flush(&state.dumped);
    write_checksum();
    return 0;
}
