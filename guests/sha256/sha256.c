/* Prints the SHA-256 digest of standard input: NIST FIPS 180-4. */
#include "../common/sha256.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static uint8_t chunk[64 * 1024];

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        fputs("sha256: takes no arguments; the data comes from standard input\n", stderr);
        return 2;
    }
    struct sha256 hash;
    sha256_start(&hash);
    for (;;) {
        ssize_t got = read(STDIN_FILENO, chunk, sizeof chunk);
        if (got == 0)
            break;
        if (got > 0) {
            sha256_add(&hash, chunk, (size_t)got);
        } else if (errno != EINTR && errno != EAGAIN) {
            perror("sha256: cannot read standard input");
            return 1;
        }
    }
    uint8_t digest[SHA256_BYTES];
    char text[2 * SHA256_BYTES + 1];
    sha256_finish(&hash, digest);
    sha256_hex(digest, text);
    return puts(text) < 0;
}
