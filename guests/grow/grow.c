/* Grows linear memory a page at a time, touches every page, and says how many it got.
 * A refused grow is an answer, not an error: the exit code stays 0. */
#include "../common/number.h"

#include <stdio.h>
#include <stdlib.h>

enum { PAGE_BYTES = 65536, TOUCH_BYTES = 4096, PAGES_DEFAULT = 16, PAGES_MAX = 65536 };

/* The new page, or NULL if the host refused it. */
static volatile uint8_t *grow_one_page(void)
{
#ifdef __wasm__
    size_t pages_before = __builtin_wasm_memory_grow(0, 1);
    return pages_before == SIZE_MAX ? NULL : (volatile uint8_t *)(pages_before * PAGE_BYTES);
#else
    return malloc(PAGE_BYTES);
#endif
}

int main(int argc, char **argv)
{
    uint64_t pages_wanted = PAGES_DEFAULT;
    if (argc > 2 || (argc == 2 && !parse_unsigned(argv[1], PAGES_MAX, &pages_wanted))) {
        fputs("grow: usage: grow [PAGES], where PAGES is 0 to 65536\n", stderr);
        return 2;
    }
    uint64_t pages = 0;
    while (pages < pages_wanted) {
        volatile uint8_t *page = grow_one_page();
        if (page == NULL)
            break;
        for (size_t i = 0; i < PAGE_BYTES; i += TOUCH_BYTES)
            page[i] = 1;
        pages++;
    }
    char text[UNSIGNED_TEXT_BYTES];
    return puts(unsigned_text(pages, text)) < 0;
}
