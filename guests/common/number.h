/* Strict decimal numbers from command lines and request parameters: digits only, no sign, no spaces, no overflow.
 * And back to text without printf, whose code is larger than most of the small guests that would use it. */
#ifndef NUMBER_H
#define NUMBER_H

#include <stdbool.h>
#include <stdint.h>

/* Stores the value of text in *value if it is a number of at most max; else false. */
static inline bool parse_unsigned(const char *text, uint64_t max, uint64_t *value)
{
    uint64_t sum = 0;
    if (*text == 0)
        return false;
    for (; *text != 0; text++) {
        if (*text < '0' || *text > '9')
            return false;
        uint64_t digit = (uint64_t)(*text - '0');
        if (sum > (max - digit) / 10 || digit > max)
            return false;
        sum = sum * 10 + digit;
    }
    *value = sum;
    return true;
}

enum { UNSIGNED_TEXT_BYTES = 21 /* 20 digits and the final zero */ };

/* Writes value into text and returns the start of its digits, which end at the end of text. */
static inline const char *unsigned_text(uint64_t value, char text[UNSIGNED_TEXT_BYTES])
{
    char *p = text + UNSIGNED_TEXT_BYTES - 1;
    *p = 0;
    do
        *--p = (char)('0' + value % 10);
    while ((value /= 10) > 0);
    return p;
}

#endif
