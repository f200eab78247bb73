/* A picture in memory, and reading one from any of the formats that the guests know. */
#ifndef IMAGE_H
#define IMAGE_H

#include <stddef.h>
#include <stdint.h>

enum {
    /* Bounds on what a hostile header can ask for. The one on the sides keeps
     * the buffers and loops small that are as long as a row. */
    IMAGE_PIXELS_MAX = 1 << 24,
    IMAGE_SIDE_MAX = 16384
};

/* Rows from top to bottom, `channels` bytes a pixel: 1 grey, 3 red green blue. */
struct image {
    uint32_t width;
    uint32_t height;
    uint32_t channels;
    uint8_t *pixels;
};

/* Reads a PGM (P5), PPM (P6) or PNG file. NULL on success, and then the caller
 * frees the picture; otherwise one line that says what is wrong, and the picture
 * is empty. */
const char *image_read(const uint8_t *data, size_t size, struct image *image);

/* Allocates the pixels, all zero. NULL, or what is wrong with the size. */
const char *image_allocate(struct image *image, uint64_t width, uint64_t height, uint32_t channels);

void image_free(struct image *image);

#endif
