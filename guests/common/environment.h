/* The environment's NAME=value entries in sorted order. */
#ifndef ENVIRONMENT_H
#define ENVIRONMENT_H

#include <stddef.h>
#include <string.h>

extern char **environ;

/* Sorts the environment where it stands and returns it; NULL if there is none.
 * By insertion: an environment is short, and the library's qsort is larger than most of the small guests. */
static inline char **sorted_environment(size_t *count)
{
    *count = 0;
    for (size_t n = 0; environ != NULL && environ[n] != NULL; n++) {
        char *entry = environ[n];
        size_t at = n;
        for (; at > 0 && strcmp(environ[at - 1], entry) > 0; at--)
            environ[at] = environ[at - 1];
        environ[at] = entry;
        *count = n + 1;
    }
    return environ;
}

#endif
