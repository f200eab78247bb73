/* Reads the whole of standard input into one buffer, with a bound on its size. */
#ifndef READ_ALL_H
#define READ_ALL_H

#include <stddef.h>
#include <stdint.h>

/* Outcome of read_all_stdin. */
enum read_all_status {
    READ_ALL_OK = 0,
    READ_ALL_TOO_LONG,      /* stdin holds more than bytes_max bytes */
    READ_ALL_OUT_OF_MEMORY, /* the host gave no more memory */
    READ_ALL_FAILED         /* reading failed */
};

/* On READ_ALL_OK *data points to *length bytes followed by one zero byte, and
 * the caller frees it. Otherwise *data is NULL and *length is 0. */
enum read_all_status read_all_stdin(size_t bytes_max, uint8_t **data, size_t *length);

/* One line for a diagnostic, without a newline. */
const char *read_all_message(enum read_all_status status);

#endif
