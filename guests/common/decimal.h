/* Decimal fractions from command lines: digits, and optionally a point and more digits. strtod would bring the
 * arithmetic of long double with it, which is larger than a small guest. */
#ifndef DECIMAL_H
#define DECIMAL_H

#include <stdbool.h>
#include <stdint.h>

/* Stores the number in *value, correctly rounded, if it lies within least..most; else false. At most 15 digits: both
 * the digits and the power of ten are then exact in double, and one division rounds once. */
static inline bool parse_decimal(const char *text, double least, double most, double *value)
{
    double digits = 0, scale = 1;
    int count = 0;
    bool fraction = false;
    for (; *text != 0; text++) {
        if (*text == '.' && !fraction && count > 0) {
            fraction = true;
            continue;
        }
        if (*text < '0' || *text > '9' || ++count > 15)
            return false;
        digits = digits * 10 + (*text - '0');
        if (fraction)
            scale *= 10;
    }
    double number = digits / scale;
    if (count == 0 || !(number >= least && number <= most))
        return false;
    *value = number;
    return true;
}

#endif
