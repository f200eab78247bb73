/* A CGI program (RFC 3875): numbers in, one to a line or several, their statistics out. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int refuse(const char *status, const char *reason)
{
    printf("Status: %s\nContent-Type: text/plain\n\n%s\n", status, reason);
    return 0;
}

int main(void)
{
    const char *method = getenv("REQUEST_METHOD");
    if (method == NULL || strcmp(method, "POST") != 0)
        return refuse("405 Method Not Allowed", "send numbers by POST");

    /* The mean and the sum of squared deviations from it, updated with each number (B. P. Welford, Technometrics 4(3), 1962). */
    double mean = 0, squares = 0, least = INFINITY, greatest = -INFINITY;
    unsigned long count = 0;
    char word[64];
    while (scanf("%63s", word) == 1) {
        char *end;
        double number = strtod(word, &end);
        if (*end != '\0' || !isfinite(number))
            return refuse("400 Bad Request", "there is something that is no number");
        count++;
        double deviation = number - mean;
        mean += deviation / (double)count;
        squares += deviation * (number - mean);
        least = fmin(least, number);
        greatest = fmax(greatest, number);
    }
    if (count == 0)
        return refuse("400 Bad Request", "there are no numbers");

    printf("Content-Type: text/plain\n\n");
    printf("count %lu\nmean %.6g\nstandard deviation %.6g\nleast %.6g\ngreatest %.6g\n", count, mean,
           sqrt(squares / (double)count), least, greatest);
    return 0;
}
