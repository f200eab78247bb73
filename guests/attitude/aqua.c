/* AQUA, the complementary filter of R. G. Valenti, I. Dryanovski, J. Xiao, Keeping a Good Attitude: A Quaternion-Based
 * Orientation Filter for IMUs and MARGs, Sensors 15(8), 2015. */
#include "aqua.h"

#include <math.h>

static const double STANDARD_GRAVITY = 9.80665;
static const double LERP_ABOVE = 0.9;         /* cosine from which a straight line is near enough to the arc, section 5.2.1 */
static const double STEADY_BELOW = 0.1;       /* relative error of the acceleration up to which it counts in full, eq. 61 */
static const double SHAKEN_ABOVE = 0.2;       /* and from which it does not count at all */
static const double DIRECTION_LEAST = 1e-12;  /* below this, a direction is only rounding error */

static struct quaternion product(struct quaternion p, struct quaternion q)
{
    return (struct quaternion){
        p.w * q.w - p.x * q.x - p.y * q.y - p.z * q.z,
        p.w * q.x + p.x * q.w + p.y * q.z - p.z * q.y,
        p.w * q.y - p.x * q.z + p.y * q.w + p.z * q.x,
        p.w * q.z + p.x * q.y - p.y * q.x + p.z * q.w,
    };
}

static struct quaternion normalized(struct quaternion q)
{
    double norm = sqrt(q.w * q.w + q.x * q.x + q.y * q.y + q.z * q.z);
    return (struct quaternion){q.w / norm, q.x / norm, q.y / norm, q.z / norm};
}

static double length(struct vector v) { return sqrt(v.x * v.x + v.y * v.y + v.z * v.z); }

static struct vector scaled(struct vector v, double by) { return (struct vector){v.x * by, v.y * by, v.z * by}; }

/* R(q) transposed times v: from the sensor's frame to the earth's. */
static struct vector to_earth(struct quaternion q, struct vector v)
{
    double ww = q.w * q.w, xx = q.x * q.x, yy = q.y * q.y, zz = q.z * q.z;
    double xy = q.x * q.y, xz = q.x * q.z, yz = q.y * q.z, wx = q.w * q.x, wy = q.w * q.y, wz = q.w * q.z;
    return (struct vector){
        (ww + xx - yy - zz) * v.x + 2 * (xy + wz) * v.y + 2 * (xz - wy) * v.z,
        2 * (xy - wz) * v.x + (ww - xx + yy - zz) * v.y + 2 * (yz + wx) * v.z,
        2 * (xz + wy) * v.x + 2 * (yz - wx) * v.y + (ww - xx - yy + zz) * v.z,
    };
}

/* Eq. 25: the tilt under which the unit vector a points up. Two forms, each used where it divides by no small number. */
static struct quaternion tilt(struct vector a)
{
    if (a.z >= 0) {
        double root = sqrt(2 * (a.z + 1));
        return (struct quaternion){root / 2, -a.y / root, a.x / root, 0};
    }
    double root = sqrt(2 * (1 - a.z));
    return (struct quaternion){-a.y / root, root / 2, 0, a.x / root};
}

/* Eq. 35: the turn about the vertical that takes the horizontal field l to north; also in two forms. */
static struct quaternion heading(struct vector l)
{
    double gamma = l.x * l.x + l.y * l.y;
    double root = sqrt(gamma);
    if (l.x >= 0) {
        double part = sqrt(gamma + l.x * root);
        return (struct quaternion){part / sqrt(2 * gamma), 0, 0, l.y / (sqrt(2) * part)};
    }
    double part = sqrt(gamma - l.x * root);
    return (struct quaternion){l.y / (sqrt(2) * part), 0, 0, part / sqrt(2 * gamma)};
}

static bool is_horizontal(struct vector l) { return l.x * l.x + l.y * l.y > DIRECTION_LEAST; }

struct quaternion aqua_estimate(const struct aqua_sample *sample, bool with_field)
{
    struct quaternion q = {1, 0, 0, 0};
    double acceleration = length(sample->acceleration);
    if (acceleration > DIRECTION_LEAST)
        q = tilt(scaled(sample->acceleration, 1 / acceleration));
    double strength = length(sample->field);
    if (with_field && strength > DIRECTION_LEAST) {
        struct vector l = to_earth(q, scaled(sample->field, 1 / strength));
        if (is_horizontal(l))
            q = product(q, heading(l));
    }
    return normalized(q);
}

/* Eq. 39 and 42. The paper's eq. 39 lacks the factor 1/2; q turns from earth to sensor, hence the minus. */
static struct quaternion predict(struct quaternion q, struct vector rate, double dt)
{
    struct quaternion turn = product((struct quaternion){0, rate.x, rate.y, rate.z}, q);
    double half = -0.5 * dt;
    return normalized((struct quaternion){
        q.w + half * turn.w, q.x + half * turn.x, q.y + half * turn.y, q.z + half * turn.z});
}

/* Eq. 50 to 52: the part of a correction that a gain lets through, on the line or arc from "no correction". */
static struct quaternion weakened(struct quaternion q, double gain)
{
    double of_identity = 1 - gain, of_q = gain;
    if (q.w <= LERP_ABOVE) {
        double angle = acos(q.w);
        of_identity = sin((1 - gain) * angle) / sin(angle);
        of_q = sin(gain * angle) / sin(angle);
    }
    return normalized((struct quaternion){of_identity + of_q * q.w, of_q * q.x, of_q * q.y, of_q * q.z});
}

/* Eq. 60 and 61: acceleration that is not gravity alone says little about the vertical. */
static double adapted(double gain, double acceleration)
{
    double error = fabs(acceleration - STANDARD_GRAVITY) / STANDARD_GRAVITY;
    if (error <= STEADY_BELOW)
        return gain;
    if (error >= SHAKEN_ABOVE)
        return 0;
    return gain * (SHAKEN_ABOVE - error) / (SHAKEN_ABOVE - STEADY_BELOW);
}

/* Eq. 44, 47 and 53. A vector that points straight down tells no axis to turn about, so it corrects nothing. */
static struct quaternion correct_tilt(struct quaternion q, struct vector acceleration, double gain)
{
    double norm = length(acceleration);
    if (norm <= DIRECTION_LEAST)
        return q;
    struct vector g = to_earth(q, scaled(acceleration, 1 / norm));
    if (g.z + 1 <= DIRECTION_LEAST)
        return q;
    double root = sqrt(2 * (g.z + 1));
    struct quaternion delta = {root / 2, -g.y / root, g.x / root, 0};
    return normalized(product(q, weakened(delta, adapted(gain, norm))));
}

/* Eq. 54, 58 and 59. A field that is vertical, or points straight south, corrects nothing. */
static struct quaternion correct_heading(struct quaternion q, struct vector field, double gain)
{
    double norm = length(field);
    if (norm <= DIRECTION_LEAST)
        return q;
    struct vector l = to_earth(q, scaled(field, 1 / norm));
    double gamma = l.x * l.x + l.y * l.y;
    double part = gamma + l.x * sqrt(gamma);
    if (!is_horizontal(l) || part <= DIRECTION_LEAST * gamma)
        return q;
    struct quaternion delta = {sqrt(part) / sqrt(2 * gamma), 0, 0, l.y / sqrt(2 * part)};
    return normalized(product(q, weakened(delta, gain)));
}

struct quaternion aqua_update(struct quaternion q, const struct aqua_sample *sample, bool with_field, double dt,
                              const struct aqua_gains *gains)
{
    q = predict(q, sample->rate, dt);
    q = correct_tilt(q, sample->acceleration, gains->acceleration);
    return with_field ? correct_heading(q, sample->field, gains->field) : q;
}
