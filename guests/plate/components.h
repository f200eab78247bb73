/* Connected components of a black and white picture: their boxes and areas. */
#ifndef COMPONENTS_H
#define COMPONENTS_H

#include "image.h"

#include <stdbool.h>

struct component {
    uint32_t parent;         /* itself for the first of its component */
    uint32_t x0, y0, x1, y1; /* box; x1 and y1 are the first column and row behind it */
    uint32_t area;           /* pixels */
};

struct components {
    struct component *items;
    uint32_t count;
    uint32_t capacity;
};

/* Finds the components of the pixels that are not zero; neighbours are eight.
 * Only the items that are their own parent count. False when memory runs out;
 * free the items in any case. */
bool find_components(const struct image *picture, struct components *found);

#endif
