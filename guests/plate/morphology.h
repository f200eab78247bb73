/* Dilation and erosion of grey pictures with rectangles, at a cost that does not depend on the rectangle's size. */
#ifndef MORPHOLOGY_H
#define MORPHOLOGY_H

#include "image.h"

#include <stdbool.h>

/* A rectangle around the pixel; both sides are odd. */
struct rectangle {
    uint32_t width;
    uint32_t height;
};

/* Replace each pixel by the greatest (dilate) or the least (erode) within the
 * rectangle, as far as that lies inside the picture. The picture has one
 * channel. False when memory runs out. */
bool dilate(struct image *picture, struct rectangle around);
bool erode(struct image *picture, struct rectangle around);

#endif
