/* Attitude of a moving sensor from its accelerometer, gyroscope and (if there is one) magnetometer, by the filter in
 * aqua.c: CSV of samples in, CSV of quaternions or Euler angles out. */
#include "aqua.h"
#include "samples.h"

#include "../common/number.h"
#include "../common/read_all.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUT_BYTES_MAX = 64 * 1024 * 1024, TIME_DIGITS = 4, QUATERNION_DIGITS = 6, DEGREES_DIGITS = 3 };
static const double DEGREES_PER_RADIAN = 57.295779513082320877;

struct options {
    bool euler, last;
    struct aqua_gains gains;
};

/* ---- output ---- */

/* Rounds half away from zero. The values here are below 1e9, so that the integer holds them; and never "-0.000". */
static void print_fixed(double value, int digits)
{
    static const double POWERS[] = {1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6};
    uint64_t scaled = (uint64_t)(fabs(value) * POWERS[digits] + 0.5);
    char text[2 * UNSIGNED_TEXT_BYTES], fraction[UNSIGNED_TEXT_BYTES];
    char *p = text;
    uint64_t unit = (uint64_t)POWERS[digits];
    if (value < 0 && scaled > 0)
        *p++ = '-';
    char whole[UNSIGNED_TEXT_BYTES];
    const char *digits_before = unsigned_text(scaled / unit, whole);
    while (*digits_before != 0)
        *p++ = *digits_before++;
    *p++ = '.';
    /* Adding the unit keeps the leading zeros; the one in front of them is stepped over. */
    memcpy(p, unsigned_text(unit + scaled % unit, fraction) + 1, (size_t)digits + 1);
    fputs(text, stdout);
}

static void print_list(double t, const double *values, int count, int digits)
{
    print_fixed(t, TIME_DIGITS);
    for (int i = 0; i < count; i++) {
        putchar(',');
        print_fixed(values[i], digits);
    }
    putchar('\n');
}

/* Roll, pitch and yaw of the sensor in the earth's frame: turns about x, then y, then z of the earth, in degrees.
 * The filter's quaternion goes the other way round, hence the minus signs. */
static void print_euler(double t, struct quaternion q)
{
    double w = q.w, x = -q.x, y = -q.y, z = -q.z;
    double sine = 2 * (w * y - z * x);
    double angles[3] = {
        atan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y)) * DEGREES_PER_RADIAN,
        asin(fmin(1, fmax(-1, sine))) * DEGREES_PER_RADIAN,
        atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)) * DEGREES_PER_RADIAN,
    };
    print_list(t, angles, 3, DEGREES_DIGITS);
}

static void print_attitude(double t, struct quaternion q, const struct options *options)
{
    if (options->euler) {
        print_euler(t, q);
    } else {
        double values[4] = {q.w, q.x, q.y, q.z};
        print_list(t, values, 4, QUATERNION_DIGITS);
    }
}

/* ---- the run ---- */

static void run_filter(const struct samples *samples, const struct options *options)
{
    const struct aqua_sample *sample = samples->list;
    struct quaternion q = aqua_estimate(sample, samples->with_field);
    puts(options->euler ? "t,roll,pitch,yaw" : "t,qw,qx,qy,qz");
    for (size_t i = 0; i < samples->count; i++, sample++) {
        if (i > 0)
            q = aqua_update(q, sample, samples->with_field, sample->t - sample[-1].t, &options->gains);
        if (!options->last || i + 1 == samples->count)
            print_attitude(sample->t, q, options);
    }
}

static bool parse_gain(const char *text, double *gain)
{
    if (text == NULL)
        return false;
    const char *end = decimal_parse(text, gain);
    return end != NULL && *end == 0 && *gain >= 0 && *gain <= 1;
}

static bool parse_options(int argc, char **argv, struct options *options)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--euler") == 0)
            options->euler = true;
        else if (strcmp(argv[i], "--last") == 0)
            options->last = true;
        else if (strcmp(argv[i], "--alpha") == 0 && parse_gain(argv[i + 1], &options->gains.acceleration))
            i++;
        else if (strcmp(argv[i], "--beta") == 0 && parse_gain(argv[i + 1], &options->gains.field))
            i++;
        else
            return false;
    }
    return true;
}

static int fail(const struct samples_problem *problem)
{
    char text[UNSIGNED_TEXT_BYTES];
    fputs("attitude: ", stderr);
    if (problem->line > 0) {
        fputs("line ", stderr);
        fputs(unsigned_text(problem->line, text), stderr);
        fputs(": ", stderr);
    }
    fputs(problem->what, stderr);
    fputc('\n', stderr);
    return 1;
}

int main(int argc, char **argv)
{
    struct options options = {.gains = {.acceleration = 0.01, .field = 0.01}};
    if (!parse_options(argc, argv, &options)) {
        fputs("attitude: usage: attitude [--euler] [--last] [--alpha GAIN] [--beta GAIN], gains from 0 to 1\n", stderr);
        return 2;
    }
    uint8_t *data;
    size_t length;
    enum read_all_status status = read_all_stdin(INPUT_BYTES_MAX, &data, &length);
    if (status != READ_ALL_OK)
        return fail(&(struct samples_problem){0, read_all_message(status)});
    struct samples samples;
    struct samples_problem problem;
    if (!samples_read(data, length, &samples, &problem))
        return fail(&problem);
    free(data);
    run_filter(&samples, &options);
    free(samples.list);
    return fflush(stdout) != 0;
}
