/* Recognises handwritten digits with LeNet-5: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-Based Learning
 * Applied to Document Recognition, Proc. IEEE 86(11), 1998.
 *
 * The sizes are the paper's: C1 6 maps of 28x28, S2, C3 16 maps of 10x10, S4, C5 120, F6 84, 10 outputs. As is usual
 * today, the units are ReLU instead of tanh, S2 and S4 take the maximum instead of a trained mean, every map of C3 sees
 * all of S2 instead of the paper's table I, and the output is a softmax instead of radial basis functions.
 *
 * Images lie by row, column and channel, and a weight's last index is the output channel. So each output has a sum of
 * its own, added in one order with and without SIMD: the answers are the same to the byte. */
#include "../common/number.h"
#include "../common/read_all.h"
#include "weights.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIDE = 28, PIXELS = SIDE * SIDE, CLASSES = 10, IMAGES_MAX = 60000, INPUT_BYTES_MAX = 16 + IMAGES_MAX * PIXELS };
enum { WINDOW = 5, PADDED = SIDE + WINDOW - 1 };
enum { C1_MAPS = 6, C3_MAPS = 16, C5_UNITS = 120, F6_UNITS = 84 };
enum { C1_SIDE = 28, S2_SIDE = 14, C3_SIDE = 10, S4_SIDE = 5, S4_VALUES = S4_SIDE * S4_SIDE * C3_MAPS };

/* ---- the network ---- */

/* All that lies between the layers. */
static struct {
    float input[PADDED * PADDED];
    float c1[C1_SIDE * C1_SIDE * C1_MAPS], s2[S2_SIDE * S2_SIDE * C1_MAPS];
    float c3[C3_SIDE * C3_SIDE * C3_MAPS], s4[S4_VALUES];
    float c5[C5_UNITS], f6[F6_UNITS], scores[CLASSES];
} net;

/* The weights as floats, unpacked once. Their scale is applied to the finished sum, once for each output. */
static float c1_floats[sizeof c1_weights], c3_floats[sizeof c3_weights], c5_floats[sizeof c5_weights];
static float f6_floats[sizeof f6_weights], output_floats[sizeof output_weights];

static void unpack(const int8_t *weights, float *floats, size_t count)
{
    for (size_t i = 0; i < count; i++)
        floats[i] = weights[i];
}

static void unpack_all(void)
{
    unpack(c1_weights, c1_floats, sizeof c1_weights);
    unpack(c3_weights, c3_floats, sizeof c3_weights);
    unpack(c5_weights, c5_floats, sizeof c5_weights);
    unpack(f6_weights, f6_floats, sizeof f6_weights);
    unpack(output_weights, output_floats, sizeof output_weights);
}

static float at_least_zero(float x) { return x > 0 ? x : 0; }

/* sums[o] += x * weights[o]. Inlined with a constant count, so that a compiler can unroll it and use SIMD. */
static inline void add_scaled(float *restrict sums, float x, const float *restrict weights, int outputs)
{
    for (int o = 0; o < outputs; o++)
        sums[o] += x * weights[o];
}

/* The 5 by 5 window over all channels at one place, for all maps at a time. */
static inline void convolve_place(const float *restrict in, int in_side, int channels, const float *restrict weights,
                                  const float *scales, const float *biases, int maps, float *restrict out)
{
    float sums[C3_MAPS] = {0};
    for (int dy = 0; dy < WINDOW; dy++) {
        const float *row = in + dy * in_side * channels;
        for (int i = 0; i < WINDOW * channels; i++) {
            add_scaled(sums, row[i], weights, maps);
            weights += maps;
        }
    }
    for (int m = 0; m < maps; m++)
        out[m] = at_least_zero(sums[m] * scales[m] + biases[m]);
}

static inline void convolve(const float *restrict in, int in_side, int channels, const float *restrict weights,
                            const float *scales, const float *biases, int maps, float *restrict out)
{
    int out_side = in_side - WINDOW + 1;
    for (int y = 0; y < out_side; y++)
        for (int x = 0; x < out_side; x++)
            convolve_place(in + (y * in_side + x) * channels, in_side, channels, weights, scales, biases, maps,
                           out + (y * out_side + x) * maps);
}

static float larger(float a, float b) { return a > b ? a : b; }

/* The largest of each 2 by 2 square. */
static inline void pool(const float *restrict in, int in_side, int channels, float *restrict out)
{
    for (int y = 0; y < in_side; y += 2) {
        for (int x = 0; x < in_side; x += 2) {
            const float *top = in + (y * in_side + x) * channels;
            const float *bottom = top + in_side * channels;
            for (int c = 0; c < channels; c++)
                *out++ = larger(larger(top[c], top[c + channels]), larger(bottom[c], bottom[c + channels]));
        }
    }
}

static inline void connect(const float *restrict in, int inputs, const float *restrict weights, const float *scales,
                           const float *biases, int outputs, float *restrict out)
{
    memset(out, 0, (size_t)outputs * sizeof *out);
    for (int i = 0; i < inputs; i++)
        add_scaled(out, in[i], weights + i * outputs, outputs);
    for (int o = 0; o < outputs; o++)
        out[o] = out[o] * scales[o] + biases[o];
}

static void rectify(float *values, int count)
{
    for (int i = 0; i < count; i++)
        values[i] = at_least_zero(values[i]);
}

static void load_image(const uint8_t *pixels)
{
    enum { FRAME = (PADDED - SIDE) / 2 };
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            net.input[(y + FRAME) * PADDED + x + FRAME] = pixels[y * SIDE + x] / 255.0f;
}

static void run_network(const uint8_t *pixels)
{
    load_image(pixels);
    convolve(net.input, PADDED, 1, c1_floats, c1_scales, c1_biases, C1_MAPS, net.c1);
    pool(net.c1, C1_SIDE, C1_MAPS, net.s2);
    convolve(net.s2, S2_SIDE, C1_MAPS, c3_floats, c3_scales, c3_biases, C3_MAPS, net.c3);
    pool(net.c3, C3_SIDE, C3_MAPS, net.s4);
    connect(net.s4, S4_VALUES, c5_floats, c5_scales, c5_biases, C5_UNITS, net.c5);
    rectify(net.c5, C5_UNITS);
    connect(net.c5, C5_UNITS, f6_floats, f6_scales, f6_biases, F6_UNITS, net.f6);
    rectify(net.f6, F6_UNITS);
    connect(net.f6, F6_UNITS, output_floats, output_scales, output_biases, CLASSES, net.scores);
}

static int best_class(void)
{
    int best = 0;
    for (int c = 1; c < CLASSES; c++)
        if (net.scores[c] > net.scores[best])
            best = c;
    return best;
}

/* The softmax of the best class, in thousandths. */
static int best_probability(int best)
{
    double sum = 0;
    for (int c = 0; c < CLASSES; c++)
        sum += exp((double)net.scores[c] - net.scores[best]);
    return (int)(1000 / sum + 0.5);
}

/* ---- input and output ---- */

struct images {
    const uint8_t *pixels;
    uint32_t count;
};

static uint32_t big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The file format of MNIST: a magic number for three dimensions of bytes, the dimensions, the bytes. */
static const char *parse_idx(const uint8_t *data, size_t length, struct images *images)
{
    enum { HEAD = 16 };
    if (length < HEAD)
        return "the IDX header is cut off";
    if (big_endian(data + 8) != SIDE || big_endian(data + 12) != SIDE)
        return "the images are not of 28 by 28 pixels";
    images->pixels = data + HEAD;
    images->count = big_endian(data + 4);
    if (images->count > IMAGES_MAX)
        return "there are more than 60000 images";
    if (length - HEAD != (size_t)images->count * PIXELS)
        return "the length does not fit the number of images";
    return NULL;
}

/* Steps over spaces and comments, then reads a number of a PGM header. */
static bool pgm_number(const uint8_t *data, size_t length, size_t *at, uint32_t *number)
{
    while (*at < length && (data[*at] == '#' || strchr(" \t\r\n", data[*at]) != NULL) && data[*at] != 0) {
        if (data[*at] == '#')
            while (*at < length && data[*at] != '\n')
                ++*at;
        else
            ++*at;
    }
    size_t start = *at;
    *number = 0;
    while (*at < length && data[*at] >= '0' && data[*at] <= '9' && *number < 100000)
        *number = *number * 10 + (uint32_t)(data[(*at)++] - '0');
    return *at > start;
}

/* Binary PGM, as the netpbm project describes it; one image of 28 by 28, white on black as MNIST has it. */
static const char *parse_pgm(const uint8_t *data, size_t length, struct images *images)
{
    size_t at = 2;
    uint32_t width, height, white;
    if (!pgm_number(data, length, &at, &width) || !pgm_number(data, length, &at, &height) ||
        !pgm_number(data, length, &at, &white) || at == length)
        return "the PGM header is malformed";
    at++; /* one space ends the header */
    if (width != SIDE || height != SIDE || white != 255)
        return "the PGM image is not of 28 by 28 pixels from 0 to 255";
    if (length - at != PIXELS)
        return "the PGM image does not have 784 pixels";
    images->pixels = data + at;
    images->count = 1;
    return NULL;
}

static const char *parse(const uint8_t *data, size_t length, struct images *images)
{
    static const uint8_t idx_magic[4] = {0, 0, 8, 3};
    if (length >= 4 && memcmp(data, idx_magic, 4) == 0)
        return parse_idx(data, length, images);
    if (length >= 2 && data[0] == 'P' && data[1] == '5')
        return parse_pgm(data, length, images);
    return "the input is neither IDX nor PGM";
}

/* One JSON object a line. */
static void print_answer(uint32_t image, int class, int probability)
{
    char text[UNSIGNED_TEXT_BYTES];
    char thousandths[] = {(char)('0' + probability / 1000), '.', (char)('0' + probability / 100 % 10),
                          (char)('0' + probability / 10 % 10), (char)('0' + probability % 10), 0};
    fputs("{\"image\":", stdout);
    fputs(unsigned_text(image, text), stdout);
    fputs(",\"digit\":", stdout);
    putchar('0' + class);
    fputs(",\"probability\":", stdout);
    fputs(thousandths, stdout);
    fputs("}\n", stdout);
}

static int fail(const char *problem)
{
    fputs("lenet: ", stderr);
    fputs(problem, stderr);
    fputc('\n', stderr);
    return 1;
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        fail("takes no arguments; the digits come from standard input, as IDX or PGM");
        return 2;
    }
    uint8_t *data;
    size_t length;
    enum read_all_status status = read_all_stdin(INPUT_BYTES_MAX, &data, &length);
    if (status != READ_ALL_OK)
        return fail(read_all_message(status));
    struct images images;
    const char *problem = parse(data, length, &images);
    if (problem != NULL)
        return fail(problem);
    unpack_all();
    for (uint32_t i = 0; i < images.count; i++) {
        run_network(images.pixels + (size_t)i * PIXELS);
        int best = best_class();
        print_answer(i, best, best_probability(best));
    }
    free(data);
    return fflush(stdout) != 0;
}
