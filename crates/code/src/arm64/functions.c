/* What the decoder is tested on: gcc.txt is the code that GCC 12.2 makes of it, as GNU objdump 2.40 shows it.
     aarch64-linux-gnu-gcc -O3 -march=armv8.1-a -fno-asynchronous-unwind-tables -fno-pic -c functions.c
     aarch64-linux-gnu-objdump -d functions.o */
#include <stdint.h>
#include <string.h>

uint32_t sum(const uint32_t *from, uint64_t count) {
    uint32_t all = 0;
    for (uint64_t at = 0; at < count; at++) {
        all = (all << 3 | all >> 29) + from[at];
    }
    return all;
}

float dot(const float *restrict a, const float *restrict b, int count) {
    float all = 0;
    for (int at = 0; at < count; at++) {
        all += a[at] * b[at];
    }
    return all;
}

void scale(double *restrict to, const double *restrict from, double by, long count) {
    for (long at = 0; at < count; at++) {
        to[at] = from[at] * by + 1.0;
    }
}

void widen(uint16_t *restrict to, const uint8_t *restrict from, const int8_t *restrict other) {
    for (int at = 0; at < 64; at++) {
        to[at] = (uint16_t)(from[at] * 3 + other[at]);
    }
}

static __attribute__((noipa)) int64_t callee(int64_t a, int64_t b, double c) {
    return a - b + (int64_t)c;
}

int64_t calls(int64_t a, int64_t b, double c) {
    int64_t first = callee(a, b, c);
    int64_t second = callee(b, first, c * 2);
    if (second == first) {
        return callee(first, second, c);
    }
    return first / second + a % b;
}

uint64_t add_atomically(uint64_t *to, uint64_t by, uint32_t *other) {
    uint32_t expected = 3;
    __atomic_compare_exchange_n(other, &expected, 4, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    __atomic_store_n(other + 1, expected, __ATOMIC_RELEASE);
    return __atomic_fetch_add(to, by, __ATOMIC_ACQ_REL) + __atomic_load_n(other, __ATOMIC_ACQUIRE);
}

struct record {
    int8_t byte;
    int16_t half;
    int32_t word;
    int64_t whole;
    uint8_t flags : 3, rest : 5;
};

int64_t fields(struct record *of, int index, uint64_t bits) {
    of->flags = bits & 7;
    if (bits & 1ull << 40) {
        return of[index].byte + of[index].half;
    }
    if (bits & 4) {
        __builtin_trap();
    }
    return __builtin_clzll(bits) + __builtin_bswap64(of->whole) + (of->word < 0 ? ~of->whole : -of->whole);
}

int choose(int what, int a, int b) {
    switch (what) {
    case 0: return a + b;
    case 1: return a - b;
    case 2: return a * b;
    case 3: return a & b;
    case 4: return a | ~b;
    case 5: return a ^ b;
    case 6: return a << (b & 31);
    case 7: return (int)((int64_t)a * b >> 32);
    default: return 0;
    }
}

int convert(float a, double b, uint32_t c, int64_t d) {
    float all = (float)b + (float)c + a + (float)d;
    return all > 0.5f ? (int)all : (int)__builtin_floor(b);
}

void copy_out(char *to, const char *text) {
    char on_stack[256];
    memset(on_stack, text[0], sizeof on_stack);
    for (int at = 0; text[at]; at++) {
        on_stack[(uint8_t)text[at]] ^= 0x20;
    }
    memcpy(to, on_stack, sizeof on_stack);
}
