/* A busy loop: for ever, for a number of seconds, or for a number of iterations, when it prints the state reached.
 * The step is xorshift64: G. Marsaglia, Xorshift RNGs, Journal of Statistical Software 8(14), 2003. */
#include "../common/number.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SECONDS_MAX = 86400 * 365, STEPS_PER_LOOK = 1 << 20, NS_PER_SECOND = 1000000000 };

static volatile uint64_t sink; /* keeps the compiler from dropping the work */

static uint64_t step(uint64_t x)
{
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return x;
}

static uint64_t spin_iterations(uint64_t n)
{
    uint64_t x = 0x9e3779b97f4a7c15;
    for (uint64_t i = 0; i < n; i++)
        x = step(x);
    return x;
}

static void spin_for_ever(void)
{
    for (uint64_t x = 1;; x = step(x))
        sink = x;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    return timespec_get(&now, TIME_UTC) == 0 ? 0 : (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

static void spin_seconds(uint64_t seconds)
{
    uint64_t start = now_ns();
    while (now_ns() - start < seconds * NS_PER_SECOND)
        sink = spin_iterations(STEPS_PER_LOOK);
}

static int usage(void)
{
    fputs("spin: usage: spin [SECONDS | --iterations N]\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    uint64_t n;
    if (argc == 1) {
        spin_for_ever();
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "--iterations") == 0) {
        if (!parse_unsigned(argv[2], UINT64_MAX, &n))
            return usage();
        char text[UNSIGNED_TEXT_BYTES];
        return puts(unsigned_text(spin_iterations(n), text)) < 0;
    }
    if (argc != 2 || !parse_unsigned(argv[1], SECONDS_MAX, &n))
        return usage();
    spin_seconds(n);
    return 0;
}
