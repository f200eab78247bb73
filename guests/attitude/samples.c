/* Reads the sensors' samples from CSV text. */
#include "samples.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS_INERTIAL = 7, COLUMNS_ALL = 10, LINE_BYTES_LEAST = 14 /* seven digits, six commas, one newline */ };
static const double MAGNITUDE_MAX = 1e9;

/* ---- numbers ---- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Where the number at p ends; NULL if it is none. Also gathers its digits, as far as they fit exactly. */
static const char *scan_decimal(const char *p, uint64_t *digits, int *exponent, bool *exact)
{
    static const uint64_t DIGITS_MAX = (uint64_t)1 << 53; /* a double holds each integer up to here */
    bool any = false;
    *digits = 0;
    *exponent = 0;
    *exact = true;
    for (bool point = false; is_digit(*p) || (*p == '.' && !point); p++) {
        if (*p == '.') {
            point = true;
            continue;
        }
        any = true;
        *digits = *digits * 10 + (uint64_t)(*p - '0');
        *exponent -= point;
        if (*digits > DIGITS_MAX) {
            *exact = false;
            *digits = 0;
        }
    }
    if (!any)
        return NULL;
    if (*p != 'e' && *p != 'E')
        return p;
    p++;
    bool negative = *p == '-';
    if (*p == '-' || *p == '+')
        p++;
    if (!is_digit(*p))
        return NULL;
    int power = 0;
    for (; is_digit(*p); p++)
        if (power < 10000)
            power = power * 10 + (*p - '0');
    *exponent += negative ? -power : power;
    return p;
}

const char *decimal_parse(const char *text, double *value)
{
    static const double POWERS[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    enum { POWER_MAX = sizeof POWERS / sizeof *POWERS - 1 };
    bool negative = *text == '-';
    const char *start = text + (negative || *text == '+');
    uint64_t digits;
    int exponent;
    bool exact;
    const char *end = scan_decimal(start, &digits, &exponent, &exact);
    if (end == NULL)
        return NULL;
    double magnitude;
    if (exact && exponent >= -POWER_MAX && exponent <= POWER_MAX)
        /* Both numbers are exact, so one rounding gives the nearest double: W. Clinger, PLDI 1990. */
        magnitude = exponent < 0 ? (double)digits / POWERS[-exponent] : (double)digits * POWERS[exponent];
    else
        magnitude = strtod(start, NULL);
    if (!(magnitude <= MAGNITUDE_MAX))
        return NULL;
    *value = negative ? -magnitude : magnitude;
    return end;
}

/* ---- lines ---- */

static const char *skip_blanks(const char *p)
{
    while (*p == ' ' || *p == '\t')
        p++;
    return p;
}

/* Where the line's content ends, or NULL if there is more on it. */
static const char *line_end(const char *p)
{
    p = skip_blanks(p);
    if (*p == '\r')
        p++;
    return *p == '\n' || *p == 0 ? p : NULL;
}

/* Fills values and returns how many there are; 0 and *what if the line is bad. *end is set to the line's end. */
static int parse_line(const char *p, double values[COLUMNS_ALL], const char **end, const char **what)
{
    for (int column = 0; column < COLUMNS_ALL; column++) {
        p = decimal_parse(skip_blanks(p), &values[column]);
        if (p == NULL) {
            *what = "a number is missing, malformed or too large";
            return 0;
        }
        *end = line_end(p);
        if (*end != NULL)
            return column + 1;
        p = skip_blanks(p);
        if (*p++ != ',') {
            *what = "a comma is missing";
            return 0;
        }
    }
    *what = "there are more than 10 columns";
    return 0;
}

static struct aqua_sample to_sample(const double v[COLUMNS_ALL], bool with_field)
{
    struct aqua_sample sample = {.t = v[0], .acceleration = {v[1], v[2], v[3]}, .rate = {v[4], v[5], v[6]}};
    if (with_field)
        sample.field = (struct vector){v[7], v[8], v[9]};
    return sample;
}

static const char *add_line(struct samples *samples, const char *p, const char **end)
{
    double values[COLUMNS_ALL];
    const char *what;
    int columns = parse_line(p, values, end, &what);
    if (columns == 0)
        return what;
    if (columns != COLUMNS_INERTIAL && columns != COLUMNS_ALL)
        return "there are neither 7 nor 10 columns";
    if (samples->count == 0)
        samples->with_field = columns == COLUMNS_ALL;
    else if (samples->with_field != (columns == COLUMNS_ALL))
        return "the number of columns differs from the lines before";
    if (samples->count > 0 && values[0] <= samples->list[samples->count - 1].t)
        return "time does not go forward";
    samples->list[samples->count++] = to_sample(values, samples->with_field);
    return NULL;
}

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

static bool fail(struct samples *samples, struct samples_problem *problem, size_t line, const char *what)
{
    free(samples->list);
    samples->list = NULL;
    samples->count = 0;
    problem->line = line;
    problem->what = what;
    return false;
}

bool samples_read(const uint8_t *data, size_t length, struct samples *samples, struct samples_problem *problem)
{
    const char *p = (const char *)data, *stop = p + length;
    samples->count = 0;
    samples->with_field = false;
    /* The shortest line bounds how many there can be. */
    samples->list = malloc((length / LINE_BYTES_LEAST + 1) * sizeof *samples->list);
    if (samples->list == NULL)
        return fail(samples, problem, 0, "out of memory");
    for (size_t line = 1; p < stop; line++, p++) {
        const char *end = line_end(p);
        if (end == NULL && line == 1 && is_letter(*skip_blanks(p)))
            end = p + strcspn(p, "\n");
        else if (end == NULL) {
            const char *what = add_line(samples, p, &end);
            if (what != NULL)
                return fail(samples, problem, line, what);
        }
        p = end;
        if (p < stop && *p == 0)
            return fail(samples, problem, line, "there is a zero byte");
    }
    if (samples->count == 0)
        return fail(samples, problem, 0, "there are no samples");
    return true;
}
