/* Writes a whole buffer to standard output, however small the host's bites are. */
#ifndef WRITE_ALL_H
#define WRITE_ALL_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <unistd.h>

/* False if the host refused; errno says why. */
static inline bool write_all_stdout(const void *data, size_t length)
{
    const char *p = data;
    while (length > 0) {
        ssize_t written = write(STDOUT_FILENO, p, length);
        if (written > 0) {
            p += written;
            length -= (size_t)written;
        } else if (written == 0) {
            errno = EIO; /* a host that takes nothing would keep us here for ever */
            return false;
        } else if (errno != EINTR && errno != EAGAIN) {
            return false;
        }
    }
    return true;
}

#endif
