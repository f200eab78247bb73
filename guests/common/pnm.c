/* PGM (P5) and PPM (P6) pictures, from the netpbm format definitions pgm(5) and ppm(5). */
#include "pnm.h"

#include "number.h"

#include <string.h>

struct reader {
    const uint8_t *data;
    size_t size;
    size_t at;
};

static bool is_space(uint8_t byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

/* Skips white space and comments; false if there is none. */
static bool skip_space(struct reader *r)
{
    size_t start = r->at;
    while (r->at < r->size && (is_space(r->data[r->at]) || r->data[r->at] == '#')) {
        if (r->data[r->at] == '#')
            while (r->at < r->size && r->data[r->at] != '\n')
                r->at++;
        else
            r->at++;
    }
    return r->at > start;
}

/* A decimal number below 2^31, after white space. */
static bool read_number(struct reader *r, uint32_t *number)
{
    if (!skip_space(r))
        return false;
    uint32_t value = 0;
    size_t digits = 0;
    for (; r->at < r->size && r->data[r->at] >= '0' && r->data[r->at] <= '9'; r->at++, digits++) {
        if (value > (INT32_MAX - 9) / 10)
            return false;
        value = value * 10 + (uint32_t)(r->data[r->at] - '0');
    }
    *number = value;
    return digits > 0;
}

/* Scales to 0..255 with rounding; false if a sample is above the maximum. */
static bool scale_samples(uint8_t *samples, size_t count, uint32_t maximum)
{
    for (size_t i = 0; i < count; i++) {
        if (samples[i] > maximum)
            return false;
        samples[i] = (uint8_t)((samples[i] * 255u + maximum / 2) / maximum);
    }
    return true;
}

bool pnm_is(const uint8_t *data, size_t size)
{
    return size >= 2 && data[0] == 'P' && (data[1] == '5' || data[1] == '6');
}

const char *pnm_read(const uint8_t *data, size_t size, struct image *image)
{
    struct reader r = {data, size, 2};
    uint32_t channels = data[1] == '5' ? 1 : 3;
    uint32_t width, height, maximum;
    if (!read_number(&r, &width) || !read_number(&r, &height) || !read_number(&r, &maximum))
        return "the PNM header is broken";
    if (maximum == 0 || maximum > 255)
        return "the PNM maximum is not within 1..255";
    if (r.at == r.size || !is_space(data[r.at]))
        return "the PNM header is broken";
    r.at++;
    const char *problem = image_allocate(image, width, height, channels);
    if (problem != NULL)
        return problem;
    size_t bytes = (size_t)width * height * channels;
    if (size - r.at < bytes)
        problem = "the PNM pixels end too early";
    else if (size - r.at > bytes)
        problem = "bytes follow the PNM pixels";
    else {
        memcpy(image->pixels, data + r.at, bytes);
        if (maximum < 255 && !scale_samples(image->pixels, bytes, maximum))
            problem = "a PNM sample is above the maximum";
    }
    if (problem != NULL)
        image_free(image);
    return problem;
}

bool pnm_write(FILE *file, const struct image *image)
{
    size_t bytes = (size_t)image->width * image->height * image->channels;
    char width[UNSIGNED_TEXT_BYTES], height[UNSIGNED_TEXT_BYTES];
    fputs(image->channels == 1 ? "P5\n" : "P6\n", file);
    fputs(unsigned_text(image->width, width), file);
    fputs(" ", file);
    fputs(unsigned_text(image->height, height), file);
    fputs("\n255\n", file);
    return fwrite(image->pixels, 1, bytes, file) == bytes && fflush(file) == 0 && !ferror(file);
}
