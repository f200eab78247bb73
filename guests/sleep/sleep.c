/* Sleeps for a number of milliseconds (WASI poll_oneoff), then says so. */
#define _POSIX_C_SOURCE 200809L
#include "../common/number.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

enum { MILLISECONDS_MAX = 1000 * 86400 };

int main(int argc, char **argv)
{
    uint64_t milliseconds;
    if (argc != 2 || !parse_unsigned(argv[1], MILLISECONDS_MAX, &milliseconds)) {
        fputs("sleep: usage: sleep MILLISECONDS\n", stderr);
        return 2;
    }
    struct timespec left = {
        .tv_sec = (time_t)(milliseconds / 1000),
        .tv_nsec = (long)(milliseconds % 1000 * 1000000),
    };
    while (nanosleep(&left, &left) != 0) {
        if (errno != EINTR) {
            perror("sleep: the host refused to sleep");
            return 1;
        }
    }
    return puts("slept") < 0;
}
