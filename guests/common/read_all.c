/* Reads the whole of standard input into one buffer, with a bound on its size. */
#include "read_all.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum { FIRST_CAPACITY = 16 * 1024 };

/* Doubles the buffer; false if memory ran out (the old buffer stays valid). */
static int grow(uint8_t **buffer, size_t *capacity, size_t bytes_max)
{
    size_t wanted = *capacity < bytes_max / 2 ? *capacity * 2 : bytes_max;
    uint8_t *larger = realloc(*buffer, wanted + 1); /* one more for the final zero */
    if (larger == NULL)
        return 0;
    *buffer = larger;
    *capacity = wanted;
    return 1;
}

/* True if a byte is left on stdin: tells "exactly bytes_max" from "more". */
static int more_to_come(void)
{
    uint8_t byte;
    return read(STDIN_FILENO, &byte, 1) > 0;
}

static enum read_all_status fill(size_t bytes_max, uint8_t **buffer, size_t *length)
{
    size_t capacity = 0;
    for (;;) {
        if (*length == capacity) {
            if (capacity == bytes_max)
                return more_to_come() ? READ_ALL_TOO_LONG : READ_ALL_OK;
            if (capacity == 0)
                capacity = FIRST_CAPACITY / 2;
            if (!grow(buffer, &capacity, bytes_max))
                return READ_ALL_OUT_OF_MEMORY;
        }
        ssize_t got = read(STDIN_FILENO, *buffer + *length, capacity - *length);
        if (got == 0)
            return READ_ALL_OK;
        if (got < 0 && errno != EINTR && errno != EAGAIN)
            return READ_ALL_FAILED;
        if (got > 0)
            *length += (size_t)got;
    }
}

enum read_all_status read_all_stdin(size_t bytes_max, uint8_t **data, size_t *length)
{
    uint8_t *buffer = NULL;
    *data = NULL;
    *length = 0;
    size_t filled = 0;
    if (bytes_max == (size_t)-1)
        bytes_max--; /* room for the final zero */
    enum read_all_status status = fill(bytes_max, &buffer, &filled);
    if (status != READ_ALL_OK) {
        free(buffer);
        return status;
    }
    buffer[filled] = 0;
    *data = buffer;
    *length = filled;
    return READ_ALL_OK;
}

const char *read_all_message(enum read_all_status status)
{
    switch (status) {
    case READ_ALL_OK:
        return "no error";
    case READ_ALL_TOO_LONG:
        return "standard input is too long";
    case READ_ALL_OUT_OF_MEMORY:
        return "out of memory while reading standard input";
    case READ_ALL_FAILED:
        return "cannot read standard input";
    }
    return "unknown error";
}
