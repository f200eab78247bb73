/* Decompression of a raw deflate stream (RFC 1951), input and output in pieces. */
#ifndef INFLATE_H
#define INFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where the compressed bytes come from. When [next, end) is used up, refill is
 * asked to point it at the next piece; false means that there is no more.
 * refill may be NULL. */
struct inflate_source {
    const uint8_t *next;
    const uint8_t *end;
    bool (*refill)(struct inflate_source *source);
    void *context;
};

/* Where the output goes; false stops with INFLATE_REFUSED. */
struct inflate_sink {
    bool (*take)(void *context, const uint8_t *bytes, size_t size);
    void *context;
};

enum inflate_status {
    INFLATE_OK = 0,
    INFLATE_TRUNCATED,   /* the source ended inside the stream */
    INFLATE_INVALID,     /* the stream breaks a rule of RFC 1951 */
    INFLATE_TOO_LONG,    /* more than output_max bytes came out */
    INFLATE_REFUSED,     /* the sink said no */
    INFLATE_OUT_OF_MEMORY
};

struct inflate_totals {
    uint64_t input;  /* bytes of the stream, the last one counted whole */
    uint64_t output; /* bytes given to the sink */
};

/* Decompresses one stream. The sink never gets more than output_max bytes. What
 * follows the stream stays unread, except that *source may have moved on: use
 * totals->input to find the end. */
enum inflate_status inflate(struct inflate_source *source, struct inflate_sink sink, uint64_t output_max,
                            struct inflate_totals *totals);

/* One line for a diagnostic, without a newline. */
const char *inflate_message(enum inflate_status status);

#endif
