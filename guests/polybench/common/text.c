/* Text and checksums without stdio, see text.h. */
#define _POSIX_C_SOURCE 200809L

#include "text.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

void text_flush(struct text *out) {
    size_t done = 0;
    while (done < out->length) {
        ssize_t written = write(out->descriptor, out->buffer + done, out->length - done);
        if (written <= 0)
            exit(1); /* Nowhere is left to say so. */
        done += (size_t)written;
    }
    out->length = 0;
}

void text_char(struct text *out, char c) {
    if (out->length == sizeof out->buffer)
        text_flush(out);
    out->buffer[out->length++] = c;
}

void text_string(struct text *out, const char *string) {
    while (*string)
        text_char(out, *string++);
}

/* Decimal, with zeros in front up to `digits_min` digits. */
static void text_decimal(struct text *out, uint64_t value, int digits_min) {
    char digits[20];
    int count = 0;
    while (value > 0 || count < digits_min) {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    }
    while (count > 0)
        text_char(out, digits[--count]);
}

void text_u64(struct text *out, uint64_t value) {
    text_decimal(out, value, 1);
}

void text_i64(struct text *out, int64_t value) {
    if (value < 0)
        text_char(out, '-');
    text_u64(out, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

static void text_hex(struct text *out, uint64_t value, int digits) {
    while (digits-- > 0)
        text_char(out, "0123456789abcdef"[value >> (4 * digits) & 15]);
}

void text_hex64(struct text *out, uint64_t value) {
    text_hex(out, value, 16);
}

/* |value| = mantissa * 2^exponent, exactly. Writes the sign. */
static void split(struct text *out, double value, uint64_t *mantissa, int *exponent) {
    uint64_t bits = double_bits(value);
    int biased = (int)(bits >> 52 & 0x7ff);
    *mantissa = bits & ((UINT64_C(1) << 52) - 1);
    if (biased > 0)
        *mantissa |= UINT64_C(1) << 52;
    else
        biased = 1;
    *exponent = biased - 1075;
    if (bits >> 63)
        text_char(out, '-');
}

/* mantissa * 2^exponent as a whole number, exponent >= 0, by doubling decimal limbs. */
static void text_big(struct text *out, uint64_t mantissa, int exponent) {
    enum { LIMBS = 36, BASE = 1000000000 }; /* 36 * 9 digits exceed the largest double's 309. */
    uint32_t limbs[LIMBS] = {0};
    limbs[0] = (uint32_t)(mantissa % BASE);
    limbs[1] = (uint32_t)(mantissa / BASE);
    int used = 2;
    for (; exponent > 0; exponent--) {
        uint32_t carry = 0;
        for (int i = 0; i < used; i++) {
            uint32_t doubled = limbs[i] * 2 + carry; /* Below 2^31. */
            carry = doubled >= BASE;
            limbs[i] = carry ? doubled - BASE : doubled;
        }
        if (carry)
            limbs[used++] = carry;
    }
    while (used > 1 && limbs[used - 1] == 0)
        used--;
    text_decimal(out, limbs[--used], 1);
    while (used > 0)
        text_decimal(out, limbs[--used], 9);
}

void text_fixed2(struct text *out, double value) {
    uint64_t mantissa;
    int exponent;
    split(out, value, &mantissa, &exponent);
    if (exponent >= 0) {
        text_big(out, mantissa, exponent);
        text_string(out, ".00");
        return;
    }
    /* 100 * mantissa stays below 2^60, so a shift of 62 or more leaves less than a half. */
    uint64_t hundredths = 0;
    int shift = -exponent;
    if (shift < 62) {
        uint64_t scaled = mantissa * 100;
        uint64_t rest = scaled & ((UINT64_C(1) << shift) - 1);
        uint64_t half = UINT64_C(1) << (shift - 1);
        hundredths = scaled >> shift;
        if (rest > half || (rest == half && (hundredths & 1)))
            hundredths++;
    }
    text_u64(out, hundredths / 100);
    text_char(out, '.');
    text_decimal(out, hundredths % 100, 2);
}

void text_hex_float(struct text *out, double value) {
    uint64_t mantissa;
    int exponent;
    split(out, value, &mantissa, &exponent);
    text_string(out, "0x");
    text_u64(out, mantissa >> 52);
    uint64_t fraction = mantissa & ((UINT64_C(1) << 52) - 1);
    int digits = 13;
    while (digits > 0 && (fraction & 15) == 0) {
        fraction >>= 4;
        digits--;
    }
    if (digits > 0) {
        text_char(out, '.');
        text_hex(out, fraction, digits);
    }
    text_char(out, 'p');
    int power = mantissa == 0 ? 0 : exponent + 52;
    if (power >= 0)
        text_char(out, '+');
    text_i64(out, power);
}

void text_exponent(struct text *out, double value) {
    if (double_bits(value) >> 63)
        text_char(out, '-');
    double scaled = fabs(value);
    int power = 0;
    while (scaled >= 10) {
        scaled /= 10;
        power++;
    }
    while (scaled > 0 && scaled < 1) {
        scaled *= 10;
        power--;
    }
    uint64_t digits = (uint64_t)(scaled * 100000 + 0.5);
    if (digits == 1000000) {
        digits = 100000;
        power++;
    }
    text_u64(out, digits / 100000);
    text_char(out, '.');
    text_decimal(out, digits % 100000, 5);
    text_string(out, power < 0 ? "e-" : "e+");
    text_decimal(out, (uint64_t)(power < 0 ? -power : power), 2);
}

void text_nanoseconds(struct text *out, uint64_t nanoseconds) {
    text_u64(out, nanoseconds / 1000000000);
    text_char(out, '.');
    text_decimal(out, nanoseconds % 1000000000, 9);
}

_Noreturn void text_fail(int exit_code, const char *const strings[]) {
    struct text out = {.descriptor = STDERR_FILENO};
    while (*strings)
        text_string(&out, *strings++);
    text_char(&out, '\n');
    text_flush(&out);
    exit(exit_code);
}

uint64_t monotonic_ns(void) {
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0)
        return 0;
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}
