/* A reactor: no _start; an instance keeps its state between calls of its exports. */
#include "../common/export.h"

#include <stdint.h>

static int32_t calls;

/* How often this instance was asked. */
EXPORT("counter") int32_t counter(void);
int32_t counter(void) { return ++calls; }

/* 1 + 2 + ... + n; 0 if n is below 1. */
EXPORT("sum") int64_t sum(int32_t n);
int64_t sum(int32_t n)
{
    int64_t total = 0;
    for (int32_t i = 1; i <= n; i++)
        total += i;
    return total;
}

EXPORT("boom") void boom(void);
void boom(void) { __builtin_trap(); }
