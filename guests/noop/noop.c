/* Does nothing, without a libc: the floor under every measurement.
 * Its other exports are one function for each WebAssembly number type, for calls by name. */
#include "../common/export.h"

#include <stdint.h>

#ifdef __wasm__
EXPORT("_start") void _start(void);
void _start(void) {}
#else
int main(void) { return 0; }
#endif

EXPORT("nothing") void nothing(void);
void nothing(void) {}

EXPORT("add") uint32_t add(uint32_t a, uint32_t b);
uint32_t add(uint32_t a, uint32_t b) { return a + b; }

EXPORT("addl") uint64_t addl(uint64_t a, uint64_t b);
uint64_t addl(uint64_t a, uint64_t b) { return a + b; }

EXPORT("mulf") double mulf(double a, double b);
double mulf(double a, double b) { return a * b; }

EXPORT("halff") float halff(float a);
float halff(float a) { return a * 0.5f; }
