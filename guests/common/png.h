/* PNG pictures: reading 8-bit ones that are not interlaced, writing 8-bit grey and RGB. */
#ifndef PNG_H
#define PNG_H

#include "image.h"

#include <stdbool.h>
#include <stdio.h>

bool png_is(const uint8_t *data, size_t size);

/* NULL on success, otherwise one line that says what is wrong. Checks every CRC
 * and the Adler-32. Grey becomes one channel; RGB and palette colours become
 * three. An alpha channel and tRNS are left out: the colours are taken as they
 * stand. */
const char *png_read(const uint8_t *data, size_t size, struct image *image);

/* Writes one channel as grey, three as RGB; false if memory or writing failed. */
bool png_write(FILE *file, const struct image *image);

#endif
