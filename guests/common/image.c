/* A picture in memory, and reading one from any of the formats that the guests know. */
#include "image.h"

#include "png.h"
#include "pnm.h"

#include <stdlib.h>

const char *image_read(const uint8_t *data, size_t size, struct image *image)
{
    *image = (struct image){0};
    if (png_is(data, size))
        return png_read(data, size, image);
    if (pnm_is(data, size))
        return pnm_read(data, size, image);
    return size == 0 ? "standard input is empty" : "the input is no PGM (P5), PPM (P6) or PNG file";
}

const char *image_allocate(struct image *image, uint64_t width, uint64_t height, uint32_t channels)
{
    *image = (struct image){0};
    if (width == 0 || height == 0)
        return "the picture has no pixels";
    if (width > IMAGE_SIDE_MAX || height > IMAGE_SIDE_MAX || width * height > IMAGE_PIXELS_MAX)
        return "the picture is too large: at most 16384 pixels a side, and 16777216 in all";
    uint8_t *pixels = calloc((size_t)(width * height), channels);
    if (pixels == NULL)
        return "out of memory";
    *image = (struct image){(uint32_t)width, (uint32_t)height, channels, pixels};
    return NULL;
}

void image_free(struct image *image)
{
    free(image->pixels);
    *image = (struct image){0};
}
