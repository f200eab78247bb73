/* PNG pictures, from the definition: Portable Network Graphics (PNG) Specification, W3C, ISO/IEC 15948; the compressed
 * stream is zlib's, RFC 1950. */
#include "png.h"

#include "crc32.h"
#include "inflate.h"

#include <stdlib.h>
#include <string.h>

static const uint8_t signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};

static uint32_t big_endian(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static uint32_t adler32(uint32_t adler, const uint8_t *bytes, size_t size)
{
    uint32_t low = adler & 0xFFFF, high = adler >> 16;
    while (size > 0) {
        size_t piece = size < 5552 ? size : 5552; /* as many as fit before the sums overflow (RFC 1950, 9) */
        size -= piece;
        for (; piece > 0; piece--) {
            low += *bytes++;
            high += low;
        }
        low %= 65521;
        high %= 65521;
    }
    return high << 16 | low;
}

/* ---- chunks ---- */

struct chunk {
    char type[5];
    const uint8_t *data;
    uint32_t size;
};

struct file {
    const uint8_t *data;
    size_t size;
    size_t at; /* where the next chunk begins */
    const char *problem;
};

static bool fail(struct file *f, const char *problem)
{
    if (f->problem == NULL)
        f->problem = problem;
    return false;
}

static bool next_chunk(struct file *f, struct chunk *chunk)
{
    size_t left = f->size - f->at;
    if (left < 12)
        return fail(f, "the PNG file ends too early");
    const uint8_t *start = f->data + f->at;
    uint32_t size = big_endian(start);
    if (size > INT32_MAX || size > left - 12)
        return fail(f, "a PNG chunk goes beyond the end of the file");
    if (crc32_update(0, start + 4, (size_t)size + 4) != big_endian(start + 8 + size))
        return fail(f, "the CRC of a PNG chunk is wrong");
    memcpy(chunk->type, start + 4, 4);
    chunk->type[4] = 0;
    chunk->data = start + 8;
    chunk->size = size;
    f->at += (size_t)size + 12;
    return true;
}

static bool chunk_is(const struct chunk *chunk, const char *type)
{
    return memcmp(chunk->type, type, 4) == 0;
}

/* ---- reading ---- */

enum colour { GREY = 0, RGB = 2, PALETTE = 3, GREY_ALPHA = 4, RGB_ALPHA = 6 };

struct decoder {
    struct file file;
    struct chunk idat;        /* the IDAT chunk that is being read */
    struct image *image;
    enum colour colour;
    const uint8_t *palette;   /* 3 bytes a colour */
    uint32_t palette_size;
    size_t pixel_bytes;       /* bytes of a pixel in the file */
    size_t row_bytes;         /* bytes of a row in the file, its filter's number not counted */
    uint8_t *row;             /* filter's number, then the row */
    uint8_t *above;           /* the row above, without its filter; in the same form */
    size_t row_filled;
    uint32_t y;
    uint32_t adler;
};

static uint8_t paeth(int left, int above, int corner)
{
    int estimate = left + above - corner;
    int by_left = abs(estimate - left), by_above = abs(estimate - above), by_corner = abs(estimate - corner);
    /* Written as choices of values: branches would be mispredicted all the time. */
    int other = by_above <= by_corner ? above : corner;
    int by_other = by_above <= by_corner ? by_above : by_corner;
    return (uint8_t)(by_left <= by_other ? left : other);
}

/* Undoes the filter of a row, in place (PNG 9.2). `step` is the bytes of a pixel; the first pixel has no left
 * neighbour. False for an unknown filter. */
static bool unfilter(uint8_t filter, uint8_t *row, const uint8_t *above, size_t size, size_t step)
{
    switch (filter) {
    case 0:
        return true;
    case 1:
        for (size_t i = step; i < size; i++)
            row[i] = (uint8_t)(row[i] + row[i - step]);
        return true;
    case 2:
        for (size_t i = 0; i < size; i++)
            row[i] = (uint8_t)(row[i] + above[i]);
        return true;
    case 3:
        for (size_t i = 0; i < step; i++)
            row[i] = (uint8_t)(row[i] + above[i] / 2);
        for (size_t i = step; i < size; i++)
            row[i] = (uint8_t)(row[i] + (row[i - step] + above[i]) / 2);
        return true;
    case 4:
        for (size_t i = 0; i < step; i++)
            row[i] = (uint8_t)(row[i] + above[i]);
        for (size_t i = step; i < size; i++)
            row[i] = (uint8_t)(row[i] + paeth(row[i - step], above[i], above[i - step]));
        return true;
    default:
        return false;
    }
}

static bool store_row(struct decoder *d)
{
    struct image *image = d->image;
    uint8_t *to = image->pixels + (size_t)d->y * image->width * image->channels;
    const uint8_t *from = d->row + 1;
    for (uint32_t x = 0; x < image->width; x++, from += d->pixel_bytes, to += image->channels) {
        if (d->colour == PALETTE) {
            if (*from >= d->palette_size)
                return fail(&d->file, "a PNG pixel has a colour outside the palette");
            memcpy(to, d->palette + 3 * (size_t)*from, 3);
        } else {
            memcpy(to, from, image->channels);
        }
    }
    return true;
}

static bool finish_row(struct decoder *d)
{
    if (!unfilter(d->row[0], d->row + 1, d->above + 1, d->row_bytes, d->pixel_bytes))
        return fail(&d->file, "a PNG row has an unknown filter");
    if (!store_row(d))
        return false;
    uint8_t *done = d->row;
    d->row = d->above;
    d->above = done;
    d->row_filled = 0;
    d->y++;
    return true;
}

/* The sink of the decompressor: gathers rows. It never gets more than the picture's bytes. */
static bool take_bytes(void *context, const uint8_t *bytes, size_t size)
{
    struct decoder *d = context;
    d->adler = adler32(d->adler, bytes, size);
    while (size > 0) {
        size_t piece = d->row_bytes + 1 - d->row_filled;
        if (piece > size)
            piece = size;
        memcpy(d->row + d->row_filled, bytes, piece);
        d->row_filled += piece;
        bytes += piece;
        size -= piece;
        if (d->row_filled == d->row_bytes + 1 && !finish_row(d))
            return false;
    }
    return true;
}

/* The source of the decompressor: the data of the IDAT chunks in a row. */
static bool next_idat(struct inflate_source *source)
{
    struct decoder *d = source->context;
    size_t before = d->file.at;
    if (!next_chunk(&d->file, &d->idat))
        return false;
    if (!chunk_is(&d->idat, "IDAT")) {
        d->file.at = before;
        return false;
    }
    source->next = d->idat.data;
    source->end = d->idat.data + d->idat.size;
    return true;
}

/* One byte of the zlib stream that is no part of the deflate stream. */
static bool plain_byte(struct inflate_source *source, uint8_t *byte)
{
    while (source->next == source->end)
        if (!next_idat(source))
            return false;
    *byte = *source->next++;
    return true;
}

static bool read_header(struct decoder *d)
{
    struct chunk chunk;
    if (!next_chunk(&d->file, &chunk))
        return false;
    if (!chunk_is(&chunk, "IHDR") || chunk.size != 13)
        return fail(&d->file, "the PNG file does not begin with a header");
    if (chunk.data[8] != 8)
        return fail(&d->file, "the PNG file has not 8 bits a sample");
    if (chunk.data[10] != 0 || chunk.data[11] != 0)
        return fail(&d->file, "the PNG file uses an unknown compression or filter method");
    if (chunk.data[12] != 0)
        return fail(&d->file, "the PNG file is interlaced");
    static const uint8_t pixel_bytes[7] = {[GREY] = 1, [RGB] = 3, [PALETTE] = 1, [GREY_ALPHA] = 2, [RGB_ALPHA] = 4};
    uint8_t colour = chunk.data[9];
    if (colour >= sizeof pixel_bytes || pixel_bytes[colour] == 0)
        return fail(&d->file, "the PNG file has an unknown colour type");
    d->colour = colour;
    d->pixel_bytes = pixel_bytes[colour];
    uint32_t channels = colour == GREY || colour == GREY_ALPHA ? 1 : 3;
    const char *problem = image_allocate(d->image, big_endian(chunk.data), big_endian(chunk.data + 4), channels);
    if (problem != NULL)
        return fail(&d->file, problem);
    d->row_bytes = d->image->width * d->pixel_bytes;
    d->row = calloc(d->row_bytes + 1, 1);
    d->above = calloc(d->row_bytes + 1, 1);
    return (d->row != NULL && d->above != NULL) || fail(&d->file, "out of memory");
}

/* Reads up to the first IDAT chunk, which is left in d->idat. */
static bool read_to_pixels(struct decoder *d)
{
    for (;;) {
        if (!next_chunk(&d->file, &d->idat))
            return false;
        if (chunk_is(&d->idat, "IDAT"))
            break;
        if (chunk_is(&d->idat, "PLTE")) {
            if (d->idat.size == 0 || d->idat.size > 768 || d->idat.size % 3 != 0)
                return fail(&d->file, "the PNG palette is broken");
            d->palette = d->idat.data;
            d->palette_size = d->idat.size / 3;
        } else if (d->idat.type[0] >= 'A' && d->idat.type[0] <= 'Z') { /* a critical chunk (PNG 5.4) */
            return fail(&d->file, "the PNG file has an unknown critical chunk or no pixels");
        }
    }
    return d->colour != PALETTE || d->palette != NULL || fail(&d->file, "the PNG palette is missing");
}

/* The decompressor may have read ahead, over chunk borders too: goes through the IDAT chunks again, from the first one,
 * to the byte behind the deflate stream. */
static bool seek(struct inflate_source *source, size_t first_idat_end, struct chunk first, uint64_t offset)
{
    struct decoder *d = source->context;
    d->file.at = first_idat_end;
    source->next = first.data;
    source->end = first.data + first.size;
    while (offset > (uint64_t)(source->end - source->next)) {
        offset -= (uint64_t)(source->end - source->next);
        if (!next_idat(source))
            return false;
    }
    source->next += offset;
    return true;
}

static bool read_pixels(struct decoder *d)
{
    struct chunk first = d->idat;
    size_t first_end = d->file.at;
    struct inflate_source source = {first.data, first.data + first.size, next_idat, d};
    uint8_t method, flags;
    if (!plain_byte(&source, &method) || !plain_byte(&source, &flags))
        return fail(&d->file, inflate_message(INFLATE_TRUNCATED));
    if ((method & 15) != 8 || (method >> 4) > 7 || (flags & 32) != 0 || (method * 256 + flags) % 31 != 0)
        return fail(&d->file, "the PNG pixels do not begin with a zlib header");
    uint64_t bytes = (uint64_t)d->image->height * (d->row_bytes + 1);
    struct inflate_totals totals;
    enum inflate_status status = inflate(&source, (struct inflate_sink){take_bytes, d}, bytes, &totals);
    if (status != INFLATE_OK)
        return fail(&d->file, inflate_message(status));
    if (totals.output != bytes)
        return fail(&d->file, "the PNG file has too few pixels");
    uint32_t adler = 0;
    if (!seek(&source, first_end, first, totals.input + 2))
        return fail(&d->file, inflate_message(INFLATE_TRUNCATED));
    for (int i = 0; i < 4; i++) {
        uint8_t byte;
        if (!plain_byte(&source, &byte))
            return fail(&d->file, inflate_message(INFLATE_TRUNCATED));
        adler = adler << 8 | byte;
    }
    return adler == d->adler || fail(&d->file, "the Adler-32 of the PNG pixels is wrong");
}

/* What follows the pixels: checks the chunks up to IEND. Left-over IDAT data are allowed, as common readers do. */
static bool read_to_end(struct decoder *d)
{
    struct chunk chunk;
    do {
        if (!next_chunk(&d->file, &chunk))
            return false;
    } while (!chunk_is(&chunk, "IEND"));
    return true;
}

bool png_is(const uint8_t *data, size_t size)
{
    return size >= sizeof signature && memcmp(data, signature, sizeof signature) == 0;
}

const char *png_read(const uint8_t *data, size_t size, struct image *image)
{
    struct decoder d = {.file = {data, size, sizeof signature, NULL}, .image = image, .adler = 1};
    *image = (struct image){0};
    if (!(read_header(&d) && read_to_pixels(&d) && read_pixels(&d) && read_to_end(&d)))
        image_free(image);
    free(d.row);
    free(d.above);
    return d.file.problem;
}

/* ---- writing ---- */

enum {
    HASH_BITS = 15,
    MATCH_MIN = 4,
    MATCH_MAX = 258,
    REACH = 32768
};

struct writer {
    uint8_t *bytes;
    size_t size;
    uint64_t bits; /* bits that do not fill a byte yet, first one lowest */
    unsigned bit_count;
};

static void put_bits(struct writer *w, unsigned value, unsigned count)
{
    w->bits |= (uint64_t)value << w->bit_count;
    w->bit_count += count;
    for (; w->bit_count >= 8; w->bit_count -= 8, w->bits >>= 8)
        w->bytes[w->size++] = (uint8_t)w->bits;
}

static void put_byte(struct writer *w, unsigned byte)
{
    w->bytes[w->size++] = (uint8_t)byte;
}

static void put_big_endian(struct writer *w, uint32_t value)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        put_byte(w, value >> shift);
}

/* Code words go out with their first bit lowest. */
static void put_code(struct writer *w, unsigned code, unsigned count)
{
    unsigned turned = 0;
    for (unsigned i = 0; i < count; i++)
        turned |= (code >> i & 1) << (count - 1 - i);
    put_bits(w, turned, count);
}

/* A symbol of the fixed literal and length code (RFC 1951, 3.2.6). */
static void put_symbol(struct writer *w, unsigned symbol)
{
    if (symbol < 144)
        put_code(w, 0x30 + symbol, 8);
    else if (symbol < 256)
        put_code(w, 0x190 + symbol - 144, 9);
    else if (symbol < 280)
        put_code(w, symbol - 256, 7);
    else
        put_code(w, 0xC0 + symbol - 280, 8);
}

/* Lengths and distances share a form: beyond `plain` values, each power of two is cut into `parts` equal ranges. Finds
 * the range of `value` (counted from 0) and its extra bits. */
static unsigned range_of(unsigned value, unsigned parts, unsigned *extra)
{
    unsigned log = 31 - (unsigned)__builtin_clz(value | 1);
    unsigned part_bits = parts == 4 ? 2 : 1;
    if (log <= part_bits) {
        *extra = 0;
        return value;
    }
    *extra = log - part_bits;
    return (log - part_bits) * parts + (value >> *extra);
}

static void put_match(struct writer *w, unsigned length, unsigned distance)
{
    unsigned extra, range = range_of(length - 3, 4, &extra);
    if (length == MATCH_MAX) { /* it has a symbol of its own */
        put_symbol(w, 285);
    } else {
        put_symbol(w, 257 + range);
        put_bits(w, (length - 3) & ((1u << extra) - 1), extra);
    }
    range = range_of(distance - 1, 2, &extra);
    put_code(w, range, 5);
    put_bits(w, (distance - 1) & ((1u << extra) - 1), extra);
}

static uint32_t hash(const uint8_t *bytes)
{
    uint32_t four;
    memcpy(&four, bytes, sizeof four);
    return (four * 2654435761u) >> (32 - HASH_BITS);
}

static size_t match_length(const uint8_t *bytes, size_t at, size_t candidate, size_t size)
{
    size_t length = 0, most = size - at < MATCH_MAX ? size - at : MATCH_MAX;
    while (length < most && bytes[candidate + length] == bytes[at + length])
        length++;
    return length;
}

/* One block with the fixed codes; matches are looked for at the last place with the same hash only. */
static void deflate_fixed(struct writer *w, const uint8_t *bytes, size_t size, uint32_t *last_seen)
{
    put_bits(w, 1, 1); /* the last block */
    put_bits(w, 1, 2); /* fixed codes */
    for (size_t at = 0; at < size;) {
        size_t length = 0, distance = 0;
        if (size - at >= MATCH_MIN) {
            uint32_t *slot = &last_seen[hash(bytes + at)];
            if (*slot > 0 && at + 1 - *slot <= REACH) { /* slots hold the place plus one, so that zero means none */
                distance = at + 1 - *slot;
                length = match_length(bytes, at, at - distance, size);
            }
            *slot = (uint32_t)at + 1;
        }
        if (length >= MATCH_MIN) {
            put_match(w, (unsigned)length, (unsigned)distance);
            at += length;
        } else {
            put_symbol(w, bytes[at++]);
        }
    }
    put_symbol(w, 256);
    if (w->bit_count > 0)
        put_bits(w, 0, 8 - w->bit_count);
}

static bool write_chunk(FILE *file, const char *type, const uint8_t *data, size_t size)
{
    uint8_t buffer[8];
    struct writer head = {.bytes = buffer};
    put_big_endian(&head, (uint32_t)size);
    for (int i = 0; i < 4; i++)
        put_byte(&head, (uint8_t)type[i]);
    uint32_t crc = crc32_update(crc32_update(0, buffer + 4, 4), data, size);
    if (fwrite(buffer, 1, 8, file) != 8 || (size > 0 && fwrite(data, 1, size, file) != size))
        return false;
    head.size = 0;
    put_big_endian(&head, crc);
    return fwrite(buffer, 1, 4, file) == 4;
}

/* The rows as the file has them: filter number 0, then the pixels as they are. */
static uint8_t *plain_rows(const struct image *image, size_t *size)
{
    size_t row = (size_t)image->width * image->channels;
    *size = (row + 1) * image->height;
    uint8_t *rows = malloc(*size);
    for (uint32_t y = 0; rows != NULL && y < image->height; y++) {
        rows[y * (row + 1)] = 0;
        memcpy(rows + y * (row + 1) + 1, image->pixels + y * row, row);
    }
    return rows;
}

static bool write_header(FILE *file, const struct image *image)
{
    uint8_t bytes[13];
    struct writer header = {.bytes = bytes};
    put_big_endian(&header, image->width);
    put_big_endian(&header, image->height);
    put_byte(&header, 8);
    put_byte(&header, image->channels == 1 ? GREY : RGB);
    for (int i = 0; i < 3; i++)
        put_byte(&header, 0);
    return fwrite(signature, 1, sizeof signature, file) == sizeof signature && write_chunk(file, "IHDR", bytes, sizeof bytes);
}

bool png_write(FILE *file, const struct image *image)
{
    size_t size;
    uint8_t *rows = plain_rows(image, &size);
    uint32_t *last_seen = calloc((size_t)1 << HASH_BITS, sizeof *last_seen);
    /* A literal has nine bits at most; a match is never longer than the literals in its place. */
    struct writer stream = {.bytes = malloc(size + size / 8 + 64)};
    bool written = false;
    if (rows != NULL && last_seen != NULL && stream.bytes != NULL) {
        put_byte(&stream, 0x78);
        put_byte(&stream, 0x01);
        deflate_fixed(&stream, rows, size, last_seen);
        put_big_endian(&stream, adler32(1, rows, size));
        written = write_header(file, image) && write_chunk(file, "IDAT", stream.bytes, stream.size) &&
                  write_chunk(file, "IEND", NULL, 0) && fflush(file) == 0;
    }
    free(rows);
    free(last_seen);
    free(stream.bytes);
    return written;
}
