/* Finds places that may be licence plates, by morphology. Dark strokes on a lighter ground leave a black-hat, letters
 * beside each other give it many vertical edges, and a closing joins them into a rectangle. The idea is that of J. Hsieh,
 * S. Yu, Y. Chen, Morphology-based License Plate Detection from Complex Scenes, ICPR 2002; black-hat: F. Meyer 1979;
 * threshold: N. Otsu, A Threshold Selection Method from Gray-Level Histograms, IEEE SMC 9(1), 1979.
 *
 * All lengths are shares of the picture's width, for plates of about a fifth to a third of it. All arithmetic is in whole
 * numbers, except the threshold's. */
#include "complain.h"
#include "components.h"
#include "image.h"
#include "morphology.h"
#include "number.h"
#include "pnm.h"
#include "read_all.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    INPUT_MAX = 128 << 20,
    /* Divisors of the width. */
    STROKE_WIDTH = 50, /* wider than a stroke of a letter */
    STROKE_HEIGHT = 100,
    SMOOTHING = 40,
    GAP_WIDTH = 20, /* wider than the gap between two letters */
    GAP_HEIGHT = 100,
    TAIL_WIDTH = 40, /* what is thinner is cut off */
    TAIL_HEIGHT = 40,
    NARROWEST = 12,
    WIDEST = 2,
    /* Limits and the ideal of width by height. */
    ASPECT_LEAST = 2,
    ASPECT_MOST = 9,
    ASPECT_IDEAL_PERMILLE = 4000,
    PERMILLE = 1000
};

struct box {
    uint32_t x, y, width, height;
    uint32_t score; /* permille */
};

struct boxes {
    struct box *items;
    size_t count;
};

/* ---- steps ---- */

/* The odd length that is this share of the width; at least 3. */
static uint32_t share(uint32_t width, uint32_t divisor)
{
    uint32_t length = width / divisor | 1;
    return length < 3 ? 3 : length;
}

static const char *to_grey(const struct image *picture, struct image *grey)
{
    const char *problem = image_allocate(grey, picture->width, picture->height, 1);
    if (problem != NULL)
        return problem;
    size_t count = (size_t)picture->width * picture->height;
    const uint8_t *from = picture->pixels;
    if (picture->channels == 1) {
        memcpy(grey->pixels, from, count);
        return NULL;
    }
    for (size_t i = 0; i < count; i++, from += 3) /* the weights of ITU-R BT.601 */
        grey->pixels[i] = (uint8_t)((299u * from[0] + 587u * from[1] + 114u * from[2] + 500u) / 1000u);
    return NULL;
}

/* Closing minus picture: how much darker than its surroundings a pixel is. */
static bool black_hat(struct image *picture, struct rectangle around)
{
    size_t count = (size_t)picture->width * picture->height;
    uint8_t *before = malloc(count);
    if (before == NULL)
        return false;
    memcpy(before, picture->pixels, count);
    bool enough = dilate(picture, around) && erode(picture, around);
    for (size_t i = 0; enough && i < count; i++)
        picture->pixels[i] = (uint8_t)(picture->pixels[i] - before[i]);
    free(before);
    return enough;
}

static uint32_t clamp(int64_t at, uint32_t count)
{
    return at < 0 ? 0 : at >= count ? count - 1 : (uint32_t)at;
}

/* One row of the gradient. `row` is the sum of three rows, weighted 1, 2, 1, with its ends repeated. */
static void differ(const uint16_t *row, uint8_t *out, uint32_t width)
{
    for (uint32_t x = 0; x < width; x++) {
        int difference = row[x + 2] - row[x];
        out[x] = (uint8_t)((difference < 0 ? -difference : difference) >> 2);
    }
}

/* A quarter of the amount of Sobel's horizontal derivative; the borders are repeated outwards. */
static bool gradient(struct image *picture)
{
    uint32_t width = picture->width, height = picture->height;
    uint8_t *out = malloc((size_t)width * height);
    uint16_t *sum = malloc((width + 2) * sizeof *sum);
    bool enough = out != NULL && sum != NULL;
    for (uint32_t y = 0; enough && y < height; y++) {
        const uint8_t *up = picture->pixels + (size_t)clamp((int64_t)y - 1, height) * width;
        const uint8_t *here = picture->pixels + (size_t)y * width;
        const uint8_t *down = picture->pixels + (size_t)clamp((int64_t)y + 1, height) * width;
        for (uint32_t x = 0; x < width; x++)
            sum[x + 1] = (uint16_t)(up[x] + 2 * here[x] + down[x]);
        sum[0] = sum[1];
        sum[width + 1] = sum[width];
        differ(sum, out + (size_t)y * width, width);
    }
    free(sum);
    if (enough) {
        free(picture->pixels);
        picture->pixels = out;
    } else {
        free(out);
    }
    return enough;
}

/* Slides a sum of `side` columns along a row of column sums, and writes rounded means. */
static void mean_row(const uint32_t *columns, uint32_t width, uint32_t side, uint8_t *out)
{
    uint32_t area = side * side, sum = 0;
    int64_t radius = side / 2;
    for (int64_t x = -radius; x <= radius; x++)
        sum += columns[clamp(x, width)];
    for (uint32_t x = 0; x < width; x++) {
        out[x] = (uint8_t)((sum + area / 2) / area);
        sum += columns[clamp((int64_t)x + radius + 1, width)];
        sum -= columns[clamp((int64_t)x - radius, width)];
    }
}

/* The mean over squares; the borders are repeated outwards. */
static bool smooth(struct image *picture, uint32_t side)
{
    uint32_t width = picture->width, height = picture->height;
    int64_t radius = side / 2;
    uint8_t *out = malloc((size_t)width * height);
    uint32_t *columns = calloc(width, sizeof *columns);
    bool enough = out != NULL && columns != NULL;
    for (int64_t y = -radius; enough && y <= radius; y++)
        for (uint32_t x = 0; x < width; x++)
            columns[x] += picture->pixels[(size_t)clamp(y, height) * width + x];
    for (uint32_t y = 0; enough && y < height; y++) {
        mean_row(columns, width, side, out + (size_t)y * width);
        const uint8_t *enters = picture->pixels + (size_t)clamp((int64_t)y + radius + 1, height) * width;
        const uint8_t *leaves = picture->pixels + (size_t)clamp((int64_t)y - radius, height) * width;
        for (uint32_t x = 0; x < width; x++)
            columns[x] += (uint32_t)enters[x] - leaves[x]; /* unsigned on purpose: what wraps, wraps back */
    }
    free(columns);
    if (enough) {
        free(picture->pixels);
        picture->pixels = out;
    } else {
        free(out);
    }
    return enough;
}

/* Otsu's threshold: the one that sets the means of the two sides farthest apart. 255 if there is only one value. */
static uint8_t otsu(const struct image *picture)
{
    uint32_t histogram[256] = {0};
    size_t count = (size_t)picture->width * picture->height;
    for (size_t i = 0; i < count; i++)
        histogram[picture->pixels[i]]++;
    double total = 0;
    for (int value = 0; value < 256; value++)
        total += (double)value * histogram[value];
    double below = 0, below_total = 0, best = 0;
    uint8_t threshold = 255;
    for (int value = 0; value < 255; value++) {
        below += histogram[value];
        below_total += (double)value * histogram[value];
        double above = (double)count - below;
        if (below == 0 || above == 0)
            continue;
        double apart = below_total / below - (total - below_total) / above;
        if (below * above * apart * apart > best) {
            best = below * above * apart * apart;
            threshold = (uint8_t)value;
        }
    }
    return threshold;
}

static void binarise(struct image *picture, uint8_t threshold)
{
    size_t count = (size_t)picture->width * picture->height;
    for (size_t i = 0; i < count; i++)
        picture->pixels[i] = picture->pixels[i] > threshold ? 255 : 0;
}

/* Turns a grey picture into a black and white one of places with much lettering. */
static bool mark_lettering(struct image *picture)
{
    uint32_t width = picture->width;
    struct rectangle stroke = {share(width, STROKE_WIDTH), share(width, STROKE_HEIGHT)};
    struct rectangle gap = {share(width, GAP_WIDTH), share(width, GAP_HEIGHT)};
    struct rectangle tail = {share(width, TAIL_WIDTH), share(width, TAIL_HEIGHT)};
    if (!(black_hat(picture, stroke) && gradient(picture) && smooth(picture, share(width, SMOOTHING))))
        return false;
    if (!(dilate(picture, gap) && erode(picture, gap)))
        return false;
    binarise(picture, otsu(picture));
    return erode(picture, tail) && dilate(picture, tail);
}

/* ---- boxes ---- */

static bool is_plausible(const struct component *c, uint32_t picture_width)
{
    uint64_t width = c->x1 - c->x0, height = c->y1 - c->y0;
    return width * NARROWEST >= picture_width && width * WIDEST <= picture_width && width >= height * ASPECT_LEAST &&
           width <= height * ASPECT_MOST && (uint64_t)c->area * 2 >= width * height;
}

/* How much of the box is filled, times how near its form is to a plate's. */
static uint32_t score(const struct component *c)
{
    uint64_t width = c->x1 - c->x0, height = c->y1 - c->y0;
    uint64_t fill = (uint64_t)c->area * PERMILLE / (width * height);
    uint64_t aspect = width * PERMILLE / height, ideal = ASPECT_IDEAL_PERMILLE;
    uint64_t likeness = aspect < ideal ? aspect * PERMILLE / ideal : ideal * PERMILLE / aspect;
    return (uint32_t)(fill * likeness / PERMILLE);
}

static bool comes_before(const struct box *a, const struct box *b)
{
    if (a->score != b->score)
        return a->score > b->score;
    return a->y != b->y ? a->y < b->y : a->x < b->x;
}

/* Sorted by insertion: plausible boxes are a twelfth of the picture wide, so there are never many. */
static void insert(struct boxes *boxes, struct box box)
{
    size_t at = boxes->count++;
    for (; at > 0 && comes_before(&box, &boxes->items[at - 1]); at--)
        boxes->items[at] = boxes->items[at - 1];
    boxes->items[at] = box;
}

static bool choose_boxes(const struct components *found, uint32_t picture_width, struct boxes *boxes)
{
    size_t count = 0;
    for (uint32_t i = 0; i < found->count; i++)
        count += found->items[i].parent == i && is_plausible(&found->items[i], picture_width);
    boxes->items = calloc(count + 1, sizeof *boxes->items);
    if (boxes->items == NULL)
        return false;
    for (uint32_t i = 0; i < found->count; i++) {
        const struct component *c = &found->items[i];
        if (c->parent == i && is_plausible(c, picture_width))
            insert(boxes, (struct box){c->x0, c->y0, c->x1 - c->x0, c->y1 - c->y0, score(c)});
    }
    return true;
}

static const char *find_plates(const struct image *picture, struct boxes *boxes)
{
    struct image work = {0};
    struct components found = {0};
    const char *problem = to_grey(picture, &work);
    if (problem == NULL && !(mark_lettering(&work) && find_components(&work, &found) && choose_boxes(&found, work.width, boxes)))
        problem = "out of memory";
    free(found.items);
    image_free(&work);
    return problem;
}

/* ---- answers ---- */

static void print_field(const char *before, uint32_t number)
{
    char text[UNSIGNED_TEXT_BYTES];
    fputs(before, stdout);
    fputs(unsigned_text(number, text), stdout);
}

/* A score as a decimal fraction with three digits. */
static void print_score(uint32_t score)
{
    print_field(",\"score\":", score / PERMILLE);
    putchar('.');
    putchar((int)('0' + score / 100 % 10));
    putchar((int)('0' + score / 10 % 10));
    putchar((int)('0' + score % 10));
}

static bool print_json(const struct image *picture, const struct boxes *boxes)
{
    print_field("{\"width\":", picture->width);
    print_field(",\"height\":", picture->height);
    fputs(",\"boxes\":[", stdout);
    for (size_t i = 0; i < boxes->count; i++) {
        const struct box *box = &boxes->items[i];
        print_field(i == 0 ? "{\"x\":" : ",{\"x\":", box->x);
        print_field(",\"y\":", box->y);
        print_field(",\"width\":", box->width);
        print_field(",\"height\":", box->height);
        print_score(box->score);
        putchar('}');
    }
    fputs("]}\n", stdout);
    return fflush(stdout) == 0 && !ferror(stdout);
}

static void fill(struct image *picture, uint32_t x0, uint32_t y0, uint32_t x1, uint32_t y1, const uint8_t *colour)
{
    for (uint32_t y = y0; y < y1; y++)
        for (uint32_t x = x0; x < x1; x++)
            memcpy(picture->pixels + ((size_t)y * picture->width + x) * 3, colour, 3);
}

/* A frame inside the box; no box is so small that its sides would meet. */
static void draw_box(struct image *picture, const struct box *box, const uint8_t *colour)
{
    uint32_t line = 1 + picture->width / 640;
    uint32_t x1 = box->x + box->width, y1 = box->y + box->height;
    if (box->width < 2 * line || box->height < 2 * line)
        line = 1;
    fill(picture, box->x, box->y, x1, box->y + line, colour);
    fill(picture, box->x, y1 - line, x1, y1, colour);
    fill(picture, box->x, box->y, box->x + line, y1, colour);
    fill(picture, x1 - line, box->y, x1, y1, colour);
}

/* The picture in colour, with the best box in green and the others in orange. */
static const char *draw(const struct image *picture, const struct boxes *boxes)
{
    static const uint8_t green[3] = {0, 255, 0}, orange[3] = {255, 160, 0};
    struct image drawn;
    const char *problem = image_allocate(&drawn, picture->width, picture->height, 3);
    if (problem != NULL)
        return problem;
    size_t count = (size_t)picture->width * picture->height;
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < 3; k++)
            drawn.pixels[3 * i + k] = picture->pixels[picture->channels == 3 ? 3 * i + k : i];
    for (size_t i = boxes->count; i-- > 0;)
        draw_box(&drawn, &boxes->items[i], i == 0 ? green : orange);
    bool written = pnm_write(stdout, &drawn);
    image_free(&drawn);
    return written ? NULL : "cannot write the picture";
}

int main(int argc, char **argv)
{
    bool drawn = argc == 2 && strcmp(argv[1], "--draw") == 0;
    if (argc > 1 && !drawn) {
        complain(2, "plate", "unknown argument", argv[1]);
        return complain(2, "usage", "plate [--draw]", NULL);
    }
    uint8_t *data;
    size_t size;
    enum read_all_status status = read_all_stdin(INPUT_MAX, &data, &size);
    if (status != READ_ALL_OK)
        return complain(1, "plate", read_all_message(status), NULL);
    struct image picture;
    struct boxes boxes = {0};
    const char *problem = image_read(data, size, &picture);
    free(data);
    if (problem == NULL)
        problem = find_plates(&picture, &boxes);
    if (problem == NULL && drawn)
        problem = draw(&picture, &boxes);
    else if (problem == NULL && !print_json(&picture, &boxes))
        problem = "cannot write the answer";
    free(boxes.items);
    image_free(&picture);
    return problem == NULL ? 0 : complain(1, "plate", problem, NULL);
}
