/* Fibonacci number by naive recursion: measures calls and little else. F(0) = 0, F(1) = 1. */
#include "../common/export.h"
#include "../common/number.h"

#include <stdio.h>

enum { N_DEFAULT = 27, N_MAX = 92 /* the last that fits 63 bits */ };

EXPORT("fib") int64_t fib(int32_t n);
int64_t fib(int32_t n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

int main(int argc, char **argv)
{
    uint64_t n = N_DEFAULT;
    if (argc > 2 || (argc == 2 && !parse_unsigned(argv[1], N_MAX, &n))) {
        fputs("fib: usage: fib [N], where N is 0 to 92\n", stderr);
        return 2;
    }
    char text[UNSIGNED_TEXT_BYTES];
    return puts(unsigned_text((uint64_t)fib((int32_t)n), text)) < 0;
}
