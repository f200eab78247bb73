/* Decompression of a raw deflate stream, from its definition: P. Deutsch, RFC 1951, 1996.
 * Huffman codes are read by table: one look-up for a short code, two for a long one. */
#include "inflate.h"

#include <stdlib.h>
#include <string.h>

enum {
    WINDOW = 32768,           /* the farthest that a match reaches back */
    MATCH_MAX = 258,
    COPY_STEP = 8,            /* a match is copied in steps that may run over its end */
    BUFFER = 4 * WINDOW,
    FLUSH_AT = BUFFER - MATCH_MAX - COPY_STEP,
    CODE_BITS_MAX = 15,
    LITERALS = 288,           /* 286 and 287 belong to the fixed code, but never occur */
    DISTANCES = 32,           /* the same for 30 and 31 */
    LITERAL_ROOT_BITS = 10,
    DISTANCE_ROOT_BITS = 8,
    LENGTH_ROOT_BITS = 7,
    /* With these roots no valid code needs more than 1332 and 592 entries; build_table checks the bound all the same. */
    LITERAL_TABLE = 2048,
    DISTANCE_TABLE = 1024,
    END_OF_BLOCK = 256
};

/* What an entry of a decoding table means. */
enum kind { KIND_INVALID, KIND_LITERAL, KIND_END, KIND_BASE, KIND_SUBTABLE };

struct entry {
    uint16_t value;     /* literal, base of a length or a distance, or first index of the subtable */
    uint8_t bits;       /* bits of the code, its extra bits not counted; for a subtable, the bits that index it */
    uint8_t kind : 4;
    uint8_t extra : 4;  /* extra bits that are added to the base */
};

struct bits {
    uint64_t next;  /* the next bits of the stream, first one lowest; what lies above `count` has no meaning */
    unsigned count;
};

struct inflater {
    struct inflate_source *source;
    struct inflate_sink sink;
    uint64_t output_max;
    uint64_t input_bytes;  /* taken into `bits` so far */
    uint64_t output_bytes; /* given to the sink so far */
    struct bits bits;
    unsigned padding;      /* how many of `bits` are zeros made up beyond the end of the source */
    size_t position;       /* where the next byte goes in `buffer` */
    size_t flushed;        /* what lies before it went to the sink */
    struct entry literals[LITERAL_TABLE];
    struct entry distances[DISTANCE_TABLE];
    uint8_t buffer[BUFFER];
};

/* ---- bits ---- */

static bool has_input(struct inflate_source *source)
{
    while (source->next == source->end)
        if (source->refill == NULL || !source->refill(source))
            return false;
    return true;
}

static uint64_t load_little_endian(const uint8_t *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, sizeof value); /* every machine that this runs on is little-endian, WebAssembly by definition */
    return value;
}

/* Byte by byte, over the pieces of the source and beyond its end. */
static void refill_slowly(struct inflater *z)
{
    struct bits *bits = &z->bits;
    bits->next &= ((uint64_t)1 << bits->count) - 1;
    while (bits->count < 56) {
        uint64_t byte = 0;
        if (z->padding == 0 && has_input(z->source)) {
            byte = *z->source->next++;
            z->input_bytes++;
        } else {
            z->padding += 8;
        }
        bits->next |= byte << bits->count;
        bits->count += 8;
    }
}

/* Adds whole bytes of the eight at `input` until there are at least 56 bits; returns the input behind them. */
static inline const uint8_t *refill_from(struct bits *bits, const uint8_t *input)
{
    bits->next |= load_little_endian(input) << bits->count;
    input += (63 - bits->count) >> 3;
    bits->count |= 56;
    return input;
}

/* Afterwards there are at least 56 bits, which is enough for a length and a distance with their extra bits (48). */
static inline void refill(struct inflater *z)
{
    struct inflate_source *source = z->source;
    if (source->end - source->next >= 8) {
        const uint8_t *before = source->next;
        source->next = refill_from(&z->bits, before);
        z->input_bytes += (uint64_t)(source->next - before);
    } else if (z->bits.count < 56) {
        refill_slowly(z);
    }
}

static inline unsigned take_bits(struct bits *bits, unsigned count)
{
    unsigned value = (unsigned)(bits->next & (((uint64_t)1 << count) - 1));
    bits->next >>= count;
    bits->count -= count;
    return value;
}

/* True when bits were used that the source does not have. */
static inline bool overrun(const struct inflater *z)
{
    return z->bits.count < z->padding;
}

/* ---- output ---- */

/* Gives everything to the sink and keeps the last WINDOW bytes for matches. */
static enum inflate_status flush(struct inflater *z)
{
    size_t size = z->position - z->flushed;
    if (size > z->output_max - z->output_bytes)
        return INFLATE_TOO_LONG;
    if (size > 0 && !z->sink.take(z->sink.context, z->buffer + z->flushed, size))
        return INFLATE_REFUSED;
    z->output_bytes += size;
    if (z->position > WINDOW) {
        memmove(z->buffer, z->buffer + z->position - WINDOW, WINDOW);
        z->position = WINDOW;
    }
    z->flushed = z->position;
    return INFLATE_OK;
}

/* Copies a match; it may overlap what it writes, which repeats it. Writes up to COPY_STEP - 1 bytes too many. */
static inline void copy_match(uint8_t *to, size_t distance, size_t length)
{
    const uint8_t *from = to - distance;
    if (distance >= COPY_STEP) {
        for (size_t done = 0; done < length; done += COPY_STEP)
            memcpy(to + done, from + done, COPY_STEP);
    } else {
        for (size_t done = 0; done < length; done++)
            to[done] = from[done];
    }
}

/* ---- codes ---- */

static unsigned reversed(unsigned code, unsigned bits)
{
    unsigned result = 0;
    for (; bits > 0; bits--, code >>= 1)
        result = result << 1 | (code & 1);
    return result;
}

/* Puts the entry at each index whose low `bits` bits are `index`. */
static void fill(struct entry *table, unsigned size, unsigned index, unsigned bits, struct entry entry)
{
    for (; index < size; index += 1u << bits)
        table[index] = entry;
}

/* Checks the lengths of a code and finds the first code of each length (RFC 1951, 3.2.2). A code must be complete; but
 * one with a single word of one bit passes (the RFC allows it for distances, and common encoders write it), and so
 * does one without words, which fails as soon as it is used. */
static bool first_codes(const uint8_t *lengths, unsigned symbols, unsigned first[CODE_BITS_MAX + 2], bool may_be_single)
{
    unsigned count[CODE_BITS_MAX + 1] = {0};
    for (unsigned symbol = 0; symbol < symbols; symbol++)
        count[lengths[symbol]]++;
    count[0] = 0;
    unsigned words = 0;
    int room = 1;
    first[1] = 0;
    for (unsigned bits = 1; bits <= CODE_BITS_MAX; bits++) {
        words += count[bits];
        room = 2 * room - (int)count[bits];
        if (room < 0)
            return false;
        first[bits + 1] = (first[bits] + count[bits]) << 1;
    }
    return room == 0 || (may_be_single && (words == 0 || (words == 1 && count[1] == 1)));
}

/* The length of the longest code word that shares its first root_bits bits with each of the words. */
static void longest_words(const uint8_t *lengths, unsigned symbols, const unsigned *first, unsigned root_bits, uint8_t *longest)
{
    unsigned next[CODE_BITS_MAX + 2];
    memcpy(next, first, sizeof next);
    memset(longest, 0, (size_t)1 << root_bits);
    for (unsigned symbol = 0; symbol < symbols; symbol++) {
        unsigned bits = lengths[symbol];
        if (bits == 0)
            continue;
        unsigned code = next[bits]++;
        if (bits <= root_bits)
            continue;
        unsigned prefix = reversed(code >> (bits - root_bits), root_bits);
        if (longest[prefix] < bits)
            longest[prefix] = (uint8_t)bits;
    }
}

/* Fills a table for the code that the lengths define; meanings[symbol] is the entry of a symbol, its bits not yet set. */
static bool build_table(struct entry *table, unsigned capacity, unsigned root_bits, const uint8_t *lengths, unsigned symbols,
                        const struct entry *meanings, bool may_be_single)
{
    unsigned next[CODE_BITS_MAX + 2];
    uint8_t longest[1 << LITERAL_ROOT_BITS];
    if (!first_codes(lengths, symbols, next, may_be_single))
        return false;
    longest_words(lengths, symbols, next, root_bits, longest);
    unsigned root_size = 1u << root_bits, used = root_size;
    memset(table, 0, root_size * sizeof *table);
    for (unsigned symbol = 0; symbol < symbols; symbol++) {
        unsigned bits = lengths[symbol];
        if (bits == 0)
            continue;
        unsigned code = reversed(next[bits]++, bits);
        struct entry entry = meanings[symbol];
        entry.bits = (uint8_t)bits;
        if (bits <= root_bits) {
            fill(table, root_size, code, bits, entry);
            continue;
        }
        struct entry *root = &table[code & (root_size - 1)];
        if (root->kind != KIND_SUBTABLE) {
            unsigned index_bits = longest[code & (root_size - 1)] - root_bits;
            if (used + (1u << index_bits) > capacity)
                return false;
            *root = (struct entry){.value = (uint16_t)used, .kind = KIND_SUBTABLE, .bits = (uint8_t)index_bits};
            used += 1u << index_bits;
        }
        fill(table + root->value, 1u << root->bits, code >> root_bits, bits - root_bits, entry);
    }
    return true;
}

static struct entry literal_meaning(unsigned symbol)
{
    static const uint16_t base[] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                    31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const uint8_t extra[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    if (symbol < END_OF_BLOCK)
        return (struct entry){.kind = KIND_LITERAL, .value = (uint16_t)symbol};
    if (symbol == END_OF_BLOCK)
        return (struct entry){.kind = KIND_END};
    unsigned length = symbol - END_OF_BLOCK - 1;
    if (length >= sizeof extra)
        return (struct entry){.kind = KIND_INVALID};
    return (struct entry){.kind = KIND_BASE, .value = base[length], .extra = extra[length] & 15};
}

static struct entry distance_meaning(unsigned symbol)
{
    if (symbol >= 30)
        return (struct entry){.kind = KIND_INVALID};
    unsigned extra = symbol < 2 ? 0 : symbol / 2 - 1;
    unsigned base = symbol < 2 ? symbol : (2 + symbol % 2) << extra;
    return (struct entry){.kind = KIND_BASE, .value = (uint16_t)(base + 1), .extra = (uint8_t)(extra & 15)};
}

/* Makes the tables of a block from the lengths of its two codes. */
static bool build_tables(struct inflater *z, const uint8_t *literal_lengths, unsigned literals, const uint8_t *distance_lengths,
                         unsigned distances)
{
    struct entry meanings[LITERALS];
    for (unsigned symbol = 0; symbol < literals; symbol++)
        meanings[symbol] = literal_meaning(symbol);
    if (!build_table(z->literals, LITERAL_TABLE, LITERAL_ROOT_BITS, literal_lengths, literals, meanings, true))
        return false;
    for (unsigned symbol = 0; symbol < distances; symbol++)
        meanings[symbol] = distance_meaning(symbol);
    return build_table(z->distances, DISTANCE_TABLE, DISTANCE_ROOT_BITS, distance_lengths, distances, meanings, true);
}

/* The entry of the next code word, which is taken from the bits. Needs 15 bits. */
static inline struct entry decode(struct bits *bits, const struct entry *table, unsigned root_bits)
{
    struct entry entry = table[bits->next & ((1u << root_bits) - 1)];
    if (entry.kind == KIND_SUBTABLE)
        entry = table[entry.value + ((bits->next >> root_bits) & ((1u << entry.bits) - 1))];
    take_bits(bits, entry.bits);
    return entry;
}

/* ---- blocks ---- */

/* A block without compression: whole bytes (RFC 1951, 3.2.4). */
static enum inflate_status stored_block(struct inflater *z)
{
    take_bits(&z->bits, z->bits.count & 7);
    refill(z);
    unsigned length = take_bits(&z->bits, 16), complement = take_bits(&z->bits, 16);
    if (overrun(z))
        return INFLATE_TRUNCATED;
    if (length != (complement ^ 0xFFFF))
        return INFLATE_INVALID;
    while (length > 0) {
        if (z->position >= FLUSH_AT) {
            enum inflate_status status = flush(z);
            if (status != INFLATE_OK)
                return status;
        }
        if (z->bits.count > 0) { /* bytes that were read ahead come first */
            z->buffer[z->position++] = (uint8_t)take_bits(&z->bits, 8);
            length--;
            if (overrun(z))
                return INFLATE_TRUNCATED;
            continue;
        }
        z->bits.next = 0; /* what lay above the count was read ahead too, and is copied from the source now */
        if (!has_input(z->source))
            return INFLATE_TRUNCATED;
        size_t piece = (size_t)(z->source->end - z->source->next);
        if (piece > length)
            piece = length;
        if (piece > BUFFER - z->position)
            piece = BUFFER - z->position;
        memcpy(z->buffer + z->position, z->source->next, piece);
        z->source->next += piece;
        z->input_bytes += piece;
        z->position += piece;
        length -= (unsigned)piece;
    }
    return INFLATE_OK;
}

/* Adds the extra bits of a length or a distance to its base. */
static inline size_t with_extra(struct bits *bits, struct entry entry)
{
    return (size_t)entry.value + take_bits(bits, entry.extra);
}

/* What one literal, match or end of block led to. */
enum step { STEP_MORE, STEP_END, STEP_INVALID };

/* Decodes one literal or match to the buffer at *position. Needs 48 bits. */
static inline enum step literal_or_match(struct inflater *z, struct bits *bits, size_t *position)
{
    struct entry entry = decode(bits, z->literals, LITERAL_ROOT_BITS);
    if (entry.kind == KIND_LITERAL) {
        z->buffer[(*position)++] = (uint8_t)entry.value;
        return STEP_MORE;
    }
    if (entry.kind != KIND_BASE)
        return entry.kind == KIND_END ? STEP_END : STEP_INVALID;
    size_t length = with_extra(bits, entry);
    struct entry far = decode(bits, z->distances, DISTANCE_ROOT_BITS);
    size_t distance = with_extra(bits, far);
    /* The buffer begins with the stream or holds a whole window, so what lies before it is out of reach. */
    if (far.kind != KIND_BASE || distance > *position)
        return STEP_INVALID;
    copy_match(z->buffer + *position, distance, length);
    *position += length;
    return STEP_MORE;
}

/* As many steps as go without a look at the end of the input or of the buffer. The state is copied to locals, because
 * each byte that is written could otherwise have changed it. */
static enum step run_freely(struct inflater *z)
{
    struct bits bits = z->bits;
    size_t position = z->position;
    const uint8_t *next = z->source->next, *end = z->source->end;
    enum step step = STEP_MORE;
    while (step == STEP_MORE && position < FLUSH_AT && end - next >= 8) {
        next = refill_from(&bits, next);
        step = literal_or_match(z, &bits, &position);
    }
    z->input_bytes += (uint64_t)(next - z->source->next);
    z->source->next = next;
    z->position = position;
    z->bits = bits;
    return step;
}

/* A block of literals and matches, after its tables were made. */
static enum inflate_status compressed_block(struct inflater *z)
{
    enum step step = STEP_MORE;
    while (step == STEP_MORE) {
        if (z->position >= FLUSH_AT) {
            enum inflate_status status = flush(z);
            if (status != INFLATE_OK)
                return status;
        }
        step = run_freely(z);
        if (step == STEP_MORE && z->position < FLUSH_AT) { /* near the end of a piece of the input */
            refill(z);
            step = literal_or_match(z, &z->bits, &z->position);
            if (overrun(z))
                return INFLATE_TRUNCATED;
        }
    }
    return step == STEP_END ? INFLATE_OK : INFLATE_INVALID;
}

/* Reads the lengths of both codes of a block (RFC 1951, 3.2.7). */
static enum inflate_status read_lengths(struct inflater *z, uint8_t *lengths, unsigned count)
{
    static const uint8_t order[19] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    refill(z);
    unsigned given = take_bits(&z->bits, 4) + 4;
    uint8_t code_lengths[19] = {0};
    for (unsigned i = 0; i < given; i++) {
        refill(z);
        code_lengths[order[i]] = (uint8_t)take_bits(&z->bits, 3);
    }
    struct entry meanings[19], table[1 << LENGTH_ROOT_BITS];
    for (unsigned symbol = 0; symbol < 19; symbol++)
        meanings[symbol] = (struct entry){.kind = KIND_LITERAL, .value = (uint16_t)symbol};
    if (!build_table(table, 1 << LENGTH_ROOT_BITS, LENGTH_ROOT_BITS, code_lengths, 19, meanings, false))
        return overrun(z) ? INFLATE_TRUNCATED : INFLATE_INVALID;
    for (unsigned done = 0; done < count;) {
        refill(z);
        struct entry entry = decode(&z->bits, table, LENGTH_ROOT_BITS);
        unsigned repeat = 1;
        uint8_t length = 0;
        if (entry.value < 16) {
            length = (uint8_t)entry.value;
        } else if (entry.value == 16) {
            if (done == 0)
                return INFLATE_INVALID;
            length = lengths[done - 1];
            repeat = 3 + take_bits(&z->bits, 2);
        } else {
            repeat = entry.value == 17 ? 3 + take_bits(&z->bits, 3) : 11 + take_bits(&z->bits, 7);
        }
        if (overrun(z))
            return INFLATE_TRUNCATED;
        if (entry.kind != KIND_LITERAL || repeat > count - done)
            return INFLATE_INVALID;
        memset(lengths + done, length, repeat);
        done += repeat;
    }
    return INFLATE_OK;
}

static enum inflate_status dynamic_block(struct inflater *z)
{
    uint8_t lengths[LITERALS + DISTANCES] = {0};
    unsigned literals = take_bits(&z->bits, 5) + 257, distances = take_bits(&z->bits, 5) + 1;
    enum inflate_status status = read_lengths(z, lengths, literals + distances);
    if (status != INFLATE_OK)
        return status;
    /* 286, 287, 30 and 31 have no meaning, and a block without an end could not end. */
    if (literals > 286 || distances > 30 || lengths[END_OF_BLOCK] == 0)
        return INFLATE_INVALID;
    if (!build_tables(z, lengths, literals, lengths + literals, distances))
        return INFLATE_INVALID;
    return compressed_block(z);
}

/* The code that needs no description (RFC 1951, 3.2.6). */
static enum inflate_status fixed_block(struct inflater *z)
{
    uint8_t literal_lengths[LITERALS], distance_lengths[DISTANCES];
    memset(literal_lengths, 8, 144);
    memset(literal_lengths + 144, 9, 112);
    memset(literal_lengths + 256, 7, 24);
    memset(literal_lengths + 280, 8, 8);
    memset(distance_lengths, 5, DISTANCES);
    if (!build_tables(z, literal_lengths, LITERALS, distance_lengths, DISTANCES))
        return INFLATE_INVALID;
    return compressed_block(z);
}

static enum inflate_status all_blocks(struct inflater *z)
{
    bool last;
    do {
        refill(z);
        last = take_bits(&z->bits, 1);
        unsigned type = take_bits(&z->bits, 2);
        if (overrun(z))
            return INFLATE_TRUNCATED;
        enum inflate_status status = type == 0   ? stored_block(z)
                                     : type == 1 ? fixed_block(z)
                                     : type == 2 ? dynamic_block(z)
                                                 : INFLATE_INVALID;
        if (status != INFLATE_OK)
            return status;
    } while (!last);
    return flush(z);
}

enum inflate_status inflate(struct inflate_source *source, struct inflate_sink sink, uint64_t output_max,
                            struct inflate_totals *totals)
{
    *totals = (struct inflate_totals){0, 0};
    struct inflater *z = calloc(1, sizeof *z);
    if (z == NULL)
        return INFLATE_OUT_OF_MEMORY;
    z->source = source;
    z->sink = sink;
    z->output_max = output_max;
    enum inflate_status status = all_blocks(z);
    totals->output = z->output_bytes;
    /* Whole bytes that were read ahead do not belong to the stream. */
    totals->input = z->input_bytes - (z->bits.count > z->padding ? (z->bits.count - z->padding) / 8 : 0);
    free(z);
    return status;
}

const char *inflate_message(enum inflate_status status)
{
    switch (status) {
    case INFLATE_OK:
        return "no error";
    case INFLATE_TRUNCATED:
        return "the compressed data end too early";
    case INFLATE_INVALID:
        return "the compressed data are no valid deflate stream";
    case INFLATE_TOO_LONG:
        return "the data are longer than they should be";
    case INFLATE_REFUSED:
        return "the output was refused";
    case INFLATE_OUT_OF_MEMORY:
        return "out of memory";
    }
    return "unknown error";
}
