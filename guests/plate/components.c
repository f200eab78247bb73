/* Connected components from runs of pixels, joined row by row in a disjoint-set forest: A. Rosenfeld, J. Pfaltz,
 * Sequential Operations in Digital Picture Processing, JACM 13(4), 1966; R. Tarjan, Efficiency of a Good But Not Linear
 * Set Union Algorithm, JACM 22(2), 1975. */
#include "components.h"

#include <stdlib.h>

/* Pixels x0 up to, but without, x1 of a row. */
struct run {
    uint32_t x0, x1;
    uint32_t component;
};

static uint32_t root_of(struct components *c, uint32_t at)
{
    while (c->items[at].parent != at) {
        c->items[at].parent = c->items[c->items[at].parent].parent; /* halves the path for the next time */
        at = c->items[at].parent;
    }
    return at;
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t greatest(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* The earlier of two components takes up the other, so that the order of components is that of their first pixels. */
static void join(struct components *c, uint32_t a, uint32_t b)
{
    a = root_of(c, a);
    b = root_of(c, b);
    if (a == b)
        return;
    struct component *kept = &c->items[least(a, b)], *gone = &c->items[greatest(a, b)];
    gone->parent = least(a, b);
    kept->x0 = least(kept->x0, gone->x0);
    kept->y0 = least(kept->y0, gone->y0);
    kept->x1 = greatest(kept->x1, gone->x1);
    kept->y1 = greatest(kept->y1, gone->y1);
    kept->area += gone->area;
}

static bool add(struct components *c, uint32_t x0, uint32_t x1, uint32_t y)
{
    if (c->count == c->capacity) {
        uint32_t capacity = c->capacity == 0 ? 256 : c->capacity * 2;
        struct component *items = realloc(c->items, capacity * sizeof *items);
        if (items == NULL)
            return false;
        c->items = items;
        c->capacity = capacity;
    }
    c->items[c->count] = (struct component){c->count, x0, y, x1, y + 1, x1 - x0};
    c->count++;
    return true;
}

/* The runs of a row, each one a component of its own for now. Returns false when memory runs out. */
static bool find_runs(const uint8_t *row, uint32_t width, uint32_t y, struct components *c, struct run *runs, uint32_t *count)
{
    *count = 0;
    for (uint32_t x = 0; x < width;) {
        if (row[x] == 0) {
            x++;
            continue;
        }
        uint32_t x0 = x;
        while (x < width && row[x] != 0)
            x++;
        if (!add(c, x0, x, y))
            return false;
        runs[(*count)++] = (struct run){x0, x, c->count - 1};
    }
    return true;
}

/* Joins runs of two rows that touch, corners included. */
static void join_rows(struct components *c, const struct run *above, uint32_t above_count, const struct run *below, uint32_t below_count)
{
    uint32_t a = 0, b = 0;
    while (a < above_count && b < below_count) {
        if (above[a].x0 <= below[b].x1 && below[b].x0 <= above[a].x1)
            join(c, above[a].component, below[b].component);
        if (above[a].x1 < below[b].x1)
            a++;
        else
            b++;
    }
}

bool find_components(const struct image *picture, struct components *found)
{
    *found = (struct components){0};
    size_t runs_max = picture->width / 2 + 1;
    struct run *above = malloc(runs_max * sizeof *above), *here = malloc(runs_max * sizeof *here);
    bool enough = above != NULL && here != NULL;
    uint32_t above_count = 0, here_count = 0;
    for (uint32_t y = 0; enough && y < picture->height; y++) {
        enough = find_runs(picture->pixels + (size_t)y * picture->width, picture->width, y, found, here, &here_count);
        if (!enough)
            break;
        join_rows(found, above, above_count, here, here_count);
        struct run *done = above;
        above = here;
        here = done;
        above_count = here_count;
    }
    free(above);
    free(here);
    return enough;
}
