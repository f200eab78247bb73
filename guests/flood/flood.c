/* Writes for ever, or a number of bytes, to standard output: for tests of output caps and of slow readers. */
#include "../common/number.h"
#include "../common/write_all.h"

#include <stdio.h>
#include <string.h>

enum { LINE_BYTES = 64 };

static char chunk[64 * 1024];

/* Lines of 63 letters: line i of the chunk holds the letter i mod 26. */
static void fill_chunk(void)
{
    for (size_t at = 0; at < sizeof chunk; at += LINE_BYTES) {
        memset(chunk + at, (int)('a' + at / LINE_BYTES % 26), LINE_BYTES - 1);
        chunk[at + LINE_BYTES - 1] = '\n';
    }
}

int main(int argc, char **argv)
{
    uint64_t left = 0;
    bool for_ever = argc == 1;
    if (argc > 2 || (argc == 2 && !parse_unsigned(argv[1], UINT64_MAX, &left))) {
        fputs("flood: usage: flood [BYTES]\n", stderr);
        return 2;
    }
    fill_chunk();
    while (for_ever || left > 0) {
        size_t take = for_ever || left > sizeof chunk ? sizeof chunk : (size_t)left;
        if (!write_all_stdout(chunk, take)) {
            perror("flood: cannot write standard output");
            return 1;
        }
        left -= take;
    }
    return 0;
}
