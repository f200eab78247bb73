/* deriche: R. Deriche's recursive smoothing filter, along the rows and then along the columns, each as
   the sum of a causal and an anticausal second-order recursion (Using Canny's criteria to derive a
   recursively implemented optimal edge detector, 1987), in single precision.
   Definition, input and sizes: PolyBench/C 4.2.1 (L.-N. Pouchet, T. Yuki), medley/deriche. */
#ifndef PB_SIZE
#define PB_NAME "deriche"
#define PB_TEMPLATE "../deriche/deriche.c"
#include "../common/polybench.h"
#else

#define W PICK(64, 192, 720, 4096, 7680)
#define H PICK(64, 128, 480, 2160, 4320)

static void FN(init)(float in[W][H]) {
    for (int i = 0; i < W; i++)
        for (int j = 0; j < H; j++)
            in[i][j] = (float)((313 * i + 991 * j) % 65536) / 65535.0f;
}

KERNEL void FN(kernel)(float alpha, const float in[restrict W][H], float out[restrict W][H], float y1[restrict W][H],
                       float y2[restrict W][H]) {
    const float decay = expf(-alpha);
    const float k = (1 - decay) * (1 - decay) / (1 + 2 * alpha * decay - expf(2 * alpha));
    const float a1 = k; /* The rows and the columns have the same coefficients. */
    const float a2 = k * decay * (alpha - 1);
    const float a3 = k * decay * (alpha + 1);
    const float a4 = -k * expf(-2 * alpha);
    const float b1 = powf(2, -alpha); /* As the benchmark defines it; Deriche has 2 exp(-alpha). */
    const float b2 = -expf(-2 * alpha);

    for (int i = 0; i < W; i++) {
        float x_last = 0, y_last = 0, y_before = 0;
        for (int j = 0; j < H; j++) {
            y1[i][j] = a1 * in[i][j] + a2 * x_last + b1 * y_last + b2 * y_before;
            x_last = in[i][j];
            y_before = y_last;
            y_last = y1[i][j];
        }
    }
    for (int i = 0; i < W; i++) {
        float x_last = 0, x_before = 0, y_last = 0, y_before = 0;
        for (int j = H - 1; j >= 0; j--) {
            y2[i][j] = a3 * x_last + a4 * x_before + b1 * y_last + b2 * y_before;
            x_before = x_last;
            x_last = in[i][j];
            y_before = y_last;
            y_last = y2[i][j];
        }
    }
    for (int i = 0; i < W; i++)
        for (int j = 0; j < H; j++)
            out[i][j] = y1[i][j] + y2[i][j];

    for (int j = 0; j < H; j++) {
        float x_last = 0, y_last = 0, y_before = 0;
        for (int i = 0; i < W; i++) {
            y1[i][j] = a1 * out[i][j] + a2 * x_last + b1 * y_last + b2 * y_before;
            x_last = out[i][j];
            y_before = y_last;
            y_last = y1[i][j];
        }
    }
    for (int j = 0; j < H; j++) {
        float x_last = 0, x_before = 0, y_last = 0, y_before = 0;
        for (int i = W - 1; i >= 0; i--) {
            y2[i][j] = a3 * x_last + a4 * x_before + b1 * y_last + b2 * y_before;
            x_before = x_last;
            x_last = out[i][j];
            y_before = y_last;
            y_last = y2[i][j];
        }
    }
    for (int i = 0; i < W; i++)
        for (int j = 0; j < H; j++)
            out[i][j] = y1[i][j] + y2[i][j];
}

static void FN(run)(void) {
    /* Volatile, or the compiler would compute the coefficients with the math library of its own machine. */
    volatile float alpha = 0.25f;
    float(*in)[H] = pb_array(sizeof(float[W][H]));
    float(*out)[H] = pb_array(sizeof(float[W][H]));
    float(*y1)[H] = pb_array(sizeof(float[W][H]));
    float(*y2)[H] = pb_array(sizeof(float[W][H]));
    FN(init)(in);
    pb_start();
    FN(kernel)(alpha, in, out, y1, y2);
    pb_stop();
    pb_out("imgOut", out, PB_F32, W, H, PB_ALL);
}

#endif
