/* PGM (P5) and PPM (P6) pictures with one byte a sample (the netpbm formats, pgm(5) and ppm(5)). */
#ifndef PNM_H
#define PNM_H

#include "image.h"

#include <stdbool.h>
#include <stdio.h>

bool pnm_is(const uint8_t *data, size_t size);

/* NULL on success, otherwise one line that says what is wrong. Samples are
 * scaled to 0..255 if the file's maximum is smaller. What follows the pixels is
 * refused. */
const char *pnm_read(const uint8_t *data, size_t size, struct image *image);

/* Writes P5 for one channel, P6 for three; false if writing failed. */
bool pnm_write(FILE *file, const struct image *image);

#endif
