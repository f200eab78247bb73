/* Text and checksums without stdio: a guest that needs a line of output should not carry printf.
   Everything here gives the same bytes on every engine. */
#ifndef TEXT_H
#define TEXT_H

#include <stddef.h>
#include <stdint.h>

/* A buffered output on a file descriptor. Call text_flush before the program ends. */
struct text {
    int descriptor;
    size_t length;
    char buffer[4096];
};

void text_flush(struct text *out);
void text_char(struct text *out, char c);
void text_string(struct text *out, const char *string);
void text_u64(struct text *out, uint64_t value);
void text_i64(struct text *out, int64_t value);
/* Sixteen lower-case hexadecimal digits. */
void text_hex64(struct text *out, uint64_t value);
/* As printf's "%.2f": correctly rounded, ties to even. The value must be finite. */
void text_fixed2(struct text *out, double value);
/* As printf's "%a": the exact value in hexadecimal. The value must be finite. */
void text_hex_float(struct text *out, double value);
/* As printf's "%.5e", six significant digits, but computed in doubles: a value within about
   1e-14 (relative) of a tie may be rounded the other way. The value must be finite. */
void text_exponent(struct text *out, double value);
/* Seconds with nine decimals. */
void text_nanoseconds(struct text *out, uint64_t nanoseconds);

/* Writes the strings, up to a null pointer, and a newline to stderr, then exits. */
_Noreturn void text_fail(int exit_code, const char *const strings[]);

/* The monotonic clock in nanoseconds. */
uint64_t monotonic_ns(void);

/* FNV-1a, 64 bits (G. Fowler, L. C. Noll, K.-P. Vo): start with FNV_OFFSET, feed bytes. */
#define FNV_OFFSET UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME UINT64_C(0x100000001b3)

/* Feeds the low `bytes` bytes of a value, the least significant first. */
static inline uint64_t fnv_feed(uint64_t hash, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++)
        hash = (hash ^ (value >> (8 * i) & 0xff)) * FNV_PRIME;
    return hash;
}

/* The bits of a double. */
static inline uint64_t double_bits(double value) {
    union {
        double number;
        uint64_t bits;
    } pun = {.number = value};
    return pun.bits;
}

#endif
