/* Prints what the host gave: arguments, the environment in sorted order, preopened folders.
 * argv[0] is the host's own choice, so it is printed only with --program. */
#include "../common/environment.h"
#include "../common/number.h"

#include <stdio.h>
#include <string.h>

#ifdef __wasm__
#include <wasi/api.h>
#endif

static void print_arguments(int argc, char **argv, int first)
{
    for (int i = first; i < argc; i++)
        printf("arg %d: %s\n", i, argv[i]);
}

static void print_environment(void)
{
    size_t count;
    char **entries = sorted_environment(&count);
    for (size_t i = 0; i < count; i++)
        printf("env: %s\n", entries[i]);
}

/* WASI hands preopened folders out as descriptors from 3 on; the first bad one ends the list. */
static void print_preopens(void)
{
#ifdef __wasm__
    enum { FIRST_PREOPEN = 3, NAME_BYTES_MAX = 4096 };
    static uint8_t name[NAME_BYTES_MAX];
    for (__wasi_fd_t fd = FIRST_PREOPEN;; fd++) {
        __wasi_prestat_t prestat;
        if (__wasi_fd_prestat_get(fd, &prestat) != __WASI_ERRNO_SUCCESS)
            return;
        size_t length = prestat.u.dir.pr_name_len;
        if (length > sizeof name || __wasi_fd_prestat_dir_name(fd, name, length) != __WASI_ERRNO_SUCCESS)
            continue;
        printf("preopen %u: %.*s\n", (unsigned)fd, (int)length, (const char *)name);
    }
#endif
}

int main(int argc, char **argv)
{
    uint64_t exit_code = 0;
    int first = 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--program") == 0)
            first = 0;
        if (strcmp(argv[i], "--exit") == 0 && (i + 1 == argc || !parse_unsigned(argv[i + 1], INT32_MAX, &exit_code))) {
            fprintf(stderr, "args: --exit wants a number from 0 to %d\n", INT32_MAX);
            return 2;
        }
    }
    print_arguments(argc, argv, first);
    print_environment();
    print_preopens();
    if (fflush(stdout) != 0)
        return 1;
    return (int)exit_code;
}
