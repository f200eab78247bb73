/* One line on standard error, without printf and its code. */
#ifndef COMPLAIN_H
#define COMPLAIN_H

#include <stdio.h>

/* Writes "guest: problem", and what it is about if that is not NULL. Returns the exit code, for `return complain(...)`. */
static inline int complain(int exit_code, const char *guest, const char *problem, const char *what)
{
    fputs(guest, stderr);
    fputs(": ", stderr);
    fputs(problem, stderr);
    if (what != NULL) {
        fputs(": ", stderr);
        fputs(what, stderr);
    }
    fputs("\n", stderr);
    return exit_code;
}

#endif
