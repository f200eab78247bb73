/* Dilation and erosion with rectangles: M. van Herk, A fast algorithm for local minimum and maximum filters on rectangular
 * and octagonal kernels, Pattern Recognition Letters 13(7), 1992; J. Gil, M. Werman, Computing 2-D min, median and max
 * filters, IEEE PAMI 15(5), 1993.
 *
 * A window as long as a block covers the end of one block and the beginning of the next. With running extremes backwards
 * from each block's end and forwards from each block's beginning, one more comparison gives the window's extreme: three
 * comparisons a pixel, whatever the length. Rectangles are done as a row and then as a column. */
#include "morphology.h"

#include <stdlib.h>
#include <string.h>

enum extreme { GREATEST, LEAST };

static inline uint8_t pick(enum extreme which, uint8_t a, uint8_t b)
{
    return which == GREATEST ? (a > b ? a : b) : (a < b ? a : b);
}

/* The value that never wins: stands for what lies outside the picture. */
static inline uint8_t outside(enum extreme which)
{
    return which == GREATEST ? 0 : 255;
}

/* out[i] = extreme of row[i] .. row[i + length - 1] for i below `count`. `row` holds whole blocks, and one more than the
 * count needs; `backward` has room for one block. */
static inline void filter_row(enum extreme which, const uint8_t *row, size_t count, size_t length, uint8_t *backward, uint8_t *out)
{
    for (size_t block = 0; block < count; block += length) {
        const uint8_t *here = row + block, *next = here + length;
        backward[length - 1] = here[length - 1];
        for (size_t i = length - 1; i-- > 0;)
            backward[i] = pick(which, here[i], backward[i + 1]);
        size_t last = count - block < length ? count - block : length;
        out[block] = backward[0];
        uint8_t forward = outside(which);
        for (size_t i = 1; i < last; i++) {
            forward = pick(which, forward, next[i - 1]);
            out[block + i] = pick(which, backward[i], forward);
        }
    }
}

static inline bool filter_rows(enum extreme which, struct image *picture, size_t length)
{
    size_t width = picture->width, radius = length / 2;
    size_t padded = (width / length + 2) * length;
    uint8_t *row = malloc(padded), *backward = malloc(length);
    if (row != NULL && backward != NULL) {
        memset(row, outside(which), padded);
        for (uint32_t y = 0; y < picture->height; y++) {
            uint8_t *pixels = picture->pixels + (size_t)y * width;
            memcpy(row + radius, pixels, width);
            filter_row(which, row, width, length, backward, pixels);
        }
    }
    bool enough = row != NULL && backward != NULL;
    free(row);
    free(backward);
    return enough;
}

static inline void pick_rows(enum extreme which, const uint8_t *a, const uint8_t *b, uint8_t *restrict out, size_t width)
{
    for (size_t x = 0; x < width; x++)
        out[x] = pick(which, a[x], b[x]);
}

struct columns {
    const uint8_t *pixels;
    size_t width;
    size_t height;
    size_t radius;
    const uint8_t *empty; /* a row of what lies outside */
};

/* Row `padded_y` of the picture with `radius` empty rows above it and as many as are asked for below. */
static inline const uint8_t *padded_row(const struct columns *c, size_t padded_y)
{
    bool inside = padded_y >= c->radius && padded_y - c->radius < c->height;
    return inside ? c->pixels + (padded_y - c->radius) * c->width : c->empty;
}

/* The same as filter_row with whole rows in the place of pixels. `backward` has room for a block of rows, `forward` for
 * one row. */
static inline void filter_columns_to(enum extreme which, const struct columns *c, uint8_t *backward, uint8_t *forward, uint8_t *out)
{
    size_t width = c->width, length = 2 * c->radius + 1;
    for (size_t block = 0; block < c->height; block += length) {
        memcpy(backward + (length - 1) * width, padded_row(c, block + length - 1), width);
        for (size_t i = length - 1; i-- > 0;)
            pick_rows(which, padded_row(c, block + i), backward + (i + 1) * width, backward + i * width, width);
        size_t last = c->height - block < length ? c->height - block : length;
        memcpy(out + block * width, backward, width);
        memset(forward, outside(which), width);
        for (size_t i = 1; i < last; i++) {
            const uint8_t *next = padded_row(c, block + length + i - 1);
            for (size_t x = 0; x < width; x++)
                forward[x] = pick(which, forward[x], next[x]);
            pick_rows(which, backward + i * width, forward, out + (block + i) * width, width);
        }
    }
}

static inline bool filter_columns(enum extreme which, struct image *picture, size_t length)
{
    size_t width = picture->width, height = picture->height;
    uint8_t *out = malloc(width * height), *backward = malloc(length * width), *forward = malloc(width), *empty = malloc(width);
    bool enough = out != NULL && backward != NULL && forward != NULL && empty != NULL;
    if (enough) {
        memset(empty, outside(which), width);
        struct columns columns = {picture->pixels, width, height, length / 2, empty};
        filter_columns_to(which, &columns, backward, forward, out);
        uint8_t *old = picture->pixels;
        picture->pixels = out;
        out = old;
    }
    free(out);
    free(backward);
    free(forward);
    free(empty);
    return enough;
}

/* A window that reaches over the whole picture from everywhere need not be longer; the buffers stay bounded with it. */
static size_t useful(uint32_t length, uint32_t size)
{
    size_t whole = 2 * (size_t)size + 1;
    return length < whole ? length : whole;
}

static inline bool filter(enum extreme which, struct image *picture, struct rectangle around)
{
    return filter_rows(which, picture, useful(around.width, picture->width)) &&
           filter_columns(which, picture, useful(around.height, picture->height));
}

bool dilate(struct image *picture, struct rectangle around)
{
    return filter(GREATEST, picture, around);
}

bool erode(struct image *picture, struct rectangle around)
{
    return filter(LEAST, picture, around);
}
