/* Greets the world, or whoever the first line of standard input names. */
#include <stdbool.h>
#include <stdio.h>

/* Copies the first line of stdin to stdout behind a comma; false if it is empty.
 * A name of any length is copied as it comes, so nothing has to be stored. */
static bool greet_first_line(void)
{
    bool any = false;
    for (int c = getchar(); c != EOF && c != '\n'; c = getchar()) {
        if (c == '\r')
            continue;
        if (!any)
            fputs("Hello, ", stdout);
        any = true;
        putchar(c);
    }
    return any;
}

static void skip_rest(void)
{
    while (getchar() != EOF)
        continue;
}

int main(void)
{
    if (!greet_first_line())
        fputs("Hello, world", stdout);
    fputs("!\n", stdout);
    skip_rest();
    return fflush(stdout) != 0;
}
