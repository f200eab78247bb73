/* Canny edge detection: J. Canny, A Computational Approach to Edge Detection, IEEE PAMI 8(6), 1986.
 *
 * The details that the paper leaves open are those of scikit-image's feature.canny, as its documentation, its
 * source and its results define them: a Gaussian cut at four sigma that leaves out what lies beyond the picture, Sobel derivatives,
 * non-maximum suppression between interpolated neighbours, and hysteresis over eight neighbours. All arithmetic is in
 * double, in one fixed order, because ties decide what is an edge in flat places.
 *
 * The picture goes through the stages row by row, so that a stage finds its rows in the first-level cache. */
#include "complain.h"
#include "decimal.h"
#include "image.h"
#include "png.h"
#include "pnm.h"
#include "read_all.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    INPUT_MAX = 128 << 20,
    BLOCK = 8,       /* columns that the inner loops do at a time, in registers */
    SIGMA_MAX = 100,
    RADIUS_MAX = 4 * SIGMA_MAX
};

enum format { FORMAT_AS_INPUT, FORMAT_PGM, FORMAT_PNG };

struct options {
    double sigma;
    double low;
    double high;
    enum format format;
};

/* What a pixel is after non-maximum suppression. */
enum { NO_EDGE = 0, WEAK = 1, STRONG = 2, EDGE = 255 };

/* Half of a symmetric filter: weights[0] is the centre's. */
struct gaussian {
    double weights[RADIUS_MAX + 1];
    int radius;
};

/* A row of doubles with `margin` more on both sides. */
struct row {
    double *start; /* of the margin */
    double *x;     /* of the row */
};

struct stages {
    const struct image *grey_or_rgb;
    int width;
    int height;
    int padded; /* the width, rounded up to whole blocks */
    struct gaussian gaussian;
    struct row *grey;       /* ring of 2 * radius + 1 rows of the picture, values 0 to 1 */
    int grey_count;
    struct row zero;
    struct row column_done; /* one row after the vertical Gaussian */
    struct row coverage;    /* how much of the Gaussian lies inside the picture, for the row that is being smoothed */
    double coverage_column; /* its vertical factor */
    struct row smooth[3];   /* rings; row y is at y % 3 */
    struct row across;      /* difference of the rows above and below */
    struct row along[3];    /* differences of the left and right neighbours */
    struct row gradient_x[3];
    struct row gradient_y[3];
    struct row magnitude[3];
};

/* ---- arguments ---- */

static int usage(const char *problem, const char *what)
{
    complain(2, "canny", problem, what);
    return complain(2, "usage", "canny [--sigma 0..100] [--low 0..10] [--high 0..10] [--format pgm|png]", NULL);
}

static int parse_arguments(int argc, char **argv, struct options *options)
{
    for (int i = 1; i < argc; i += 2) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        bool good;
        if (strcmp(name, "--sigma") == 0)
            good = parse_decimal(value, 0, SIGMA_MAX, &options->sigma);
        else if (strcmp(name, "--low") == 0)
            good = parse_decimal(value, 0, 10, &options->low);
        else if (strcmp(name, "--high") == 0)
            good = parse_decimal(value, 0, 10, &options->high);
        else if (strcmp(name, "--format") == 0) {
            options->format = strcmp(value, "png") == 0 ? FORMAT_PNG : FORMAT_PGM;
            good = strcmp(value, "png") == 0 || strcmp(value, "pgm") == 0;
        } else
            return usage("unknown argument", name);
        if (!good)
            return usage("no good value for", name);
    }
    if (options->high < options->low)
        return usage("--low is above --high", NULL);
    return 0;
}

/* ---- rows ---- */

static bool allocate_row(struct row *row, int width, int margin)
{
    row->start = calloc((size_t)width + 2 * (size_t)margin, sizeof *row->start);
    row->x = row->start == NULL ? NULL : row->start + margin;
    return row->start != NULL;
}

static bool allocate_rows(struct row *rows, int count, int width, int margin)
{
    bool all = true;
    for (int i = 0; i < count; i++)
        all = allocate_row(&rows[i], width, margin) && all;
    return all;
}

static void free_rows(struct row *rows, int count)
{
    for (int i = 0; rows != NULL && i < count; i++)
        free(rows[i].start);
}

/* Makes all the buffers; false when memory runs out. Margins hold zeros for the Gaussian and one repeated pixel for the
 * Sobel filters; the rows are whole blocks long, so that no loop needs a remainder. */
static bool allocate_stages(struct stages *s)
{
    int radius = s->gaussian.radius, margin = radius + BLOCK;
    s->grey_count = 2 * radius + 1;
    s->grey = calloc((size_t)s->grey_count, sizeof *s->grey);
    bool all = s->grey != NULL && allocate_rows(s->grey, s->grey_count, s->padded, margin);
    all = allocate_row(&s->zero, s->padded, margin) && all;
    all = allocate_row(&s->column_done, s->padded, margin) && all;
    all = allocate_row(&s->coverage, s->padded, margin) && all;
    all = allocate_row(&s->across, s->padded, BLOCK) && all;
    all = allocate_rows(s->smooth, 3, s->padded, BLOCK) && all;
    all = allocate_rows(s->along, 3, s->padded, BLOCK) && all;
    all = allocate_rows(s->gradient_x, 3, s->padded, BLOCK) && all;
    all = allocate_rows(s->gradient_y, 3, s->padded, BLOCK) && all;
    return allocate_rows(s->magnitude, 3, s->padded, BLOCK) && all;
}

static void free_stages(struct stages *s)
{
    free_rows(s->grey, s->grey_count);
    free(s->grey);
    free_rows(&s->zero, 1);
    free_rows(&s->column_done, 1);
    free_rows(&s->coverage, 1);
    free_rows(&s->across, 1);
    free_rows(s->smooth, 3);
    free_rows(s->along, 3);
    free_rows(s->gradient_x, 3);
    free_rows(s->gradient_y, 3);
    free_rows(s->magnitude, 3);
}

/* ---- Gaussian ---- */

/* Sums in eight lanes and, when there are many values, in halves (pairwise summation). The order is NumPy's: weights
 * that differ in the last bit would decide other ties. */
static double pairwise_sum(const double *values, int count)
{
    if (count > 128) {
        int half = count / 2 / 8 * 8;
        return pairwise_sum(values, half) + pairwise_sum(values + half, count - half);
    }
    double sum = 0;
    int done = 0;
    if (count >= 8) {
        double lane[8] = {0};
        for (; done + 8 <= count; done += 8)
            for (int k = 0; k < 8; k++)
                lane[k] += values[done + k];
        sum = ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
    }
    for (; done < count; done++)
        sum += values[done];
    return sum;
}

static void make_gaussian(struct gaussian *g, double sigma)
{
    double both_sides[2 * RADIUS_MAX + 1];
    g->radius = (int)(4.0 * sigma + 0.5);
    g->weights[0] = 1;
    for (int i = 1; i <= g->radius; i++)
        g->weights[i] = exp(-0.5 / (sigma * sigma) * (i * i));
    for (int i = -g->radius; i <= g->radius; i++)
        both_sides[g->radius + i] = g->weights[i < 0 ? -i : i];
    double sum = pairwise_sum(both_sides, 2 * g->radius + 1);
    for (int i = 0; i <= g->radius; i++)
        g->weights[i] /= sum;
}

/* Row y of the picture as brightness from 0 to 1; the weights of the colours are ITU-R BT.709's. */
static void load_grey(const struct stages *s, int y, double *grey)
{
    const struct image *image = s->grey_or_rgb;
    const uint8_t *pixel = image->pixels + (size_t)y * image->width * image->channels;
    const double unit = 1.0 / 255.0;
    if (image->channels == 1) {
        for (int x = 0; x < s->width; x++)
            grey[x] = pixel[x] * unit;
    } else {
        for (int x = 0; x < s->width; x++, pixel += 3)
            grey[x] = pixel[0] * unit * 0.2125 + pixel[1] * unit * 0.7154 + pixel[2] * unit * 0.0721;
    }
}

/* Row y of the picture; zeros beyond its borders. The row must still be in the ring. */
static const double *grey_row(const struct stages *s, int y)
{
    return y < 0 || y >= s->height ? s->zero.x : s->grey[y % s->grey_count].x;
}

/* The vertical Gaussian around row y. The outermost pair is added first. */
static void blur_columns(const struct stages *s, int y, double *out)
{
    const struct gaussian *g = &s->gaussian;
    const double *above[RADIUS_MAX + 1], *below[RADIUS_MAX + 1];
    for (int i = 0; i <= g->radius; i++) {
        above[i] = grey_row(s, y - i);
        below[i] = grey_row(s, y + i);
    }
    for (int x = 0; x < s->padded; x += BLOCK) {
        double sum[BLOCK];
        for (int k = 0; k < BLOCK; k++)
            sum[k] = above[0][x + k] * g->weights[0];
        for (int i = g->radius; i > 0; i--)
            for (int k = 0; k < BLOCK; k++)
                sum[k] += (above[i][x + k] + below[i][x + k]) * g->weights[i];
        for (int k = 0; k < BLOCK; k++)
            out[x + k] = sum[k];
    }
}

/* The horizontal Gaussian; reads `radius` values beyond both ends of the row. */
static void blur_row(const struct gaussian *g, const double *row, int padded, double *out)
{
    for (int x = 0; x < padded; x += BLOCK) {
        double sum[BLOCK];
        for (int k = 0; k < BLOCK; k++)
            sum[k] = row[x + k] * g->weights[0];
        for (int i = g->radius; i > 0; i--)
            for (int k = 0; k < BLOCK; k++)
                sum[k] += (row[x + k - i] + row[x + k + i]) * g->weights[i];
        for (int k = 0; k < BLOCK; k++)
            out[x + k] = sum[k];
    }
}

/* The Gaussian of a picture that is 1 everywhere, in row y: the same in all rows that are far enough from the borders.
 * `scratch` has the margins of column_done. */
static void cover(struct stages *s, int y, double *scratch)
{
    const struct gaussian *g = &s->gaussian;
    double column = g->weights[0];
    for (int i = g->radius; i > 0; i--)
        column += ((y - i >= 0) + (y + i < s->height)) * g->weights[i];
    if (column == s->coverage_column)
        return;
    s->coverage_column = column;
    for (int x = 0; x < s->width; x++)
        scratch[x] = column;
    blur_row(g, scratch, s->padded, s->coverage.x);
    for (int x = 0; x < s->padded; x++)
        s->coverage.x[x] += 0x1p-52; /* the definition adds it, and so rounds differently */
}

/* Row y of the smoothed picture, with its first and last pixel repeated beyond the ends. */
static void smooth_row(struct stages *s, int y)
{
    double *column_done = s->column_done.x, *out = s->smooth[y % 3].x;
    cover(s, y, column_done);
    blur_columns(s, y, column_done);
    blur_row(&s->gaussian, column_done, s->padded, out);
    for (int x = 0; x < s->padded; x++)
        out[x] /= s->coverage.x[x];
    out[-1] = out[0];
    out[s->width] = out[s->width - 1];
}

/* ---- gradient ---- */

static int clamp(int value, int most)
{
    return value < 0 ? 0 : value > most ? most : value;
}

/* The differences of row y along the row, from the smoothed row. */
static void differ_along(struct stages *s, int y)
{
    const double *smooth = s->smooth[y % 3].x;
    double *along = s->along[y % 3].x;
    for (int x = 0; x < s->padded; x++)
        along[x] = smooth[x + 1] - smooth[x - 1];
}

/* Sobel derivatives and their magnitude in row y; needs the smoothed rows y - 1 to y + 1, or as many as there are. */
static void gradient_row(struct stages *s, int y)
{
    int up = clamp(y - 1, s->height - 1) % 3, here = y % 3, down = clamp(y + 1, s->height - 1) % 3;
    double *restrict across = s->across.x;
    const double *smooth_up = s->smooth[up].x, *smooth_down = s->smooth[down].x;
    for (int x = -1; x < s->padded; x++)
        across[x] = smooth_down[x] - smooth_up[x];
    across[s->width] = across[s->width - 1];
    const double *along_up = s->along[up].x, *along = s->along[here].x, *along_down = s->along[down].x;
    double *restrict gradient_x = s->gradient_x[here].x, *restrict gradient_y = s->gradient_y[here].x;
    double *restrict magnitude = s->magnitude[here].x;
    for (int x = 0; x < s->padded; x++) {
        double gx = along[x] * 2 + (along_up[x] + along_down[x]);
        double gy = across[x] * 2 + (across[x - 1] + across[x + 1]);
        gradient_x[x] = gx;
        gradient_y[x] = gy;
        magnitude[x] = sqrt(gy * gy + gx * gx);
    }
}

/* ---- non-maximum suppression ---- */

/* True if the magnitude at x is not below the interpolated ones ahead of it and behind it along the gradient. */
static bool is_ridge(const double *up, const double *here, const double *down, int x, double gx, double gy)
{
    double ax = fabs(gx), ay = fabs(gy), m = here[x];
    if (ax == 0 && ay == 0)
        return false;
    bool falling = (gx > 0 && gy < 0) || (gx < 0 && gy > 0); /* the gradient runs from lower left to upper right */
    int side = falling ? -1 : 1;
    double ahead_straight, behind_straight, w;
    double ahead_diagonal = down[x + side], behind_diagonal = up[x - side];
    if (ay > ax) {
        w = ax / ay;
        ahead_straight = down[x];
        behind_straight = up[x];
    } else {
        w = ay / ax;
        ahead_straight = here[x + side];
        behind_straight = here[x - side];
    }
    return ahead_diagonal * w + ahead_straight * (1 - w) <= m && behind_diagonal * w + behind_straight * (1 - w) <= m;
}

/* Writes NO_EDGE, WEAK or STRONG for row y, which is none of the outermost. */
static void classify_row(const struct stages *s, int y, const struct options *options, uint8_t *classes)
{
    const double *up = s->magnitude[(y - 1) % 3].x, *here = s->magnitude[y % 3].x, *down = s->magnitude[(y + 1) % 3].x;
    const double *gradient_x = s->gradient_x[y % 3].x, *gradient_y = s->gradient_y[y % 3].x;
    for (int x = 1; x < s->width - 1; x++) {
        if (here[x] < options->low || !is_ridge(up, here, down, x, gradient_x[x], gradient_y[x]))
            continue;
        classes[x] = here[x] >= options->high ? STRONG : WEAK;
    }
}

/* ---- hysteresis ---- */

struct stack {
    uint32_t *items;
    size_t count;
    size_t capacity;
};

static bool push(struct stack *stack, uint32_t item)
{
    if (stack->count == stack->capacity) {
        size_t capacity = stack->capacity == 0 ? 1024 : stack->capacity * 2;
        uint32_t *items = realloc(stack->items, capacity * sizeof *items);
        if (items == NULL)
            return false;
        stack->items = items;
        stack->capacity = capacity;
    }
    stack->items[stack->count++] = item;
    return true;
}

/* Makes an edge of all that hangs together with the pixels on the stack. No pixel of the border has a class, so that
 * every neighbour is inside. */
static bool grow_edges(struct image *map, struct stack *stack)
{
    while (stack->count > 0) {
        uint32_t at = stack->items[--stack->count];
        for (int dy = -1; dy <= 1; dy++)
            for (int dx = -1; dx <= 1; dx++) {
                uint32_t next = at + (uint32_t)(dy * (int)map->width + dx);
                if (map->pixels[next] != WEAK && map->pixels[next] != STRONG)
                    continue;
                map->pixels[next] = EDGE;
                if (!push(stack, next))
                    return false;
            }
    }
    return true;
}

/* Turns classes into 0 and 255: strong pixels, and weak ones that hang together with them. */
static bool link_edges(struct image *map)
{
    struct stack stack = {0};
    bool enough = true;
    uint32_t size = map->width * map->height;
    for (uint32_t at = 0; enough && at < size; at++) {
        if (map->pixels[at] != STRONG)
            continue;
        map->pixels[at] = EDGE;
        enough = push(&stack, at) && grow_edges(map, &stack);
    }
    for (uint32_t at = 0; at < size; at++)
        if (map->pixels[at] != EDGE)
            map->pixels[at] = NO_EDGE;
    free(stack.items);
    return enough;
}

/* ---- all of it ---- */

/* Lets each stage run as far ahead of the next one as that one needs. */
static void run_stages(struct stages *s, const struct options *options, struct image *map)
{
    int radius = s->gaussian.radius;
    int loaded = 0; /* rows of the picture that went into the ring */
    for (int y = 0; y < s->height; y++) {
        for (; loaded < s->height && loaded <= y + radius; loaded++)
            load_grey(s, loaded, s->grey[loaded % s->grey_count].x);
        smooth_row(s, y);
        differ_along(s, y);
        if (y >= 1)
            gradient_row(s, y - 1);
        if (y >= 3)
            classify_row(s, y - 2, options, map->pixels + (size_t)(y - 2) * map->width);
    }
    if (s->height >= 3) {
        gradient_row(s, s->height - 1);
        classify_row(s, s->height - 2, options, map->pixels + (size_t)(s->height - 2) * map->width);
    }
}

static const char *find_edges(const struct image *image, const struct options *options, struct image *map)
{
    const char *problem = image_allocate(map, image->width, image->height, 1);
    if (problem != NULL)
        return problem;
    struct stages *s = calloc(1, sizeof *s);
    if (s == NULL)
        return "out of memory";
    s->grey_or_rgb = image;
    s->width = (int)image->width;
    s->height = (int)image->height;
    s->padded = (s->width + BLOCK - 1) / BLOCK * BLOCK;
    make_gaussian(&s->gaussian, options->sigma);
    bool enough = allocate_stages(s);
    if (enough) {
        run_stages(s, options, map);
        enough = link_edges(map);
    }
    free_stages(s);
    free(s);
    return enough ? NULL : "out of memory";
}

int main(int argc, char **argv)
{
    struct options options = {1.0, 0.1, 0.2, FORMAT_AS_INPUT};
    int wrong = parse_arguments(argc, argv, &options);
    if (wrong)
        return wrong;
    uint8_t *data;
    size_t size;
    enum read_all_status status = read_all_stdin(INPUT_MAX, &data, &size);
    if (status != READ_ALL_OK)
        return complain(1, "canny", read_all_message(status), NULL);
    struct image image, map = {0};
    const char *problem = image_read(data, size, &image);
    if (problem == NULL)
        problem = find_edges(&image, &options, &map);
    bool png = options.format == FORMAT_PNG || (options.format == FORMAT_AS_INPUT && png_is(data, size));
    if (problem == NULL && !(png ? png_write(stdout, &map) : pnm_write(stdout, &map)))
        problem = "cannot write the picture";
    free(data);
    image_free(&image);
    image_free(&map);
    return problem == NULL ? 0 : complain(1, "canny", problem, NULL);
}
