/* Copies standard input to standard output as it comes, in chunks: nothing is kept. */
#include "../common/write_all.h"

#include <stdio.h>

static char chunk[64 * 1024];

int main(void)
{
    for (;;) {
        ssize_t got = read(STDIN_FILENO, chunk, sizeof chunk);
        if (got == 0)
            return 0;
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got < 0) {
            perror("cat: cannot read standard input");
            return 1;
        }
        if (!write_all_stdout(chunk, (size_t)got)) {
            perror("cat: cannot write standard output");
            return 1;
        }
    }
}
