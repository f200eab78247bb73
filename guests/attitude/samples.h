/* Reads the sensors' samples from CSV text. */
#ifndef SAMPLES_H
#define SAMPLES_H

#include "aqua.h"

#include <stddef.h>
#include <stdint.h>

struct samples {
    struct aqua_sample *list;
    size_t count;
    bool with_field; /* ten columns instead of seven */
};

struct samples_problem {
    size_t line;      /* from 1; 0 if the problem belongs to no line */
    const char *what;
};

/* Lines of t,ax,ay,az,gx,gy,gz or t,ax,ay,az,gx,gy,gz,mx,my,mz; a first line that begins with a letter is a header;
 * empty lines do not count. The data must be followed by a zero byte. The caller frees the list. */
bool samples_read(const uint8_t *data, size_t length, struct samples *samples, struct samples_problem *problem);

/* A finite decimal number at text, of at most 1e9 either way. Returns where it ends, or NULL if there is none. */
const char *decimal_parse(const char *text, double *value);

#endif
