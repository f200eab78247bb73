/* AQUA, the complementary filter of R. G. Valenti, I. Dryanovski, J. Xiao, Keeping a Good Attitude: A Quaternion-Based
 * Orientation Filter for IMUs and MARGs, Sensors 15(8), 2015. Equation numbers below are the paper's. */
#ifndef AQUA_H
#define AQUA_H

#include <stdbool.h>

struct vector {
    double x, y, z;
};

struct quaternion {
    double w, x, y, z;
};

struct aqua_gains {
    double acceleration; /* weight of one accelerometer reading, 0 to 1 */
    double field;        /* weight of one magnetometer reading, 0 to 1 */
};

/* One reading of the sensors, in their own axes. */
struct aqua_sample {
    double t;                   /* s */
    struct vector acceleration; /* m/s^2; at rest it points up */
    struct vector rate;         /* rad/s */
    struct vector field;        /* any unit: only its direction counts */
};

/* The attitudes here turn vectors of the earth's frame into the sensor's; the earth's x points to magnetic north, z up. */

/* The attitude of one reading by itself, without the gyroscope. */
struct quaternion aqua_estimate(const struct aqua_sample *sample, bool with_field);

/* The attitude dt seconds after the attitude q. */
struct quaternion aqua_update(struct quaternion q, const struct aqua_sample *sample, bool with_field, double dt,
                              const struct aqua_gains *gains);

#endif
